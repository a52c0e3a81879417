"""Ranges, bodies and checksums: what all clouds' requests are made of."""

import base64
import hashlib
import sys

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud.engine.checksums import (
    CRC32CLibrary,
    crc32c,
    crc32c_header,
    crc32c_of_both,
    md5_header,
)
from lakery_cloud.engine.requests import LONGEST_PAUSE, backoff
from lakery_cloud.http.headers import byte_range, read_content_range
from lakery_cloud.testing import content


@pytest.mark.parametrize(
    ("start", "stop", "header"), [(0, None, None), (0, 5, "bytes=0-4"), (5, None, "bytes=5-"), (5, 6, "bytes=5-5")]
)
def test_range_as_rfc_9110_writes_it(start: int, stop: int | None, header: str | None) -> None:
    assert byte_range(start, stop) == header


@pytest.mark.parametrize(
    ("header", "expected"), [(None, (None, 7)), ("", (None, 7)), ("bytes 0-4/10", (0, 10)), ("bytes 5-9/10", (5, 10))]
)
def test_content_range_has_position_and_size(header: str | None, expected: tuple[int | None, int]) -> None:
    assert read_content_range(header, size=7) == expected


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksum_of_two_pieces_is_that_of_both(first: bytes, second: bytes) -> None:
    both = crc32c_of_both(google_crc32c.value(first), google_crc32c.value(second), len(second))
    assert both == google_crc32c.value(first + second)


async def test_checksums_are_those_of_the_headers() -> None:
    # RFC 3720, appendix B.4: 32 bytes of zeros.
    assert await crc32c(bytes(32)) == 0x8A9136AA
    assert await crc32c(b"56789", before=await crc32c(b"1234")) == await crc32c(b"123456789") == 0xE3069283
    assert await crc32c_header(b"123456789") == base64.b64encode(0xE3069283.to_bytes(4, "big")).decode()
    large = content(1_000_000)
    assert base64.b64decode(await md5_header(large)) == hashlib.md5(large, usedforsecurity=False).digest()


@given(st.lists(st.binary(max_size=100), max_size=9), st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_checksum_of_many_bytes_is_the_same_by_another_library(pieces: list[bytes], before: int, many: int) -> None:
    library = CRC32CLibrary(many)
    expected = google_crc32c.extend(before, b"".join(pieces))
    assert library.of(pieces, before) == library.of(pieces, before) == expected
    assert (library.extend is google_crc32c.extend) == (many > 2 * sum(map(len, pieces)) or many == 0)


def test_checksum_without_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    library = CRC32CLibrary(1)
    assert library.of([b"1234", b"56789"], 0) == 0xE3069283
    assert library.extend is google_crc32c.extend


def test_pauses_double_up_to_the_longest() -> None:
    for failures, longest in ((1, 0.5), (2, 1.0), (3, 2.0), (50, LONGEST_PAUSE)):
        assert longest / 2 <= backoff(failures) <= longest
    assert backoff(1, first=0.1) <= 0.1
