"""The CRC64 of Azure, by each library that computes it, beside a plain implementation."""

import base64
import hashlib
import sys
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud.providers.azure import checksums
from lakery_cloud.providers.azure.checksums import CRC64, MAX_LOCKED, OPTIONAL, CRC64Function, checksum_headers
from lakery_cloud.streams.hashing import THREAD_THRESHOLD
from lakery_cloud.testing import content

pytest.importorskip("awscrt", reason="the environment is older than the extra `test`")
pytest.importorskip("azure.storage.extensions", reason="the environment is older than the extra `test`")

POLYNOMIAL = 0x9A6C9329AC4BC9B5
ALL_ONES = 2**64 - 1

AWSCRT, EXTENSIONS = checksums.crc64_functions()
LIBRARIES = pytest.mark.parametrize("crc64", [AWSCRT, EXTENSIONS], ids=["awscrt", "azure-storage-extensions"])


def plain_crc64(data: bytes, before: int = 0) -> int:
    """The definition, bit by bit."""
    remainder = before ^ ALL_ONES
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (POLYNOMIAL if remainder & 1 else 0)
    return remainder ^ ALL_ONES


@LIBRARIES
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        # "Catalogue of parametrised CRC algorithms", CRC-64/NVME
        (b"123456789", 0xAE8B14860A799888),
        # Azure's own response to Put Blob, in azure-sdk-for-js: recording_syncuploadfromurl__destination_bearer_token.js
        (b"Hello World", int.from_bytes(base64.b64decode("YeJLfssylmU="), "little")),
    ],
)
def test_checksum_is_the_published_one(crc64: CRC64Function, data: bytes, expected: int) -> None:
    assert plain_crc64(data) == crc64(data, 0) == expected


@LIBRARIES
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_checksum_of_pieces_is_that_of_the_whole(crc64: CRC64Function, pieces: list[bytes]) -> None:
    assert reduce(lambda before, piece: crc64(piece, before), pieces, 0) == plain_crc64(b"".join(pieces))


@pytest.mark.parametrize("size", [MAX_LOCKED - 1, MAX_LOCKED, MAX_LOCKED + 1, 2 * MAX_LOCKED + 33])
def test_libraries_agree_on_large_pieces(size: int) -> None:
    data = content(size)
    before = plain_crc64(b"before")
    whole = AWSCRT(data, before)
    assert EXTENSIONS(data, before) == whole
    assert EXTENSIONS(data[size // 3 :], AWSCRT(data[: size // 3], before)) == whole
    assert EXTENSIONS(data, before ^ 1) != whole


@LIBRARIES
@pytest.mark.parametrize("size", [0, 9, THREAD_THRESHOLD + 5])
async def test_header_is_the_checksum_of_all_pieces(
    monkeypatch: pytest.MonkeyPatch, crc64: CRC64Function, size: int
) -> None:
    monkeypatch.setattr(checksums, "crc64_function", crc64)
    data = content(size)
    headers = await checksum_headers(OPTIONAL, data[:7], data[7:])
    assert headers == {CRC64: base64.b64encode(AWSCRT(data, 0).to_bytes(8, "little")).decode()}


@pytest.mark.parametrize("why", ["no library", "an endpoint that refuses it"])
async def test_without_it_the_header_is_md5(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    if why == "no library":
        monkeypatch.setattr(checksums, "crc64_function", None)
    supported = OPTIONAL if why == "no library" else frozenset[str]()
    expected = base64.b64encode(hashlib.md5(b"data", usedforsecurity=False).digest()).decode()
    assert await checksum_headers(supported, b"da", b"ta") == {"content-md5": expected}


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ((), 2),
        (("awscrt.checksums",), 1),
        (("azure.storage.extensions.checksums",), 1),
        (("awscrt.checksums", "azure.storage.extensions.checksums"), 0),
    ],
    ids=str,
)
def test_each_library_is_optional(monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], expected: int) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert len(list(checksums.crc64_functions())) == expected


def test_awscrt_without_this_checksum_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    import awscrt.checksums

    monkeypatch.delattr(awscrt.checksums, "crc64nvme")  # before 0.23.4
    (only,) = checksums.crc64_functions()
    data: Any = bytearray(b"123456789")
    assert only(data, 0) == AWSCRT(b"123456789", 0)
