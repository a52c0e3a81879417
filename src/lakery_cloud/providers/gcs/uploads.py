"""Uploads of streams: one resumable upload, or concurrent parts that the store composes."""

import asyncio
import logging
import secrets
from asyncio import Semaphore
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lakery_cloud.engine.checksums import as_header, crc32c, crc32c_of_both
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import KeyExists, KeyMissing, ObjectInfo, Receipt, Signal, UploadGone, WriteConflict
from lakery_cloud.engine.requests import pause_after
from lakery_cloud.errors import LakeryCloudError, StorageUnavailable
from lakery_cloud.http.exchange import ConnectionLost
from lakery_cloud.providers.gcs.answers import StoredObject, read_object
from lakery_cloud.providers.gcs.checksums import compare
from lakery_cloud.providers.gcs.requests import GCSRequests
from lakery_cloud.streams.parts import Part
from lakery_cloud.streams.tasks import bounded_tasks

logger = logging.getLogger("lakery_cloud")

MAX_SOURCES = 32
"""Cloud Storage, "Objects: compose": objects that one request composes."""
MAX_DELETES = 64
"""Concurrent requests that delete parts."""


class ResumableUpload:
    """One resumable upload: parts in order, one at a time; the last one makes the object.

    Source: Cloud Storage, "Perform resumable uploads".

    Args:
        api: Sends the requests.
        limiter: Limits concurrent requests.
        address: The object.
        session_url: The upload.
        content_type: Media type of the object.
        is_temporary: Whether the key is ours alone, so that `abort` deletes whatever object it has.
    """

    def __init__(
        self,
        api: GCSRequests,
        limiter: Semaphore,
        address: Address,
        session_url: str,
        content_type: str,
        *,
        is_temporary: bool,
    ) -> None:
        self.id = session_url
        self._api = api
        self._limiter = limiter
        self._address = address
        self._content_type = content_type
        self._is_temporary = is_temporary
        self._size, self._checksum = 0, 0
        self._last: asyncio.Task[StoredObject | None] | None = None

    async def send(self, part: Part) -> Receipt:
        """Send the next part. After the last one, compare the object with the bytes that were sent."""
        self._checksum = await crc32c(*part.pieces, before=self._checksum)
        if not part.is_last:
            await self._send(part)
        else:
            # Shielded: the store completes an upload even if its client disconnects, and `abort` waits for that.
            self._last = asyncio.create_task(self._send(part))
            self._size = part.offset + part.size
            stored = await asyncio.shield(self._last)
            compare(self._address, stored, self._size, self._checksum)
        return Receipt(part.number, "", as_header(self._checksum))

    async def complete(self, receipts: Sequence[Receipt]) -> ObjectInfo:
        """The object. No request is needed: the last part has made it."""
        stored = self._last.result() if self._last is not None and self._last.done() else None
        if stored is None:
            raise UploadGone(f"the last part of the upload to {self._address} was never sent")
        return stored.info

    async def abort(self) -> None:
        """Cancel the session, and delete the object that it may have made."""
        last = self._last
        try:
            if last is None or not await _succeeds(last):
                async with self._limiter:
                    await self._api.cancel_resumable(self._address, self.id)
        finally:
            if last is not None:
                has_made = last.done() and not last.cancelled() and last.exception() is None
                await self._delete(last.result() if has_made else None)

    async def _delete(self, stored: StoredObject | None) -> None:
        """Delete the object that the last part may have made, unless it is content."""
        generation = stored and stored.info.version
        if self._is_temporary:
            await delete_object(self._api, self._limiter, self._address, generation)
        elif generation is not None:
            try:
                compare(self._address, stored, self._size, self._checksum)
            except LakeryCloudError:
                async with self._limiter:
                    await self._api.delete_generation(self._address, generation)

    async def _send(self, part: Part) -> StoredObject | None:
        """Send one part until the store has all of it; return the object after the last part."""
        start, stop = part.offset, part.offset + part.size
        failures, is_lost = 0, False
        cause: BaseException | None = None
        while failures < self._api.max_attempts:
            if failures:
                await asyncio.sleep(pause_after(cause, failures))
                cause = None
            try:
                state = await self._send_from(start, part, is_question=is_lost)
            except StorageUnavailable as error:
                failures, is_lost, cause = failures + 1, True, error.__cause__
                if failures == self._api.max_attempts:
                    raise
                continue
            if isinstance(state, StoredObject):
                return state
            if not start <= state <= stop:
                raise StorageUnavailable(
                    f"the store has {state} bytes of the upload to {self._address} instead of {start} to {stop}; nothing "
                    "was stored, write the stream again"
                )
            if state == stop and not part.is_last:
                return None
            if state > start:
                failures = 0
            elif not is_lost:
                failures += 1
            start, is_lost = state, False
        raise StorageUnavailable(
            f"the upload to {self._address} stays at byte {start}; nothing was stored, write the stream again"
        )

    async def _send_from(self, start: int, part: Part, *, is_question: bool) -> StoredObject | int:
        """Send a part from byte `start` of the stream on, or ask for the state of the upload after a lost response."""
        rest = () if is_question else part.rest(start - part.offset)
        stop = part.offset + part.size
        total = (
            str(stop) if part.is_last else "*"
        )  # with the total, the question completes an upload that has all bytes
        content_range = f"bytes {start}-{stop - 1}/{total}" if rest else f"bytes */{total}"
        async with self._limiter:
            return await self._api.send_chunk(
                self._address,
                self.id,
                rest,
                content_range=content_range,
                content_type=self._content_type,
                crc32c=as_header(self._checksum) if part.is_last and rest else None,
            )


class CompositeUpload:
    """Concurrent parts, each a temporary object of its own, which the store composes.

    Their keys are the temporary key with the part's number, so every sweep of temporary objects finds them.
    Source: Cloud Storage, "Parallel composite uploads".
    """

    def __init__(self, api: GCSRequests, limiter: Semaphore, address: Address, resource: Mapping[str, Any]) -> None:
        self.id = secrets.token_hex(8)
        self._api = api
        self._limiter = limiter
        self._address = address
        self._resource = resource
        self._pieces: dict[int, Piece] = {}
        self._sources: list[Piece] = []
        self._composing: asyncio.Task[ObjectInfo] | None = None

    async def send(self, part: Part) -> Receipt:
        """Make an object from a part."""
        piece = self._pieces[part.number] = Piece(part.number, await crc32c(*part.pieces), part.size)
        piece.sending = asyncio.create_task(self._insert(part, piece))
        # Shielded: a store that has the whole part makes its object even if its client disconnects. `abort` waits for that.
        return Receipt(part.number, await asyncio.shield(piece.sending), as_header(piece.checksum))

    async def complete(self, receipts: Sequence[Receipt]) -> ObjectInfo:
        """Compose the parts to the temporary object, delete them, and return the object."""
        await self.prepare(receipts)
        made = await self.compose()
        try:
            await self._delete_parts()
        except LakeryCloudError as error:
            logger.warning("could not delete the parts of %s, which are temporary objects: %s", self._address, error)
        return made

    async def prepare(self, receipts: Sequence[Receipt]) -> ObjectInfo:
        """Reduce the parts to as many as one request composes; describe what they make.

        One request composes at most 32 objects. More of them are first composed to further parts, each a new object:
        under a retention policy no object can be replaced, and one object may change only once a second.
        """
        self._sources = [self._pieces[receipt.number] for receipt in receipts]
        while len(self._sources) > MAX_SOURCES:
            self._sources = await self._compose_level(self._sources)
        return ObjectInfo(self._address, _joined(self._sources).size)

    async def compose(self) -> ObjectInfo:
        """Compose the prepared parts to the temporary object, once; they stay.

        Shielded: the store makes the object even if its client disconnects, and `abort` waits for that.
        """
        if self._composing is None:
            whole = _joined(self._sources)
            self._composing = asyncio.create_task(self._compose(self._address, self._sources, whole))
        return await asyncio.shield(self._composing)

    async def compose_content(self, address: Address, resource: Mapping[str, Any]) -> ObjectInfo:
        """Compose the prepared parts to a content key; they stay.

        The object is visible at once, and it can only be right: the store has compared each part with its checksum, and the
        parts are pinned by their generations. It is compared all the same.

        Raises:
            KeyExists, WriteConflict: As for `Transport.put`.
            UploadGone: A part is missing, or was replaced.
        """
        whole = _joined(self._sources)
        async with self._limiter:
            stored = await self._api.compose(address, resource, self._named(self._sources))
        try:
            return compare(address, stored, whole.size, whole.checksum)
        except LakeryCloudError:
            # It is ours: the request that made it was create-only.
            async with self._limiter:
                await self._api.delete_generation(address, stored.info.version)
            raise

    async def abort(self) -> None:
        """Delete all parts, and the temporary object that they may have been composed to."""
        sending = [piece.sending for piece in self._pieces.values() if piece.sending is not None]
        for piece in self._pieces.values():
            if piece.sending is not None and not piece.is_sent:
                # The task that writes the body may reach its end before it is cancelled.
                piece.is_aborted = True
                piece.sending.cancel()
        try:
            if sending:
                await asyncio.wait(sending)
        finally:
            for task in sending:
                task.cancel()
            if self._composing is not None:
                await asyncio.wait([self._composing])
            await self._delete_parts()
            if self._composing is not None:
                await delete_object(self._api, self._limiter, self._address, None)

    async def _insert(self, part: Part, piece: "Piece") -> str:
        """Make the object of a part; return its generation."""
        address = part_address(self._address, part.number)

        def before_last() -> None:
            if piece.is_aborted:
                raise ConnectionLost(f"the upload of {address} was aborted")
            piece.is_sent = True

        try:
            async with self._limiter:
                stored = await self._api.insert(
                    address,
                    part.pieces,
                    self._resource,
                    before_last=before_last,
                    read=partial(read_object, address),
                )
        except (KeyExists, WriteConflict) as signal:  # an attempt whose response was lost has made it
            stored = await self._stored_before(address, signal)
        piece.generation = str(compare(address, stored, piece.size, piece.checksum).version)
        return piece.generation

    async def _compose_level(self, sources: list["Piece"]) -> list["Piece"]:
        """Compose the first objects to further parts, until one request can compose the rest, or all are composed once."""
        composed: list[Piece] = []
        while len(sources) > 1 and len(composed) + len(sources) > MAX_SOURCES:
            excess = len(composed) + len(sources) - MAX_SOURCES
            count = min(excess + 1, MAX_SOURCES)
            batch, sources = sources[:count], sources[count:]
            piece = _joined(batch, number=max(self._pieces) + 1)
            self._pieces[piece.number] = piece
            made = await self._compose(part_address(self._address, piece.number), batch, piece)
            piece.generation = made.version
            composed.append(piece)
        return composed + sources

    async def _compose(self, address: Address, sources: Sequence["Piece"], whole: "Piece") -> ObjectInfo:
        """Make a temporary object from parts, and return it.

        Args:
            address: The object.
            sources: The parts.
            whole: What they make.
        """
        try:
            async with self._limiter:
                stored = await self._api.compose(address, self._resource, self._named(sources))
        except (KeyExists, WriteConflict) as signal:  # an attempt whose response was lost has made it
            stored = await self._stored_before(address, signal)
        return compare(address, stored, whole.size, whole.checksum)

    def _named(self, sources: Sequence["Piece"]) -> list[dict[str, str | None]]:
        """The API's names of parts, pinned to their generations."""
        return [
            {"name": part_address(self._address, piece.number).key, "generation": piece.generation} for piece in sources
        ]

    async def _stored_before(self, address: Address, signal: Signal) -> StoredObject:
        """The object that an earlier attempt has made; nobody else knows the address."""
        try:
            async with self._limiter:
                return await self._api.describe(address)
        except KeyMissing:
            raise UploadGone(str(signal)) from signal

    async def _delete_parts(self) -> None:
        async with bounded_tasks(MAX_DELETES) as tasks:
            for piece in self._pieces.values():
                address = part_address(self._address, piece.number)
                await tasks.start(delete_object(self._api, self._limiter, address, piece.generation))


async def delete_object(api: GCSRequests, limiter: Semaphore, address: Address, generation: str | None) -> None:
    """Delete a temporary object, if it exists, so that a bucket with versions keeps none of it.

    Args:
        api: Sends the requests.
        limiter: Limits concurrent requests.
        address: The object.
        generation: Its generation, if it is known.
    """
    async with limiter:
        if generation is None:
            try:
                generation = (await api.describe(address)).info.version
            except KeyMissing:
                return
            except LakeryCloudError:
                logger.debug("%s is deleted without its generation", address)
        await api.delete(address, generation=generation)


def part_address(address: Address, number: int) -> Address:
    """The temporary object of a part of the temporary object at an address. The layout is permanent."""
    return Address(address.bucket, f"{address.key}.{number:06d}")


@dataclass(slots=True)
class Piece:
    """Bytes that become an object of their own.

    Attributes:
        number: Number of the part.
        checksum: Their CRC-32C.
        size: How many.
        sending: The request.
        is_sent: Whether the connection has all of them, so that the store may receive them.
        is_aborted: Whether the connection must not get the last of them.
        generation: The generation of the object, once it is known.
    """

    number: int
    checksum: int
    size: int
    sending: asyncio.Task[str] | None = None
    is_sent: bool = False
    is_aborted: bool = False
    generation: str | None = None


def _joined(pieces: Sequence[Piece], *, number: int = 0) -> Piece:
    """The piece with the bytes of others in their order."""
    whole = Piece(number, 0, 0)
    for piece in pieces:
        whole.checksum = crc32c_of_both(whole.checksum, piece.checksum, piece.size)
        whole.size += piece.size
    return whole


async def _succeeds(task: asyncio.Task[Any]) -> bool:
    """Wait for the end of a task, which is cancelled if the wait is."""
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
    return not task.cancelled() and task.exception() is None
