"""Checksums that stores verify, as they stand in headers: base64. None of them is a content hash."""

import base64
import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache, reduce

import google_crc32c

from lakery_cloud.engine.model import Receipt
from lakery_cloud.streams.hashing import compute, update_hash

DIGITS = {"sha256": 64, "sha1": 40, "md5": 32, "crc64nvme": 16, "crc32c": 8, "crc32": 8}
"""Algorithm of the checksums that stores report -> their hexadecimal digits, the strongest first."""

CASTAGNOLI = 0x82F63B78
"""The polynomial of CRC-32C, its lowest power in the highest bit."""


MANY = 256 * 1024**2
"""Bytes of which google-crc32c computes the CRC-32C in less time than the import of awscrt takes."""


class CRC32CLibrary:
    """Computes CRC-32Cs: of many bytes by awscrt if it is installed, which is faster, and keeps no interpreter lock.

    Args:
        many: Bytes after which awscrt is imported.

    Attributes:
        extend: Returns the CRC-32C of bytes behind others, whose CRC-32C is the first argument.
    """

    def __init__(self, many: int = MANY) -> None:
        self.extend: Callable[[int, bytes], int] = google_crc32c.extend
        self._left = many

    def of(self, pieces: Iterable[bytes], before: int) -> int:
        """The CRC-32C of pieces behind others with the CRC-32C `before`."""
        if self._left > 0:
            self._left -= sum(map(len, pieces))
            if self._left <= 0:
                self._use_awscrt()
        return int(reduce(self.extend, pieces, before))

    def _use_awscrt(self) -> None:
        with suppress(ImportError):
            from awscrt.checksums import crc32c as compute_crc32c

            self.extend = lambda before, piece: compute_crc32c(piece, before)


_library = CRC32CLibrary()


async def crc32c(*pieces: bytes, before: int = 0) -> int:
    """The CRC-32C (RFC 3720, appendix B.4) of bytes behind others with the CRC-32C `before`."""
    return await compute(lambda: _library.of(pieces, before), pieces)


def crc32c_of_both(first: int, second: int, size: int) -> int:
    """The CRC-32C of two concatenated pieces, from the CRC-32C of each and the size of the second.

    A CRC is the remainder of a polynomial over GF(2). The first one is multiplied by x to the number of bits behind it,
    as zlib's `crc32_combine` does; the initial and final inversions cancel out.
    """
    return _product(first, _power(8 * size)) ^ second


@lru_cache(maxsize=64)
def _power(bits: int) -> int:
    """x to the number of bits, modulo the polynomial of CRC-32C. Most parts of an object have the same size."""
    power, square = 1 << 31, 1 << 30  # x^0 and x^1; the highest bit is the lowest power
    while bits:
        if bits & 1:
            power = _product(power, square)
        square = _product(square, square)
        bits >>= 1
    return power


def _product(a: int, b: int) -> int:
    """The product of two polynomials, modulo that of CRC-32C."""
    product = 0
    for place in range(31, -1, -1):
        if a >> place & 1:
            product ^= b
        b = b >> 1 ^ (CASTAGNOLI if b & 1 else 0)
    return product


async def crc32c_header(*pieces: bytes) -> str:
    """The CRC-32C of bytes for a header."""
    return as_header(await crc32c(*pieces))


def crc32c_of_parts(receipts: Iterable[Receipt]) -> str | None:
    """The CRC-32C of an object for a header, from the checksums and sizes of its parts; None if one is not known."""
    combined = 0
    for receipt in receipts:
        if receipt.checksum is None:
            return None
        checksum = int.from_bytes(base64.b64decode(receipt.checksum), "big")
        combined = crc32c_of_both(combined, checksum, receipt.size)
    return as_header(combined)


async def md5_header(*pieces: bytes) -> str:
    """The MD5 of bytes for a header."""
    hasher = hashlib.md5(usedforsecurity=False)
    await update_hash(hasher, *pieces)
    return base64.b64encode(hasher.digest()).decode()


def as_header(checksum: int) -> str:
    """A checksum of 32 bits, big end first, in base64."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def hex_to_header(digest: str) -> str:
    """A digest in hexadecimal as base64."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def header_to_hex(checksum: str) -> str:
    """A digest in base64 as hexadecimal.

    Raises:
        ValueError: It is no base64.
    """
    return base64.b64decode(checksum, validate=True).hex()


def reported_checksum(algorithm: str, header: str | bytes | None) -> dict[str, str]:
    """The checksum of a whole object in a response, as `ObjectInfo.checksums` has it.

    It is left out if it is malformed, since clients can set it on some stores.

    Args:
        algorithm: Its algorithm.
        header: The checksum in base64, or None.
    """
    try:
        checksum = base64.b64decode(header or b"", validate=True).hex()
    except ValueError:
        return {}
    return {algorithm: checksum} if len(checksum) == DIGITS[algorithm] else {}
