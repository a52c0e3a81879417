"""`sweep` removes what killed writers left behind: temporary objects, and uploads neither completed nor aborted."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lakery_cloud.engine.keys import Address, begun_at
from lakery_cloud.engine.model import Upload
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError
from lakery_cloud.streams.budget import ByteBudget
from lakery_cloud.streams.tasks import ordered_map

DEFAULT_AGE = timedelta(days=7)
"""Longer than any write takes: Cloud Storage and Azure discard unfinished uploads after a week too."""
DELETES_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something temporary that no write under way can need any more.

    Attributes:
        address: Its key.
        begun: When it was begun: by its name, or by what the store says of an upload.
        size: Its size in bytes; None for an upload, of which stores don't tell it.
        upload: The upload, if it is one.
    """

    address: Address
    begun: datetime
    size: int | None = None
    upload: Upload | None = None


async def leftovers(storage: ObjectStorage[Any], *, older_than: timedelta = DEFAULT_AGE) -> AsyncGenerator[Leftover]:
    """What writers left behind below a storage's prefix: its temporary objects, and its unfinished uploads.

    Nothing but temporary keys and uploads is looked at, never the object at a content key, and nothing of another prefix.
    What has an age that can't be told is left out.

    Args:
        storage: Where to look.
        older_than: How long ago it was begun at least. A write that takes longer would lose what it has sent.

    Raises:
        ConfigError: The age is negative.
        BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: See there.
    """
    if older_than < timedelta(0):
        raise ConfigError(f"the age must not be negative, as {older_than} is")
    latest = datetime.now(UTC) - older_than
    keys, transport = storage.keys, await storage.transport()
    async for info in transport.list(keys.bucket, keys.temporary_root):
        begun = begun_at(info.address.key)
        if begun is not None and begun <= latest:
            yield Leftover(info.address, begun, info.size)
    async for upload in transport.list_uploads(keys.bucket, keys.root):
        is_temporary = upload.address.key.rpartition("/")[0] + "/" == keys.temporary_root
        if not is_temporary and keys.hash_of(upload.address.key) is None:
            continue  # of somebody else
        # The later of both, since clocks differ, and some stores tell no true time.
        begun = max(filter(None, (upload.begun, begun_at(upload.address.key))), default=None)
        if begun is not None and begun <= latest:
            yield Leftover(upload.address, begun, upload=upload)


async def sweep(storage: ObjectStorage[Any], *, older_than: timedelta = DEFAULT_AGE) -> AsyncGenerator[Leftover]:
    """Delete `leftovers`, and tell each when it is gone. Arguments and errors as there.

    Sweeping while others write, or sweep, does no harm: what is gone already is no error.
    """
    found = [leftover async for leftover in leftovers(storage, older_than=older_than)]
    transport = await storage.transport()

    async def remove(batch: Sequence[Leftover]) -> Sequence[Leftover]:
        if batch[0].upload is not None:
            await transport.abort_upload(batch[0].address, batch[0].upload)
        else:
            await transport.delete_all(storage.keys.bucket, [leftover.address.key for leftover in batch])
        return batch

    batches = _batches(found, transport.max_deletes)
    removed = ordered_map(remove, batches, size_of=lambda _: 0, budget=ByteBudget(1), limit=DELETES_AT_A_TIME)
    async for batch in removed:
        for leftover in batch:
            yield leftover


def _batches(found: Sequence[Leftover], most: int) -> list[Sequence[Leftover]]:
    """Objects by so many, then uploads one by one."""
    objects = [leftover for leftover in found if leftover.upload is None]
    uploads = [[leftover] for leftover in found if leftover.upload is not None]
    return [*(objects[start : start + most] for start in range(0, len(objects), most)), *uploads]
