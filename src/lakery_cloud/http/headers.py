"""Headers of requests and responses that every object store has."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote

from lakery_cloud.http.exchange import UnsupportedResponse

SIZE = re.compile(r"[0-9]{1,18}")
"""A number of bytes. Python converts no more than 4,300 digits."""
_CONTENT_RANGE = re.compile(
    rf"bytes (?P<first>{SIZE.pattern})-(?P<last>{SIZE.pattern})/(?P<size>{SIZE.pattern})", re.IGNORECASE
)


def byte_range(start: int, stop: int | None) -> str | None:
    """The header `Range` (RFC 9110, section 14.2) for bytes `start` to `stop` (exclusive); None for all bytes."""
    if start == 0 and stop is None:
        return None
    return f"bytes={start}-{'' if stop is None else stop - 1}"


def read_content_range(header: str | None, *, size: int) -> tuple[int | None, int]:
    """The position of a response's first byte in the object, and the object's size; None without a range.

    Args:
        header: `Content-Range` (RFC 9110, section 14.4), such as `bytes 0-4/10`; without it the response has the whole
            object.
        size: Bytes of the response's body.

    Raises:
        UnsupportedResponse: The header is malformed.
    """
    if not header:
        return None, size
    found = _CONTENT_RANGE.fullmatch(header)
    if found is None or not int(found["first"]) <= int(found["last"]) < int(found["size"]):
        raise UnsupportedResponse("a response with a malformed Content-Range")
    return int(found["first"]), int(found["size"])


@lru_cache(maxsize=256)  # parsing a date takes longer than all other headers
def time_of(header: str | None) -> datetime | None:
    """The time in a header such as `Date` (RFC 9110, section 5.6.7), in whole seconds; None if it has none."""
    try:
        return parsedate_to_datetime(header).astimezone(UTC) if header else None
    except (ValueError, OverflowError):
        return None


def strong(etag: str | None) -> str | None:
    """An ETag for a condition; a weak one never matches (RFC 9110, section 13.1.1), so it makes none."""
    return None if etag is None or etag.startswith("W/") else etag


def required(headers: Mapping[str, str], name: str) -> str:
    """A header that a response must have.

    Args:
        headers: Header name in lower case -> value.
        name: Name in lower case.

    Raises:
        UnsupportedResponse: It has none.
    """
    value = headers.get(name)
    if not value:
        raise UnsupportedResponse(f"a response without {name}")
    return value


def size_of(headers: Mapping[str, str]) -> int:
    """Bytes of a body, or of the object that a response to HEAD describes.

    Raises:
        UnsupportedResponse: The headers don't tell.
    """
    size = required(headers, "content-length")
    if not SIZE.fullmatch(size):
        raise UnsupportedResponse("a response with a malformed Content-Length")
    return int(size)


def count_of(headers: Mapping[str, str], name: str) -> int | None:
    """A small number of things, which stores leave out if it is 0; None if the header is malformed."""
    count = headers.get(name, "0")
    return int(count) if SIZE.fullmatch(count) else None


class Clock:
    """The current time as text, formatted once for each second.

    Args:
        text: Formats seconds since the epoch.
    """

    def __init__(self, text: Callable[[int], str]) -> None:
        self._format = text
        self._second, self._text = -1, ""

    def now(self) -> str:
        """The current time."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, self._format(second)
        return self._text


def quoted(text: str, *, safe: str = "") -> str:
    """A text percent-encoded for a request's target, but for letters, digits, `_.-~` and the safe characters."""
    return text if text.isalnum() and text.isascii() else quote(text, safe=safe)


def http_date(second: int) -> str:
    """A time as in the header `Date`; see `Clock`."""
    return formatdate(second, usegmt=True)
