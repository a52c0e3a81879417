"""`verify` reads all content of a storage, and finds objects whose bytes don't match the hash in their key."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from lakery_cloud.digest import DEFAULT_ALGORITHM
from lakery_cloud.engine.attributes import METADATA_ALGORITHM, METADATA_HASH, METADATA_SIZE
from lakery_cloud.engine.model import Archived, ObjectInfo
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.reader import read
from lakery_cloud.engine.storage_data import Location
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import IntegrityError, NoStorageData
from lakery_cloud.streams.budget import ByteBudget
from lakery_cloud.streams.hashing import new_hasher, update_hash
from lakery_cloud.streams.tasks import side_by_side

READS_AT_A_TIME = 8


class Problem(StrEnum):
    """A problem of a stored object."""

    DAMAGED = "damaged"
    """The hash of its bytes differs from the hash in its key."""
    TRUNCATED = "truncated"
    """It has fewer bytes than were written."""
    MISPLACED = "misplaced"
    """It is intact, but at the key of other content."""
    CHANGED = "changed"
    """It was replaced during the read, by another program: this library never replaces content."""
    ARCHIVED = "archived"
    """It was not read, since it is archived. Restore it, and verify it then."""


@dataclass(frozen=True, slots=True)
class Verified:
    """One object that was read.

    Attributes:
        info: Its properties in the store.
        content_hash: The hash in its key.
        problem: Its problem, or None if it is intact.
    """

    info: ObjectInfo
    content_hash: str
    problem: Problem | None


async def verify(
    storage: ObjectStorage[Any], *, after: str = "", at_a_time: int = READS_AT_A_TIME
) -> AsyncGenerator[Verified]:
    """Read and hash all content of a storage, several objects at a time, in the order of their keys.

    Objects that are deleted during the run are skipped. To resume an earlier run, pass the last content hash that it
    yielded as `after`.

    Args:
        storage: The storage to read. Its temporary keys are skipped.
        after: Skip content up to this hash.
        at_a_time: Number of objects to read at a time.

    Raises:
        BucketNotFound: The bucket does not exist.
        AccessDenied: The permission to list or read objects is missing.
        CredentialsError: Credentials are missing or refused.
        StorageUnavailable: The store could not be reached, or failed.
    """
    transport = await storage.transport()

    async def check(info: ObjectInfo) -> Verified | None:
        return await _check(storage, transport, info)

    async def wanted() -> AsyncGenerator[ObjectInfo]:
        async with aclosing(storage.list()) as listed:
            async for info in listed:
                if (storage.keys.hash_of(info.address.key) or "") > after:
                    yield info

    async with aclosing(side_by_side(check, wanted(), limit=at_a_time, ahead=at_a_time)) as checked:
        async for verified in checked:
            if verified is not None:
                yield verified


async def _check(storage: ObjectStorage[Any], transport: Transport, listed: ObjectInfo) -> Verified | None:
    info = await transport.head(listed.address)
    content_hash = storage.keys.hash_of(listed.address.key)
    if info is None or content_hash is None:
        return None
    hasher = new_hasher(info.metadata.get(METADATA_ALGORITHM, DEFAULT_ALGORITHM))
    unverified = Location(info.address, None, None)
    settings = replace(storage.settings, concurrent_ranges=1)
    try:
        async with aclosing(read(transport, unverified, settings=settings, budget=ByteBudget(1))) as chunks:
            async for chunk in chunks:
                await update_hash(hasher, chunk)
    except IntegrityError:
        return Verified(info, content_hash, Problem.CHANGED)
    except Archived:
        return Verified(info, content_hash, Problem.ARCHIVED)
    except NoStorageData:
        return None
    return Verified(info, content_hash, _problem(info, content_hash, hasher.hexdigest()))


def _problem(info: ObjectInfo, content_hash: str, found: str) -> Problem | None:
    if found == content_hash:
        return None
    if found == info.metadata.get(METADATA_HASH):
        return Problem.MISPLACED
    written = info.metadata.get(METADATA_SIZE, "")
    return Problem.TRUNCATED if written.isdecimal() and info.size < int(written) else Problem.DAMAGED
