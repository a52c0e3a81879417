"""How a stream travels to its temporary object: one resumable upload, or parts side by side that the store composes."""

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from lakery_cloud.engine.checksums import as_header, crc32c, crc32c_of_both
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    KeyExists,
    KeyMissing,
    Receipt,
    Signal,
    UploadGone,
    WriteConflict,
    without_none,
)
from lakery_cloud.engine.retries import backoff
from lakery_cloud.errors import IntegrityError, LakeryCloudError, StorageUnavailable
from lakery_cloud.providers.gcs.requests import JSONAPI, Answer
from lakery_cloud.streams.parts import Part
from lakery_cloud.streams.tasks import bounded_tasks

logger = logging.getLogger("lakery_cloud")

MAX_SOURCES = 32
"""Cloud Storage, "Objects: compose": objects that one request composes."""
MAX_DELETES = 16
"""Requests at a time that delete parts."""


class ResumableUpload:
    """One resumable upload: parts in order, one at a time; the last one makes the object.

    Source: Cloud Storage, "Perform resumable uploads".
    """

    def __init__(self, api: JSONAPI, address: Address, session_url: str, content_type: str) -> None:
        self.id = session_url
        self._api = api
        self._address = address
        self._content_type = content_type
        self._checksum = 0
        self._last: asyncio.Task[Answer | None] | None = None

    @classmethod
    async def begin(
        cls, api: JSONAPI, address: Address, resource: Mapping[str, Any], *, kms_key_name: str | None
    ) -> Self:
        """Open a session."""
        answer = await api.call(
            "objects.insert (resumable)",
            address,
            "POST",
            api.upload_url(address),
            query=without_none(
                uploadType="resumable", name=address.key, ifGenerationMatch="0", kmsKeyName=kms_key_name
            ),
            headers={"Content-Type": "application/json", "X-Upload-Content-Type": resource["contentType"]},
            body=(json.dumps(resource).encode(),),
        )
        return cls(api, address, answer.headers["Location"], resource["contentType"])

    async def send(self, part: Part) -> Receipt:
        """Send the next part, and compare what the last one made with what was sent."""
        self._checksum = await crc32c(*part.pieces, before=self._checksum)
        if not part.is_last:
            await self._send(part)
        else:
            # Shielded: a store that is completing goes on when its client leaves. The clean-up waits for it.
            self._last = asyncio.create_task(self._send(part))
            answer = await asyncio.shield(self._last)
            made = answer.json() if answer is not None else {}
            _check_made(self._address, made, part.offset + part.size, self._checksum)
        return Receipt(part.number, "", as_header(self._checksum))

    async def complete(self, receipts: Sequence[Receipt]) -> None:
        """Nothing is left to do: the last part has made the object."""
        if self._last is None or not self._last.done():
            raise UploadGone(f"the last part of the upload to {self._address} was never sent")

    async def abort(self) -> None:
        """Cancel the session, and delete what it may have made."""
        last = self._last
        try:
            if last is None or not await _succeeds(last):
                with suppress(UploadGone):
                    await self._api.call("upload", self._address, "DELETE", self.id)
        finally:
            if last is not None:
                # It may have made the object, whatever the session says.
                await self._api.delete(self._address)

    async def _send(self, part: Part) -> Answer | None:
        """Send one part, as often as it takes until the store has all of it; the answer to the last one."""
        start, stop = part.offset, part.offset + part.size
        failures, is_lost = 0, False
        while failures < self._api.max_attempts:
            if failures:
                await asyncio.sleep(backoff(failures))
            try:
                answer = await self._send_from(start, part, is_question=is_lost)
            except StorageUnavailable:
                failures, is_lost = failures + 1, True
                if failures == self._api.max_attempts:
                    raise
                continue
            if answer.status != 308:
                return answer
            received = _received(answer.headers)
            if not start <= received <= stop:
                raise StorageUnavailable(
                    f"the store has {received} bytes of the upload to {self._address}, where {start} to {stop} were "
                    "expected; nothing was stored, write the stream again"
                )
            if received == stop and not part.is_last:
                return None
            if received > start:
                failures = 0
            elif not is_lost:
                failures += 1
            start, is_lost = received, False
        raise StorageUnavailable(
            f"the upload to {self._address} stays at byte {start}; nothing was stored, write the stream again"
        )

    async def _send_from(self, start: int, part: Part, *, is_question: bool) -> Answer:
        """Send a part from byte `start` of the stream on; or ask where the store is, after an answer was lost."""
        rest = () if is_question else part.rest(start - part.offset)
        stop = part.offset + part.size
        total = str(stop) if part.is_last else "*"  # with the total, the question also ends an upload that is whole
        return await self._api.call(
            "upload",
            self._address,
            "PUT",
            self.id,
            headers={
                "Content-Range": f"bytes {start}-{stop - 1}/{total}" if rest else f"bytes */{total}",
                "Content-Type": self._content_type,
            },
            body=rest,
            attempts=1,
        )


class CompositeUpload:
    """Parts that travel side by side as temporary objects of their own, and are composed in the store.

    Their names are that of the temporary object with the part's number, so whatever sweeps temporary objects sweeps them.
    Source: Cloud Storage, "Parallel composite uploads".
    """

    def __init__(
        self, api: JSONAPI, address: Address, resource: Mapping[str, Any], *, kms_key_name: str | None
    ) -> None:
        self.id = secrets.token_hex(8)
        self._api = api
        self._address = address
        self._resource = resource
        self._kms_key_name = kms_key_name
        self._pieces: dict[int, Piece] = {}
        self._is_composing = False

    @classmethod
    async def begin(
        cls, api: JSONAPI, address: Address, resource: Mapping[str, Any], *, kms_key_name: str | None
    ) -> Self:
        """Parts need no beginning."""
        return cls(api, address, resource, kms_key_name=kms_key_name)

    async def send(self, part: Part) -> Receipt:
        """Make an object of a part."""
        piece = self._pieces[part.number] = Piece(await crc32c(*part.pieces), part.size)
        piece.sending = asyncio.create_task(self._insert(part, piece))
        # Shielded: a store that has the whole part makes its object even when its client leaves. The clean-up waits.
        return Receipt(part.number, await asyncio.shield(piece.sending), as_header(piece.checksum))

    async def complete(self, receipts: Sequence[Receipt]) -> None:
        """Compose the parts, as many at a time as one request takes, and delete them."""
        self._is_composing = True
        rest, so_far, generation = list(receipts), Piece(0, 0), ""
        while rest:
            sources = [{"name": self._address.key, "generation": generation}] if generation else []
            batch, rest = rest[: MAX_SOURCES - len(sources)], rest[MAX_SOURCES - len(sources) :]
            for receipt in batch:
                sources.append({"name": part_address(self._address, receipt.number).key, "generation": receipt.etag})
                so_far = so_far.followed_by(self._pieces[receipt.number])
            generation = await self._compose(sources, so_far, if_generation=generation or "0")
        try:
            await self._delete_parts()
        except LakeryCloudError:
            logger.warning("could not delete the parts of %s; they are temporary objects", self._address, exc_info=True)

    async def abort(self) -> None:
        """Delete all parts, and what they may have been composed to."""
        sending = [piece.sending for piece in self._pieces.values() if piece.sending is not None]
        for piece in self._pieces.values():
            if piece.sending is not None and not piece.is_given_out:
                # What writes the body may come to its end before it hears that it is cancelled.
                piece.is_given_up = True
                piece.sending.cancel()
        try:
            if sending:
                await asyncio.wait(sending)
        finally:
            for task in sending:
                task.cancel()
            await self._delete_parts()
            if self._is_composing:
                await self._api.delete(self._address)

    async def _insert(self, part: Part, piece: "Piece") -> str:
        """Make the object of a part; its generation."""
        address = part_address(self._address, part.number)

        def note() -> None:
            if piece.is_given_up:
                raise ConnectionAbortedError(f"{address} was given up")
            piece.is_given_out = True

        try:
            made = await self._api.insert(
                address, part.pieces, self._resource, kms_key_name=self._kms_key_name, on_given_out=note
            )
        except (KeyExists, WriteConflict) as signal:  # an attempt whose answer was lost has made it
            made = await self._made_before(address, signal)
        _check_made(address, made, piece.size, piece.checksum)
        return str(made["generation"])

    async def _compose(self, sources: list[dict[str, str]], expected: "Piece", *, if_generation: str) -> str:
        """Make the temporary object out of others, itself among them; its generation."""
        try:
            answer = await self._api.call(
                "objects.compose",
                self._address,
                "POST",
                f"{self._api.object_url(self._address)}/compose",
                query=without_none(ifGenerationMatch=if_generation, kmsKeyName=self._kms_key_name),
                headers={"Content-Type": "application/json"},
                body=(json.dumps({"destination": self._resource, "sourceObjects": sources}).encode(),),
            )
            made = answer.json()
        except (KeyExists, UploadGone) as signal:
            # An attempt whose answer was lost has composed them, and so replaced a source.
            made = await self._made_before(self._address, signal)
        _check_made(self._address, made, expected.size, expected.checksum)
        return str(made["generation"])

    async def _made_before(self, address: Address, signal: Signal) -> dict[str, Any]:
        """What an earlier attempt made; nobody else knows the address."""
        try:
            return await self._api.resource(address)
        except KeyMissing:
            raise UploadGone(str(signal)) from signal

    async def _delete_parts(self) -> None:
        async with bounded_tasks(MAX_DELETES) as tasks:
            for number in self._pieces:
                await tasks.start(self._api.delete(part_address(self._address, number)))


def part_address(address: Address, number: int) -> Address:
    """Where a part lies on its way to the temporary object at an address. The layout is permanent."""
    return Address(address.bucket, f"{address.key}.{number:06d}")


@dataclass(slots=True)
class Piece:
    """Bytes that are on their way to an object of their own.

    Attributes:
        checksum: Their CRC-32C.
        size: How many.
        sending: The request.
        is_given_out: Whether all of them were handed to the connection, so that the store may have them.
        is_given_up: Whether the last of them must not be handed to it any more.
    """

    checksum: int
    size: int
    sending: asyncio.Task[str] | None = None
    is_given_out: bool = False
    is_given_up: bool = False

    def followed_by(self, other: "Piece") -> "Piece":
        """Both of them in one."""
        return Piece(crc32c_of_both(self.checksum, other.checksum, other.size), self.size + other.size)


async def _succeeds(task: asyncio.Task[Any]) -> bool:
    """Wait for the end of a task; whoever is cancelled in the meantime ends it."""
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
    return not task.cancelled() and task.exception() is None


def _received(headers: Mapping[str, str]) -> int:
    """How many bytes an upload has: `bytes=0-41` are 42, and no range is none."""
    return int(headers["Range"].rpartition("-")[2]) + 1 if "Range" in headers else 0


def _check_made(address: Address, made: Mapping[str, Any], size: int, checksum: int) -> None:
    """Compare an object that the store made with what was sent."""
    if (made.get("size"), made.get("crc32c")) != (str(size), as_header(checksum)):
        raise IntegrityError(
            f"{size} bytes with the CRC32C {as_header(checksum)} were sent to {address}, which now holds "
            f"{made.get('size')} with {made.get('crc32c')}; nothing was stored, write the stream again"
        )
