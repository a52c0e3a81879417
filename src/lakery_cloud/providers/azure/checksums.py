"""The checksum that Azure compares with a body: a CRC64, or MD5 without a library that computes it fast."""

import base64
from collections.abc import Callable, Collection, Iterable
from functools import reduce

from lakery_cloud.engine.checksums import md5_header
from lakery_cloud.streams.hashing import compute

CRC64 = "x-ms-content-crc64"
"""An optional header, see `Features`. An endpoint that refuses it gets `Content-MD5`."""
MD5 = "content-md5"

MAX_LOCKED = 1024**2
"""Bytes per call of azure-storage-extensions, which keeps the interpreter lock: 0.6 ms."""

OPTIONAL = frozenset({CRC64})
"""The optional headers of requests."""
Supported = Collection[str]
"""The optional headers that a request may have."""

CRC64Function = Callable[[bytes, int], int]
"""Returns the CRC64 of bytes behind others, whose CRC64 is the second argument (0 if there are none)."""


def crc64_functions() -> Iterable[CRC64Function]:
    """The functions of the installed libraries, the fastest first.

    Azure's polynomial is that of CRC-64/NVME: 0x9A6C9329AC4BC9B5, its lowest power in the lowest bit (`helpers.h` of
    azure-storage-extensions, which is Microsoft's own).
    """
    try:
        from awscrt.checksums import crc64nvme  # since awscrt 0.23.4

        yield crc64nvme
    except ImportError:
        pass
    try:
        from azure.storage.extensions.checksums import crc64
    except ImportError:
        return

    def compute_in_slices(data: bytes, before: int) -> int:
        view = memoryview(data)
        for start in range(0, len(view), MAX_LOCKED):
            before = crc64.compute(bytes(view[start : start + MAX_LOCKED]), before)  # it accepts bytes alone
        return before

    yield compute_in_slices


crc64_function = next(iter(crc64_functions()), None)
"""The function that is used; None without a library."""


async def checksum_headers(supported: Supported, *pieces: bytes) -> dict[str, str]:
    """The header by which Azure verifies a body.

    Args:
        supported: The optional headers that the endpoint supports.
        pieces: The body.
    """
    function = crc64_function
    if function is None or CRC64 not in supported:
        return {MD5: await md5_header(*pieces)}
    checksum = await compute(lambda: reduce(lambda before, piece: function(piece, before), pieces, 0), pieces)
    return {CRC64: base64.b64encode(checksum.to_bytes(8, "little")).decode()}
