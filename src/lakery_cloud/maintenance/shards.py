"""Shards: the content of a storage, split by the first digits of its hashes.

Hashes are uniform, so that one page of a listing tells how many objects there are, and shards of as many digits have about
as many objects. A shard is a few bytes: it can be given to another process or machine, and written to a file. The shards of
an inventory take their rows along.
"""

import abc
import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lakery_cloud.engine.keys import KeySpace, is_hash
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError

DIGITS = "0123456789abcdef"
SHARDS = 256
MAX_OBJECTS = 50_000
"""Objects of one shard: some minutes of reading small ones, and findings that fit into memory."""
MAX_DIGITS = 8

_SAMPLE = 1000
"""Objects to list for an estimate: one page on most stores (S3 API Reference, "ListObjectsV2")."""


class Listing(abc.ABC):
    """A list of content that replaces those of the store, such as an inventory.

    Attributes:
        name: Tells it from any other one, on any machine.
    """

    name: str

    @abc.abstractmethod
    def count(self, hash_prefix: str) -> float:
        """About how many objects have a hash that begins with these digits."""

    @abc.abstractmethod
    def entries(self, keys: KeySpace, hash_prefix: str) -> list[tuple[str, ObjectInfo]]:
        """The content whose hash begins with these digits, each once, in the order of the hashes."""

    @abc.abstractmethod
    def part(self, hash_prefix: str) -> "Listing":
        """The same for these digits alone, which can be pickled."""


class Shard(NamedTuple):
    """All content whose hash begins with the same digits.

    Attributes:
        hash_prefix: The digits; none for all content.
        listing: What lists the content; None is the store.
    """

    hash_prefix: str
    listing: Listing | None = None

    def split(self) -> tuple["Shard", ...]:
        """The sixteen shards that this one consists of."""
        return tuple(self._replace(hash_prefix=self.hash_prefix + digit) for digit in DIGITS)

    def plain(self) -> "Shard":
        """The digits alone, as results and manifests have them."""
        return Shard(self.hash_prefix)

    def portable(self) -> "Shard":
        """The same for another process."""
        return self if self.listing is None else self._replace(listing=self.listing.part(self.hash_prefix))


EVERYTHING = Shard("")


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What a job found in one shard.

    Attributes:
        shard: The shard.
        counts: Numbers by name, such as objects and bytes; the sum of all shards is the result of the job.
        findings: A JSON object for each thing to report, in the order of the hashes.
    """

    shard: Shard
    counts: Mapping[str, int] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] = ()


async def listed(
    storage: ObjectStorage[Any], shard: Shard = EVERYTHING, *, described: bool = False
) -> AsyncGenerator[tuple[str, ObjectInfo]]:
    """List the content of a shard: each content hash with its object. Errors are those of `ObjectStorage.list`."""
    if shard.listing is not None:
        for entry in await asyncio.to_thread(shard.listing.entries, storage.keys, shard.hash_prefix):
            yield entry
        return
    async with aclosing(storage.list(hash_prefix=shard.hash_prefix, described=described)) as infos:
        async for info in infos:
            content_hash = storage.keys.hash_of(info.address.key)
            assert content_hash is not None  # `list` lists no other keys
            yield content_hash, info


async def in_quarantine(
    storage: ObjectStorage[Any], shard: Shard = EVERYTHING, *, described: bool = False
) -> AsyncGenerator[tuple[str, ObjectInfo]]:
    """List the content of a shard that is in quarantine: each content hash with its object there."""
    transport, keys = await storage.transport(), storage.keys
    listing = transport.list_described if described else transport.list
    async for info in listing(keys.bucket, f"{keys.trash_root}{shard.hash_prefix}"):
        content_hash = info.address.key.rpartition("/")[2]
        if is_hash(content_hash):  # else it is not ours
            yield content_hash, info


async def plan(
    storage: ObjectStorage[Any],
    *,
    shards: int = SHARDS,
    max_objects: int = MAX_OBJECTS,
    inventory: Listing | None = None,
) -> list[Shard]:
    """Split the content of a storage into shards, in the order of their hashes.

    This lists one page of the storage, and one of each shard that is large. A folder, which is always listed as a whole,
    is split into few. With an inventory, it sends no request, and jobs on its shards list nothing.

    Args:
        storage: The storage.
        shards: The least number of shards. They are split by hexadecimal digits: into 1, 16, 256, ...
        max_objects: About the most objects of one shard.
        inventory: What lists the content instead of the store, such as an `Inventory`.

    Raises:
        ConfigError: An argument is less than 1.
        BucketNotFound: The bucket does not exist.
        AccessDenied: The permission to list objects is missing.
        CredentialsError: Credentials are missing or refused.
        StorageUnavailable: The store could not be reached, or failed.
    """
    if shards < 1 or max_objects < 1:
        raise ConfigError(f"shards and max_objects must be at least 1, not {shards} and {max_objects}")
    if inventory is None and not (await storage.transport()).lists_by_prefix:
        shards = min(shards, len(DIGITS))
    planned: list[Shard] = []
    pending = [(Shard("", inventory), True)]
    while pending:
        shard, may_be_large = pending.pop()
        is_large = may_be_large and await estimate(storage, shard) > max_objects
        too_few = 16 ** len(shard.hash_prefix) < shards
        if (is_large or too_few) and len(shard.hash_prefix) < MAX_DIGITS:
            pending += ((part, is_large) for part in reversed(shard.split()))
        else:
            planned.append(shard)
    return planned


async def estimate(storage: ObjectStorage[Any], shard: Shard) -> float:
    """About how many objects a shard has: exact if they are few, else from the distance between its first ones."""
    if shard.listing is not None:
        return shard.listing.count(shard.hash_prefix)
    count, last = 0, ""
    async with aclosing(listed(storage, shard)) as sample:
        async for content_hash, _ in sample:
            count, last = count + 1, max(last, content_hash)
            if count == _SAMPLE:
                break
        else:
            return count
    digits = last[len(shard.hash_prefix) :][:MAX_DIGITS]
    return count * float(16 ** len(digits)) / (int(digits, 16) + 1)
