"""No client: the requests that write a stream of unknown hash by a temporary key, over bare connections.

They are those of lakery-cloud's defaults, one after the other where one needs the response to another, while a thread
hashes. So they show what the algorithm leaves.
"""

import abc
import asyncio
import base64
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from benchmarks.payload import MiB
from benchmarks.peers.base import PART_SIZE, parts_of
from benchmarks.peers.loop_alone import (
    PARTS_IN_FLIGHT,
    LoopAlone,
    OnAzure,
    OnGCS,
    OnS3,
    etag_of,
    hashed,
    side_by_side,
)

TEMPORARY = "temporary"
COPIED = 16 * MiB
"""Bytes of a part of a copy."""
_COPIED_ETAG = re.compile(rb"<ETag>(.*?)</ETag>")
_LOCATION = re.compile(rb"\r\nlocation: *(.*?)\r\n", re.IGNORECASE)


class Promoted(LoopAlone):
    """The requests of one API."""

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        async with hashed(chunks) as passed_on:
            await self.write_and_promote(key, parts_of(passed_on, PART_SIZE), size)
        return key

    @abc.abstractmethod
    async def write_and_promote(self, key: str, parts: AsyncIterator[bytes], size: int) -> None:
        """Write parts to a temporary key, and make the object of them."""


class PromotedOnS3(Promoted, OnS3):
    """Parts side by side, copied side by side."""

    streams = (
        f"no client: {PARTS_IN_FLIGHT} parts of 8 MiB in flight, SHA-256 in a thread, temporary key, copy in parts"
    )

    async def write_and_promote(self, key: str, parts: AsyncIterator[bytes], size: int) -> None:
        temporary = await self.begin(f"{key}.{TEMPORARY}")
        beginning = asyncio.create_task(self.begin(key))

        async def send(number: int, part: bytes) -> str:
            return etag_of(await self.request("PUT", f"{temporary}&partNumber={number}", part))

        await self.complete(temporary, await side_by_side(parts, send))
        upload, source = await beginning, self.of_object(f"{key}.{TEMPORARY}")

        async def copy(number: int, start: int) -> str:
            stop = min(start + COPIED, size)
            more = f"x-amz-copy-source: {source}\r\nx-amz-copy-source-range: bytes={start}-{stop - 1}\r\n"
            found = _COPIED_ETAG.search(await self.request("PUT", f"{upload}&partNumber={number}", more=more))
            assert found is not None
            return found[1].decode()

        copies = (copy(number, start) for number, start in enumerate(range(0, size, COPIED), start=1))
        await self.complete(upload, await asyncio.gather(*copies))
        await self.request("DELETE", source)


class PromotedOnGCS(Promoted, OnGCS):
    """A resumable upload, moved."""

    streams = "no client: 8 MiB chunks of a resumable upload, SHA-256 in a thread, a look at the object, moved"

    async def write_and_promote(self, key: str, parts: AsyncIterator[bytes], size: int) -> None:
        objects = f"/storage/v1/b/{self.target.bucket}/o"
        name = quote(f"{key}.{TEMPORARY}", safe="")
        begun = await self.request("POST", f"/upload{objects}?uploadType=resumable&name={name}", b"{}")
        found = _LOCATION.search(begun)
        assert found is not None
        session = "/" + found[1].decode().split("/", 3)[3]
        start = 0
        async for part in parts:
            stop = start + len(part)
            total = size if stop == size else "*"
            await self.request("PUT", session, part, f"Content-Range: bytes {start}-{stop - 1}/{total}\r\n")
            start = stop
        await self.request("GET", f"{objects}/{name}")
        await self.request("POST", f"{objects}/{name}/moveTo/o/{quote(key, safe='')}?ifGenerationMatch=0")


class PromotedOnAzure(Promoted, OnAzure):
    """Blocks side by side, copied by one request."""

    streams = f"no client: {PARTS_IN_FLIGHT} blocks of 8 MiB in flight, SHA-256 in a thread, temporary blob, one copy"

    async def write_and_promote(self, key: str, parts: AsyncIterator[bytes], size: int) -> None:
        temporary = self.of_object(f"{key}.{TEMPORARY}")

        async def send(number: int, block: bytes) -> str:
            return await self.put_block(temporary, number, block)

        await self.commit(temporary, await side_by_side(parts, send))
        await self.copy(temporary, self.of_object(key), size)
        await self.request("DELETE", temporary)

    async def put_block(self, blob: str, number: int, block: bytes = b"", more: str = "") -> str:
        """Put a block, and return its name as a list of blocks has it."""
        name = base64.b64encode(f"{number:08}".encode()).decode()
        await self.request("PUT", f"{blob}?comp=block&blockid={quote(name, safe='')}", block, more)
        return name

    async def commit(self, blob: str, names: list[str]) -> None:
        """Make a blob of its blocks."""
        blocks = "".join(f"<Latest>{name}</Latest>" for name in names)
        body = f"<BlockList>{blocks}</BlockList>".encode()
        await self.request("PUT", f"{blob}?comp=blocklist", body, "If-None-Match: *\r\n")

    async def copy(self, source: str, blob: str, size: int) -> None:
        """Copy a blob."""
        more = f"x-ms-copy-source: http://server{source}\r\nIf-None-Match: *\r\n{self.more}"
        await self.request("PUT", blob, more=more)


class PromotedInBlocks(PromotedOnAzure):
    """The same, copied in blocks side by side."""

    streams = (
        f"no client: {PARTS_IN_FLIGHT} blocks of 8 MiB in flight, SHA-256 in a thread, temporary blob, copied in blocks of "
        "16 MiB"
    )

    async def copy(self, source: str, blob: str, size: int) -> None:
        async def copy_block(number: int, start: int) -> str:
            stop = min(start + COPIED, size)
            more = f"x-ms-copy-source: http://server{source}\r\nx-ms-source-range: bytes={start}-{stop - 1}\r\n"
            return await self.put_block(blob, number, more=more)

        copies = (copy_block(number, start) for number, start in enumerate(range(0, size, COPIED)))
        await self.commit(blob, await asyncio.gather(*copies))
