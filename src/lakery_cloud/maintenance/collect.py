"""`collect` moves content that no record needs into quarantine, and deletes it when it was not missed there.

No clock but the store's counts, no lock is taken, and any number of collectors, writers and readers may work at the same
time; docs/gc.md says why nothing is lost. Quarantine is `<prefix>/.trash/<content_hash>`: reads find content there, writes
don't count it as stored.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from time import monotonic
from typing import Any

from lakery_cloud.engine.keys import Address, quarantined
from lakery_cloud.engine.model import KeyExists, ObjectInfo, VersionChanged
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.quarantine import copy_as_is
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import PERMANENT_ERRORS, ConfigError, InvalidRecord, LakeryCloudError, NoStorageData, brief
from lakery_cloud.maintenance.jobs import Job, StorageSource
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import Shard, ShardResult, listed
from lakery_cloud.streams.tasks import side_by_side

DEFAULT_GRACE = timedelta(days=7)
MIN_GRACE = timedelta(hours=1)
LONGEST_LAG = timedelta(minutes=30)
"""How long a deletion may be sent after the look on which it relies, and how long it may take to arrive with all its
retries, unless the grace period is short."""
OBJECTS_AT_A_TIME = 16

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Fate(StrEnum):
    """What a collection does with an object, or would do."""

    QUARANTINED = "quarantined"
    """No record needs it, and it is old enough: it is moved into quarantine."""
    DELETED = "deleted"
    """It was in quarantine for long enough, and no record needs it."""
    RESTORED = "restored"
    """It is in quarantine, and a record needs it: it gets its content key back."""
    TIDIED = "tidied"
    """A copy in quarantine of content that has its content key again is deleted."""
    FAILED = "failed"
    """It could not be moved or deleted. The error says why."""


async def store_time(storage: ObjectStorage[Any]) -> datetime:
    """The time by the store's clock, or by this machine's if the store tells none."""
    transport = await storage.transport()
    return await transport.server_time(storage.keys.bucket) or datetime.now(UTC)


class CollectJob(Job):
    """A garbage collection as a job.

    It counts `objects`, `bytes`, `live`, `young`, `waiting` and each `Fate`, with its bytes as `<fate> bytes`, and reports
    each object with a fate.

    Args:
        source: The storage.
        live: The content hashes that records name.
        began: The time by the store's clock at which the first of the records was read.
        grace: How long the record of new content may take to appear in a source of the live set.
        dry_run: Only report what would be done.
        quarantine: Move content into quarantine, and delete it in a later run. Without it, content is deleted at once.
        at_a_time: Objects of a shard to work on at a time.

    Raises:
        ConfigError: The grace period is shorter than `MIN_GRACE`.
    """

    def __init__(
        self,
        source: StorageSource,
        *,
        live: LiveSet,
        began: datetime,
        grace: timedelta = DEFAULT_GRACE,
        dry_run: bool = True,
        quarantine: bool = True,
        at_a_time: int = OBJECTS_AT_A_TIME,
    ) -> None:
        super().__init__(source)
        if grace < MIN_GRACE:
            raise ConfigError(f"the grace period must be at least an hour, not {grace}")
        self._live: LiveSet | None = live
        self.began, self.grace = began, grace
        self.dry_run, self.quarantine, self.at_a_time = dry_run, quarantine, at_a_time

    @property
    def lag(self) -> timedelta:
        """How long a deletion may be sent after the look on which it relies, and how long it may take."""
        return min(LONGEST_LAG, self.grace / 8)

    def description(self) -> Mapping[str, Any]:
        """The job, and when it began: what an older live set has decided is not continued."""
        return {
            "name": "gc",
            "storage": repr(self.storage),
            "began": self.began.isoformat(),
            "grace": self.grace.total_seconds(),
            "dry_run": self.dry_run,
            "quarantine": self.quarantine,
        }

    def payload(self, shard: Shard) -> bytes:
        """The live hashes of a shard."""
        assert self._live is not None
        return "\n".join(self._live.hashes_of(shard)).encode()

    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        """Collect one shard."""
        storage = self.storage
        now = await store_time(storage)
        collection = _Collection(self, storage, await storage.transport(), live={*payload.decode().split()}, now=now)
        findings = []
        for work in (collection.empty_quarantine(shard), collection.collect(shard)):
            async with aclosing(work) as found:
                async for content_hash, info, fate, error in found:
                    collection.counts.update({fate: 1, f"{fate} bytes": info.size})
                    result = f"would be {fate}" if self.dry_run and fate is not Fate.FAILED else fate.value
                    finding: dict[str, Any] = {"content_hash": content_hash, "size": info.size, "result": result}
                    if info.modified is not None:
                        finding["modified"] = info.modified.isoformat()
                    findings.append(finding | ({"error": f"{type(error).__name__}: {error}"} if error else {}))
        return ShardResult(shard, collection.counts, findings)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_live": None}


Found = tuple[str, ObjectInfo, Fate, LakeryCloudError | None]
"""A content hash, the object, what was done, and the error if that failed."""


class _Collection:
    """The collection of one shard.

    Args:
        job: What to do.
        storage: The storage.
        transport: Its transport.
        live: The live hashes of the shard.
        now: The time by the store's clock.
    """

    def __init__(
        self, job: CollectJob, storage: ObjectStorage[Any], transport: Transport, *, live: set[str], now: datetime
    ) -> None:
        self._job = job
        self._storage = storage
        self._transport = transport
        self._live = live
        self._offset = now - timedelta(seconds=monotonic())
        self.counts: Counter[str] = Counter()

    # Quarantine.

    async def empty_quarantine(self, shard: Shard) -> AsyncGenerator[Found]:
        """Look at each object in quarantine."""
        keys, transport = self._storage.keys, self._transport
        listing = transport.list_described if transport.copies_need_description else transport.list
        objects = listing(keys.bucket, f"{keys.trash_root}{shard.hash_prefix}")
        results = side_by_side(self._look_in_quarantine, objects, limit=self._job.at_a_time)
        async with aclosing(results):
            async for found in results:
                if found is not None:
                    yield found

    async def _look_in_quarantine(self, info: ObjectInfo) -> Found | None:
        content_hash = info.address.key.rpartition("/")[2]
        content = self._storage.keys.content(content_hash)
        if quarantined(content) != info.address:
            return None  # it is not ours
        self._job.watch(1, info.size)
        try:
            current = await self._transport.head(content)
            if current is not None:
                fate = await self._tidy(info, current)
            elif content_hash in self._live:
                fate = await self._restore(info, content)
            else:
                fate = await self._delete_from_quarantine(info)
        except VersionChanged:
            fate = None  # another collection has just quarantined it again
        except PERMANENT_ERRORS:
            raise
        except LakeryCloudError as error:
            return content_hash, info, Fate.FAILED, error
        if fate is None:
            self.counts["waiting"] += 1
            return None
        return content_hash, info, fate, None

    async def _tidy(self, info: ObjectInfo, current: ObjectInfo) -> Fate | None:
        """Delete a copy whose content key has come back, if nobody can have begun to move that one too."""
        now, job = self._now(), self._job
        written = current.modified
        if written is None or not now - job.grace + 2 * job.lag < written < now - 2 * job.lag:
            return None
        if not job.dry_run:
            await self._transport.delete_if(info)
        return Fate.TIDIED

    async def _restore(self, info: ObjectInfo, content: Address) -> Fate:
        if not self._job.dry_run:
            # The copy stays for a later run: a deletion that another collection has sent may still arrive.
            with suppress(KeyExists):
                await copy_as_is(self._transport, self._storage.settings, info, content, replace=False)
        return Fate.RESTORED

    async def _delete_from_quarantine(self, info: ObjectInfo) -> Fate | None:
        job, looked = self._job, self._now()
        if info.modified is None or info.modified + job.grace + 2 * job.lag >= job.began:
            return None
        if not job.dry_run:
            # Looked at again after its content key was missing: another collection may have replaced it meanwhile.
            current = await self._transport.head(info.address)
            if current is None:
                return None
            if current.modified != info.modified or self._now() - looked > job.lag:
                return None
            await self._transport.delete_if(current)
        return Fate.DELETED

    # Content.

    async def collect(self, shard: Shard) -> AsyncGenerator[Found]:
        """Move or delete the garbage of a shard."""
        results = side_by_side(self._collect, self._garbage(shard), limit=self._job.at_a_time)
        async with aclosing(results):
            async for found in results:
                if found is not None:
                    yield found

    async def _garbage(self, shard: Shard) -> AsyncGenerator[tuple[str, ObjectInfo, datetime]]:
        """Content that no record names and that is old enough, with the time at which its listing began."""
        job, seen = self._job, self._now() if shard.listing is None else _LONG_AGO
        objects = listed(self._storage, shard, described=self._transport.copies_need_description)
        async with aclosing(objects):
            async for content_hash, info in objects:
                self.counts.update(objects=1, bytes=info.size)
                job.watch(1, info.size)
                if content_hash in self._live:
                    self.counts["live"] += 1
                elif self._is_old(info):
                    yield content_hash, info, seen
                else:
                    self.counts["young"] += 1

    def _is_old(self, info: ObjectInfo) -> bool:
        """Whether content is old enough to be garbage."""
        return info.modified is not None and info.modified + self._job.grace < self._job.began

    async def _collect(self, entry: tuple[str, ObjectInfo, datetime]) -> Found | None:
        content_hash, info, seen = entry
        fate = Fate.QUARANTINED if self._job.quarantine else Fate.DELETED
        if self._job.dry_run:
            return content_hash, info, fate, None
        try:
            if not self._job.quarantine or self._now() - seen > self._job.lag / 2:
                # The listing is too old to act on.
                seen = self._now()
                current = await self._transport.head(info.address)
                if current is None or not self._is_old(current):
                    return None
                info = current
            if self._job.quarantine:
                target = quarantined(info.address)
                assert target is not None
                await copy_as_is(self._transport, self._storage.settings, info, target, replace=True)
            if self._now() - seen > self._job.lag:
                return None  # too late to be safe; the next run copies it again
            await self._transport.delete_if(info)
        except VersionChanged:
            return None  # it was deleted, or written anew
        except PERMANENT_ERRORS:
            raise
        except LakeryCloudError as error:
            return content_hash, info, Fate.FAILED, error
        return content_hash, info, fate, None

    def _now(self) -> datetime:
        """The time by the store's clock."""
        return self._offset + timedelta(seconds=monotonic())


async def restore_quarantined(
    storage: ObjectStorage[Any], content_hashes: Iterable[str] | AsyncIterable[str] | None = None
) -> AsyncGenerator[tuple[str, int]]:
    """Give content in quarantine its content key back, and yield its hash and size.

    Its copy in quarantine is deleted by a later collection.

    Args:
        storage: The storage.
        content_hashes: The content; by default all that is in quarantine.

    Raises:
        InvalidRecord: A hash is none.
        NoStorageData: A hash is not in quarantine.
        LakeryCloudError: The storage's errors.
    """
    transport, keys = await storage.transport(), storage.keys

    async def find(content_hash: str) -> ObjectInfo:
        address = quarantined(keys.content(content_hash))
        if address is None:
            raise InvalidRecord(f"{brief(content_hash)} is not a content hash")
        info = await transport.head(address)
        if info is None:
            raise NoStorageData(f"{content_hash} is not in quarantine in {storage!r}")
        return info

    async def bring_back(item: str | ObjectInfo) -> tuple[str, int]:
        info = await find(item) if isinstance(item, str) else item
        content_hash = info.address.key.rpartition("/")[2]
        with suppress(KeyExists):
            await copy_as_is(transport, storage.settings, info, keys.content(content_hash), replace=False)
        return content_hash, info.size

    listing = transport.list_described if transport.copies_need_description else transport.list
    items: Iterable[str | ObjectInfo] | AsyncIterable[str | ObjectInfo] = (
        listing(keys.bucket, keys.trash_root) if content_hashes is None else content_hashes
    )
    async with aclosing(side_by_side(bring_back, items, limit=OBJECTS_AT_A_TIME)) as restored:
        async for each in restored:
            yield each
