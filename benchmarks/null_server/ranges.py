"""Byte ranges of requests."""

import re

from benchmarks.null_server.messages import Answer
from benchmarks.null_server.objects import Stored

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return start and stop of a range in content of a size, or None if it is malformed or begins after the end."""
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start, stop = int(first), min(size, int(last) + 1) if last else size
    return (start, stop) if start < min(size, stop) else None


def content_answer(stored: Stored, wanted: str | None, headers: dict[str, str]) -> Answer | None:
    """Return an object or the requested range of it, or None if the range begins after its end."""
    start, stop, status = 0, stored.size, 200
    if wanted is not None:
        found = asked_range(wanted, stored.size)
        if found is None:
            return None
        (start, stop), status = found, 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    headers["Content-Length"] = str(stop - start)
    if stored.content is not None:
        return Answer(status, headers, stored.content[start:stop])
    return Answer(status, headers, start=start, stop=stop)
