"""Headers that object stores send and read."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from lakery_cloud.http.connection import UnsupportedResponse


def byte_range(start: int, stop: int | None) -> str | None:
    """The header `Range` (RFC 9110, section 14.2) for bytes `start` to `stop` (exclusive); None for all bytes."""
    if start == 0 and stop is None:
        return None
    return f"bytes={start}-{'' if stop is None else stop - 1}"


def read_content_range(header: str | None, *, size: int) -> tuple[int | None, int]:
    """Where the first byte of an answer's range stands in the object, and the object's size; None without a range.

    Args:
        header: `Content-Range` (RFC 9110, section 14.4), such as `bytes 0-4/10`; without it the answer is the whole object.
        size: Size in bytes of the answer's body.
    """
    if not header:
        return None, size
    place, _, total = header.removeprefix("bytes ").partition("/")
    return int(place.partition("-")[0]), int(total)


@lru_cache(maxsize=256)  # it takes longer to read than all other headers
def time_of(header: str | None) -> datetime | None:
    """The time in a header such as `Date` (RFC 9110, section 5.6.7), which has no part of a second; None if it has none."""
    try:
        return parsedate_to_datetime(header).astimezone(UTC) if header else None
    except ValueError:
        return None


def header(headers: Mapping[str, str], name: str) -> str:
    """A header that an answer must have.

    Raises:
        UnsupportedResponse: It has none.
    """
    value = headers.get(name)
    if not value:
        raise UnsupportedResponse(f"an answer without {name}")
    return value


def size_of(headers: Mapping[str, str]) -> int:
    """Bytes of a body, or of what HEAD describes.

    Raises:
        UnsupportedResponse: It can't be told.
    """
    size = header(headers, "content-length")
    if not size.isdecimal():
        raise UnsupportedResponse("an object whose size can't be told")
    return int(size)
