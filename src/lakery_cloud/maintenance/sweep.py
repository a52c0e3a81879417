"""`sweep` removes the leftovers of killed writers: temporary objects, and uploads neither completed nor aborted."""

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
"""Longer than any write: Cloud Storage and Azure discard unfinished uploads after a week themselves."""
DELETES_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Leftover:
    """A temporary object or unfinished upload that is too old to belong to a running write.

    Attributes:
        address: Its bucket and key.
        begun: Start time of its write, from its key or from the store's list of uploads.
        size: Its size in bytes, or None for an upload, whose size stores don't report.
        upload: The upload, or None for an object.
    """

    address: Address
    begun: datetime
    size: int | None = None
    upload: Upload | None = None


async def leftovers(storage: ObjectStorage[Any], *, older_than: timedelta = DEFAULT_AGE) -> AsyncGenerator[Leftover]:
    """List the temporary objects and unfinished uploads below a storage's prefix that are older than an age.

    With a `temporary_bucket`, both buckets are searched. Objects at content keys and other prefixes are never listed, nor
    is anything of unknown age.

    Args:
        storage: The storage to search.
        older_than: Minimum age. It must exceed the duration of the longest write.

    Raises:
        ConfigError: `older_than` is negative.
        BucketNotFound: The bucket does not exist.
        AccessDenied: The permission to list objects or uploads is missing.
        CredentialsError: Credentials are missing or refused.
        StorageUnavailable: The store could not be reached, or failed.
    """
    if older_than < timedelta(0):
        raise ConfigError(f"older_than must not be negative, not {older_than}")
    latest = datetime.now(UTC) - older_than
    keys, transport = storage.keys, await storage.transport()
    for bucket in keys.buckets:
        async for info in transport.list(bucket, keys.temporary_root):
            begun = begun_at(info.address.key)
            if begun is not None and begun <= latest:
                yield Leftover(info.address, begun, info.size)
        async for upload in transport.list_uploads(bucket, keys.root):
            is_temporary = upload.address.key.rpartition("/")[0] + "/" == keys.temporary_root
            is_to_content = bucket == keys.bucket and keys.hash_of(upload.address.key) is not None
            if not is_temporary and not is_to_content:
                continue  # an upload of another program
            # The later of the two, since clocks differ and some stores report a wrong time.
            begun = max(filter(None, (upload.begun, begun_at(upload.address.key))), default=None)
            if begun is not None and begun <= latest:
                yield Leftover(upload.address, begun, upload=upload)


async def sweep(storage: ObjectStorage[Any], *, older_than: timedelta = DEFAULT_AGE) -> AsyncGenerator[Leftover]:
    """Delete `leftovers`, and yield each after its deletion. Arguments and errors are those of `leftovers`.

    Other processes may write and sweep at the same time: a leftover that is already gone is not an error.
    """
    found = [leftover async for leftover in leftovers(storage, older_than=older_than)]
    transport = await storage.transport()

    async def remove(batch: Sequence[Leftover]) -> Sequence[Leftover]:
        if batch[0].upload is not None:
            await transport.abort_upload(batch[0].address, batch[0].upload)
        else:
            await transport.delete_all(batch[0].address.bucket, [leftover.address.key for leftover in batch])
        return batch

    batches = _batches(found, transport.max_deletes)
    removed = ordered_map(remove, batches, size_of=lambda _: 0, budget=ByteBudget(1), limit=DELETES_AT_A_TIME)
    async for batch in removed:
        for leftover in batch:
            yield leftover


def _batches(found: Sequence[Leftover], max_size: int) -> list[Sequence[Leftover]]:
    """Group the objects of each bucket into batches for one request each, and uploads into batches of one."""
    objects: dict[str, list[Leftover]] = {}
    for leftover in found:
        if leftover.upload is None:
            objects.setdefault(leftover.address.bucket, []).append(leftover)
    uploads = [[leftover] for leftover in found if leftover.upload is not None]
    batches = [each[start : start + max_size] for each in objects.values() for start in range(0, len(each), max_size)]
    return [*batches, *uploads]
