"""Checksums that stores check bodies against, in the form of their headers: base64. None of them is a content hash."""

import base64
import hashlib
from functools import reduce

import google_crc32c

from lakery_cloud.streams.hashing import compute, update_hash

CASTAGNOLI = 0x82F63B78
"""The polynomial of CRC-32C, its lowest power in the highest bit."""


async def crc32c(*pieces: bytes, before: int = 0) -> int:
    """The CRC-32C (RFC 3720, appendix B.4) of bytes that follow others, whose CRC-32C is `before`."""
    return await compute(lambda: int(reduce(google_crc32c.extend, pieces, before)), pieces)


def crc32c_of_both(first: int, second: int, size: int) -> int:
    """The CRC-32C of two pieces of bytes after one another, out of those of each; `size` is that of the second.

    A CRC is the remainder of a polynomial over GF(2). The first piece's is multiplied by x to the number of bits that
    follow, as zlib's `crc32_combine` does; what a CRC is begun and ended with cancels out.
    """
    power, square = 1 << 31, 1 << 30  # x^0 and x^1; the highest bit is the lowest power
    bits = 8 * size
    while bits:
        if bits & 1:
            power = _product(power, square)
        square = _product(square, square)
        bits >>= 1
    return _product(first, power) ^ second


def _product(a: int, b: int) -> int:
    """The product of two polynomials, modulo that of CRC-32C."""
    product = 0
    for place in range(31, -1, -1):
        if a >> place & 1:
            product ^= b
        b = b >> 1 ^ (CASTAGNOLI if b & 1 else 0)
    return product


async def crc32c_header(*pieces: bytes) -> str:
    """The CRC-32C of bytes as a header has it."""
    return as_header(await crc32c(*pieces))


async def md5_header(*pieces: bytes) -> str:
    """The MD5 of bytes as a header has it."""
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
    """A digest in base64 as hexadecimal."""
    return base64.b64decode(checksum).hex()
