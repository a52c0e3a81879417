"""The steps of a write: create-only requests, multipart uploads to a temporary key, and the copy to the content key."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, NamedTuple, TypeVar

from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.attributes import ObjectAttributes, attributes_of_content, attributes_of_temporary
from lakery_cloud.engine.keys import Address, KeySpace
from lakery_cloud.engine.model import (
    CopyTooLarge,
    KeyExists,
    ObjectInfo,
    Receipt,
    Uncertain,
    VersionChanged,
    WriteConflict,
)
from lakery_cloud.engine.part_copies import copy_in_parts
from lakery_cloud.engine.requests import backoff
from lakery_cloud.engine.scoped_upload import ScopedUpload
from lakery_cloud.engine.sessions import Session
from lakery_cloud.engine.transport import missing
from lakery_cloud.errors import AccessDenied, BucketNotFound, IntegrityError, StorageUnavailable
from lakery_cloud.storage import Digest
from lakery_cloud.streams.budget import Lease
from lakery_cloud.streams.pace import FIRST_PARTS, Pace
from lakery_cloud.streams.parts import (
    Part,
    PartSizes,
    cut,
)
from lakery_cloud.streams.tasks import BoundedTasks, bounded_tasks

T = TypeVar("T")

CREATE_ATTEMPTS = 6
"""Create-only requests that may conflict with another writer (409 on S3) before a write fails."""
MAX_REFUSALS = 4
"""Refusals of a create-only request for a key that has no object, before a write fails.

A policy refuses each one. A writer that races with deletions of its content is refused once, seldom twice: when six
processes wrote and deleted the same three files, 194 of 2,664 writes were refused once, 11 twice and 3 three times.
"""
MIN_STREAMS = 3
"""Streams whose parts fit into `max_buffered_bytes` when each sends as many at a time as it may."""
CONFLICT_PAUSE = 0.1
"""Longest pause before the second attempt, in seconds; doubled for each further one."""


class _Source(NamedTuple):
    """The parts of a stream.

    Attributes:
        first: The first part, which is taken away.
        rest: All others.
        digesting: Hashes them.
        lease: Gets their bytes back.
    """

    first: list[Part]
    rest: AsyncGenerator[Part]
    digesting: DigestingStream
    lease: Lease


class Writer:
    """Writes content to the keys of one storage."""

    def __init__(self, session: Session, keys: KeySpace) -> None:
        self._session = session
        self._transport = session.transport
        self._settings = session.settings
        self._limits = session.settings.limits
        self._keys = keys

    async def put(self, data: bytes, digest: Digest, tags: Mapping[str, str]) -> None:
        """Write one blob with one create-only request."""
        address = self._keys.content(digest["content_hash"])
        attributes = attributes_of_content(digest, tags)
        if self._session.remembers(address.key) and await self.is_known_to_be_stored(address, digest):
            return
        await self._create(address, digest, lambda: self._transport.put(address, data, attributes))

    async def stream(
        self, digesting: DigestingStream, finish_digest: Callable[[], Digest], tags: Mapping[str, str]
    ) -> Digest:
        """Write a stream: as one blob if it fits into one part, else by a multipart upload.

        The upload goes to the content key if the digest is known and the store allows it, else to a temporary key, which
        the store copies.
        """
        sizes = PartSizes(
            self._settings.part_size,
            self._limits.max_part_size,
            self._limits.max_parts,
            self._limits.max_object_size,
            self._limits.part_multiple,
            self._limits.equal_parts,
        )
        with self._session.write_budget.lease() as lease:
            async with aclosing(cut(digesting.undigested(), sizes, lease)) as parts:
                # A list gives the part away: a variable would keep its bytes until the end of the stream.
                first = [await anext(parts)]
                if first[0].is_last:
                    data = first.pop().data
                    await digesting.update(data)
                    digest = finish_digest()
                    await self.put(data, digest, tags)
                else:
                    source = _Source(first, parts, digesting, lease)
                    known = digesting.expected
                    if known is not None and self._transport.uploads_to_content:
                        digest = await self._upload_known(known, source, finish_digest, tags)
                    else:
                        digest = await self._multipart(source, finish_digest, tags)
        return digest

    async def is_stored(self, address: Address, digest: Digest, *, found: ObjectInfo | None = None) -> bool:
        """Whether the content key has this content already.

        Args:
            address: The content key.
            digest: Digest of the content.
            found: The object at the key, if it is known.

        Raises:
            IntegrityError: It has other content.
        """
        info = found or await self._transport.head(address)
        if info is None:
            self._session.forget(address.key)
            return False
        _check_same(info, digest)
        self._session.remember(address.key)
        return True

    async def is_known_to_be_stored(self, content: Address, digest: Digest) -> bool:
        """As `is_stored`, but false without the permission to look."""
        try:
            return await self.is_stored(content, digest)
        except AccessDenied:
            # Without the permission to list, S3 answers this for a missing object; the create-only copy decides.
            return False

    async def _upload_known(
        self, known: Digest, source: _Source, finish_digest: Callable[[], Digest], tags: Mapping[str, str]
    ) -> Digest:
        content = self._keys.content(known["content_hash"])

        async def compare() -> None:
            finish_digest()

        try:
            async with self._upload(content, attributes_of_content(known, tags), is_temporary=False) as upload:
                async with self._sending() as tasks:
                    sending, _, size = await self._send(tasks, upload, source, compare, last_waits=True)
                receipts = [task.result() for task in sending]
                await self._create(content, known, lambda: upload.complete(receipts, size=size, create_only=True))
        except (KeyExists, WriteConflict, Uncertain) as failure:
            # Of the beginning or of a part: the last one makes the object on Cloud Storage.
            with suppress(StorageUnavailable):
                if await self.is_known_to_be_stored(content, known):
                    return known
            if isinstance(failure, Uncertain):
                raise
            raise StorageUnavailable(
                f"creating {content} is refused although the key has no object: {failure}; write the stream again"
            ) from failure
        return known

    async def _multipart(self, source: _Source, finish_digest: Callable[[], Digest], tags: Mapping[str, str]) -> Digest:
        async def look() -> tuple[Digest, Address, bool]:
            digest = finish_digest()
            content = self._keys.content(digest["content_hash"])
            return digest, content, await self.is_known_to_be_stored(content, digest)

        attributes = attributes_of_temporary(source.digesting.get_digest(allow_incomplete=True))
        async with (
            self._upload(self._keys.temporary(), attributes, is_temporary=True) as upload,
            self._sending() as tasks,
        ):
            sending, looking, size = await self._send(tasks, upload, source, look)
            digest, content, is_stored = await looking
            if not is_stored:
                making = tasks.start_at_once(self._make_temporary(upload, sending, size))
                await self._copy(making, upload.address, content, digest, tags)
        return digest

    async def _make_temporary(
        self, upload: ScopedUpload, sending: Sequence[asyncio.Task[Receipt]], size: int
    ) -> ObjectInfo:
        """Complete the upload to a temporary key once its parts are sent."""
        made = await upload.complete([await task for task in sending], size=size)
        made = made or await self._transport.head(upload.address)
        if made is None or made.size != size:
            raise IntegrityError(
                f"{size} bytes were sent to {upload.address}, which now has {made.size if made else 'no object'}; nothing "
                "was stored, write the stream again"
            )
        return made

    async def _send(
        self,
        tasks: BoundedTasks,
        upload: ScopedUpload,
        source: _Source,
        when_hashed: Callable[[], Coroutine[Any, Any, T]],
        *,
        last_waits: bool = False,
    ) -> tuple[list[asyncio.Task[Receipt]], asyncio.Task[T], int]:
        """Send parts while the stream is read, and hash them in order meanwhile.

        Returns the tasks that send parts, the one that ends with the result of `when_hashed`, and the bytes of the stream.
        The last tasks may still be running.

        Args:
            tasks: Starts them.
            upload: The upload.
            source: The parts.
            when_hashed: Called once all parts are hashed, perhaps while the last ones are sent.
            last_waits: Whether the last part, which makes the object on some stores, is sent after `when_hashed`.
        """

        async def send(part: Part, hashing: asyncio.Future[None]) -> Receipt:
            if part.is_last and last_waits:
                await ending
            receipt = await self._transport.upload_part(upload.upload, part)
            await hashing
            source.lease.release(part.size)
            return receipt

        async def end_after(hashing: asyncio.Future[None]) -> T:
            await hashing
            return await when_hashed()

        sending: list[asyncio.Task[Receipt]] = []
        size = 0
        async for part in _chain(source.first, source.rest):
            hashing = source.digesting.hash_ahead(*part.pieces)
            if part.is_last:
                ending = tasks.start_at_once(end_after(hashing))
            size += part.size
            sending.append(await tasks.start(send(part, hashing)))
            del part  # its bytes are released once it is sent, perhaps before the next part arrives
        return sending, ending, size

    async def _copy(
        self,
        making: asyncio.Task[ObjectInfo],
        temporary: Address,
        content: Address,
        digest: Digest,
        tags: Mapping[str, str],
    ) -> None:
        """Create the content key from the temporary object, which may still be made."""
        attributes, size = attributes_of_content(digest, tags), digest["content_size"]
        largest = self._limits.max_copy_size

        async def create() -> None:
            if largest is None or size <= largest:
                with suppress(CopyTooLarge):
                    await self._copy_at_once(await making, content, digest, attributes)
                    return
            await copy_in_parts(self._transport, self._settings, making, size, content, attributes, create_only=True)

        try:
            await self._create(content, digest, create)
        except VersionChanged as signal:
            # Of a copy across buckets, some stores say the same if the content's bucket is missing.
            if content.bucket != temporary.bucket:
                error = await missing(self._transport, content)
                if isinstance(error, BucketNotFound):
                    raise error from signal
            raise IntegrityError(
                f"another client changed {temporary} before it was copied; write the stream again"
            ) from signal

    async def _copy_at_once(
        self, source: ObjectInfo, content: Address, digest: Digest, attributes: ObjectAttributes
    ) -> None:
        copy = await self._transport.copy(source, content, attributes)
        if copy is None:
            return
        try:
            _check_same(copy, digest)
        except IntegrityError:
            # It is ours: the request that made it was create-only.
            await self._transport.delete(content, version_id=copy.version_id)
            raise

    async def _create(self, content: Address, digest: Digest, create: Callable[[], Awaitable[object]]) -> None:
        """Make the content key with a create-only request. An existing key with this content is success."""
        refusals = 0
        for attempt in range(1, CREATE_ATTEMPTS + 1):
            try:
                await create()
            except KeyExists as signal:
                if await self.is_stored(content, digest, found=signal.found):
                    return
                refusals += 1  # another client has deleted it meanwhile, or the store refuses for a reason of its own
                if refusals == MAX_REFUSALS:
                    raise StorageUnavailable(
                        f"creating {content} is refused although the key has no object: {signal}. Check the policies of "
                        "the bucket and of the organization, and whether another client writes and deletes it"
                    ) from signal
            except WriteConflict:
                if await self.is_known_to_be_stored(content, digest):  # the other writer has won
                    return
                await asyncio.sleep(backoff(attempt, first=CONFLICT_PAUSE))
            except Uncertain:
                with suppress(StorageUnavailable):
                    if await self.is_known_to_be_stored(content, digest):
                        return
                raise
            else:
                self._session.remember(content.key)
                return
        raise StorageUnavailable(
            f"creating {content} conflicted with another write {CREATE_ATTEMPTS} times; nothing was stored, try again"
        )

    def _upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> ScopedUpload:
        return ScopedUpload(
            self._transport,
            address,
            attributes,
            is_temporary=is_temporary,
            cleanup_timeout=self._settings.cleanup_timeout,
        )

    def _sending(self) -> AbstractAsyncContextManager[BoundedTasks]:
        """Tasks that send parts: as many as one stream may keep in memory."""
        share = self._settings.max_buffered_bytes // MIN_STREAMS
        fitting = share // (self._settings.part_size * self._transport.copies_of_part)
        most = min(self._settings.max_concurrent_parts, max(FIRST_PARTS, fitting))
        return bounded_tasks(Pace(1) if self._limits.ordered_parts else Pace(most, link=self._session.link))


def _check_same(info: ObjectInfo, digest: Digest) -> None:
    if info.size != digest["content_size"]:
        raise IntegrityError(
            f"{info.address} has {info.size} bytes, but content with this hash has {digest['content_size']}; nothing was "
            "changed. Find out who wrote it, and delete it before writing again"
        )
    expected = f"{digest['content_hash_algorithm']}:{digest['content_hash']}"
    algorithm = digest["content_hash_algorithm"]
    if info.content_hash and info.content_hash.startswith(f"{algorithm}:") and info.content_hash != expected:
        raise IntegrityError(
            f"{info.address} has content with the hash {info.content_hash}, not {expected}. Find out who wrote it, and "
            "delete it before writing again"
        )


async def _chain(first: list[Part], rest: AsyncIterable[Part]) -> AsyncGenerator[Part]:
    """All parts; it keeps none after the next one is requested."""
    yield first.pop()
    async for part in rest:
        yield part
        del part
