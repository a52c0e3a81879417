"""Stock-taking: what a storage holds, and where that differs from what records name."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from enum import StrEnum
from typing import Any

from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.maintenance.jobs import Job, StorageSource
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import Shard, ShardResult, in_quarantine, listed
from lakery_cloud.streams.tasks import side_by_side

LOOKS_AT_A_TIME = 32
"""Objects of a shard that are looked for at a time."""
ROW_CHECKSUMS = ("md5", "crc64nvme", "crc32c")
"""The checksums that listings or inventories of some stores have."""


class InventoryJob(Job):
    """A list of all content. It counts `objects` and `bytes`, and reports each object as `row` describes it."""

    def description(self) -> Mapping[str, Any]:
        """The job."""
        return {"name": "inventory", "storage": repr(self.storage)}

    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        """List one shard."""
        rows, size = [], 0
        async with aclosing(listed(self.storage, shard, described=True)) as objects:
            async for content_hash, info in objects:
                rows.append(row(content_hash, info))
                size += info.size
                self.watch(1, info.size)
        return ShardResult(shard, {"objects": len(rows), "bytes": size}, rows)


def row(content_hash: str, info: ObjectInfo) -> dict[str, Any]:
    """A row of an inventory.

    It has the hash, the size in bytes, the time of the last change in ISO 8601, the ETag or generation, and where the
    listing tells them the content type, the storage class and checksums.
    """
    return {
        "content_hash": content_hash,
        "size": info.size,
        "modified": info.modified.isoformat() if info.modified else None,
        "version": info.version,
        "content_type": info.content_type,
        "storage_class": info.storage_class,
        **{algorithm: info.checksums.get(algorithm) for algorithm in ROW_CHECKSUMS},
    }


class Difference(StrEnum):
    """A difference between a storage and the records of its content."""

    ORPHAN = "orphan"
    """It is stored, and no record names it."""
    DANGLING = "dangling"
    """A record names it, and it is not stored."""
    QUARANTINED = "quarantined"
    """A record names it, and it is in quarantine: reads find it, and a garbage collection restores it."""


class CompareJob(Job):
    """A comparison of a storage with the records of its content.

    It counts `objects`, `bytes`, `needed` (hashes that records name) and each `Difference`, and reports each difference.
    With an inventory, it looks in the store for what would be dangling.

    Args:
        source: The storage.
        live: The content hashes that records name.
        differences: What to report.
    """

    def __init__(self, source: StorageSource, *, live: LiveSet, differences: frozenset[Difference]) -> None:
        super().__init__(source)
        self._live: LiveSet | None = live
        self._differences = differences

    def description(self) -> Mapping[str, Any]:
        """The job, which is no other one's if its records are not the same."""
        assert self._live is not None
        return {
            "name": "compare",
            "storage": repr(self.storage),
            "records": self._live.fingerprint(),
            "differences": sorted(self._differences),
        }

    def payload(self, shard: Shard) -> bytes:
        """The hashes of a shard that records name."""
        assert self._live is not None
        return "\n".join(self._live.hashes_of(shard)).encode()

    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        """Compare one shard."""
        needed = {*payload.decode().split()}
        counts: Counter[str] = Counter(needed=len(needed))
        found: list[dict[str, Any]] = []

        def report(content_hash: str, size: int | None, difference: Difference) -> None:
            counts[difference] += 1
            if difference in self._differences:
                found.append({"content_hash": content_hash, "size": size, "result": difference.value})

        async with aclosing(listed(self.storage, shard)) as objects:
            async for content_hash, info in objects:
                counts.update(objects=1, bytes=info.size)
                self.watch(1, info.size)
                if content_hash in needed:
                    needed.discard(content_hash)
                else:
                    report(content_hash, info.size, Difference.ORPHAN)
        if needed and shard.listing is not None and Difference.DANGLING in self._differences:
            needed -= await self._written_since(needed)
        if needed:
            quarantined = {content_hash: info.size async for content_hash, info in in_quarantine(self.storage, shard)}
            for content_hash in sorted(needed):
                size = quarantined.get(content_hash)
                report(content_hash, size, Difference.DANGLING if size is None else Difference.QUARANTINED)
        return ShardResult(shard, counts, sorted(found, key=lambda finding: str(finding["content_hash"])))

    async def _written_since(self, hashes: Iterable[str]) -> set[str]:
        """Those of the hashes that an inventory lacks although their content is stored."""
        transport, keys = await self.storage.transport(), self.storage.keys

        async def look(content_hash: str) -> str | None:
            return content_hash if await transport.head(keys.content(content_hash)) is not None else None

        async with aclosing(side_by_side(look, hashes, limit=LOOKS_AT_A_TIME)) as looked:
            return {content_hash async for content_hash in looked if content_hash is not None}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_live": None}
