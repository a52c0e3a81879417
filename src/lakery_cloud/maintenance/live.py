"""The live set of a garbage collection: the content hashes that records name, kept on disk.

It takes as much memory as one shard, whatever the number of records.
"""

from collections.abc import AsyncIterable, Iterable

from lakery_cloud.engine.keys import check_hash
from lakery_cloud.errors import ConfigError
from lakery_cloud.maintenance.shards import Shard
from lakery_cloud.maintenance.spool import DIGITS, Spooled
from lakery_cloud.records import ContentRecord
from lakery_cloud.streams.tasks import each

Live = ContentRecord | str
"""A record, or the content hash of one."""


class LiveSet(Spooled):
    """Content hashes on disk. Use it in a `with` block, which removes its files.

    Attributes:
        count: Number of hashes that were added.
    """

    def __init__(self) -> None:
        super().__init__()
        self._read: tuple[str, int, set[str]] | None = None

    async def add_all(self, source: Iterable[Live] | AsyncIterable[Live]) -> None:
        """Add the hashes of a source.

        Raises:
            InvalidRecord: An item has no content hash.
            Exception: The source's own errors.
        """
        async for item in each(source):
            self.add(item.content_hash if isinstance(item, ContentRecord) else item)

    def add(self, content_hash: str) -> None:
        """Add one hash.

        Raises:
            InvalidRecord: It is none. A hash in another form would make its content garbage.
        """
        check_hash(content_hash)
        self._spool.add(content_hash)

    def hashes_of(self, shard: Shard) -> set[str]:
        """The hashes of a shard. Any thread may ask."""
        return set(self._spool.lines_of(shard.hash_prefix))

    def names(self, content_hash: str) -> bool:
        """Whether a record names this content."""
        beginning = content_hash[:DIGITS]
        if self._read is None or self._read[:2] != (beginning, self.count):
            self._read = beginning, self.count, self.hashes_of(Shard(beginning))
        return content_hash in self._read[2]


async def live_set(sources: Iterable[Iterable[Live] | AsyncIterable[Live]], *, allow_empty: bool = False) -> LiveSet:
    """Read all sources.

    Raises:
        ConfigError: They have no hash at all, so that everything would be garbage, unless `allow_empty`.
        InvalidRecord: An item has no content hash.
        Exception: A source's own errors.
    """
    live = LiveSet()
    try:
        for source in sources:
            await live.add_all(source)
        if not live.count and not allow_empty:
            raise ConfigError(
                "no record names any content, so that everything would be garbage; check the files of records, or allow an "
                "empty set"
            )
    except BaseException:
        live.__exit__()
        raise
    return live
