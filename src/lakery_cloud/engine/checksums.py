"""Checksums that stores check bodies against, in the form of their headers: base64. None of them is a content hash."""

import base64
import hashlib

import google_crc32c

from lakery_cloud.digest import computed


async def crc32c(data: bytes, *, before: int = 0) -> int:
    """The CRC-32C (RFC 3720, appendix B.4) of bytes that follow others, whose CRC-32C is `before`."""
    return await computed(lambda data: int(google_crc32c.extend(before, data)), data)


async def crc32c_header(data: bytes) -> str:
    """The CRC-32C of bytes as a header has it."""
    return as_header(await crc32c(data))


async def md5_header(data: bytes) -> str:
    """The MD5 of bytes as a header has it."""
    digest = await computed(lambda data: hashlib.md5(data, usedforsecurity=False).digest(), data)
    return base64.b64encode(digest).decode()


def as_header(checksum: int) -> str:
    """A checksum of 32 bits, big end first, in base64."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def hex_to_header(digest: str) -> str:
    """A digest in hexadecimal as base64."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def header_to_hex(checksum: str) -> str:
    """A digest in base64 as hexadecimal."""
    return base64.b64decode(checksum).hex()
