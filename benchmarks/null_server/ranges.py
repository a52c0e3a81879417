"""Byte ranges as headers ask for them."""

import re

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Where a range starts and stops in content of a size; None if it begins behind the end or can't be read."""
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start, stop = int(first), min(size, int(last) + 1) if last else size
    return (start, stop) if start < min(size, stop) else None
