"""`sweep` removes the leftovers of killed writers: temporary objects, and uploads neither completed nor aborted."""

import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lakery_cloud.engine.keys import Address, begun_at
from lakery_cloud.engine.model import KeptVersion, Upload
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import AccessDenied, ConfigError, LakeryCloudError
from lakery_cloud.streams.budget import ByteBudget
from lakery_cloud.streams.tasks import ordered_map

logger = logging.getLogger("lakery_cloud")

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
        version_id: The store's name for the version of the object, if its bucket keeps versions.
        is_noncurrent: Whether it is a version of an object that was replaced or deleted, or the marker of a deletion.
    """

    address: Address
    begun: datetime
    size: int | None = None
    upload: Upload | None = None
    version_id: str | None = None
    is_noncurrent: bool = False


async def leftovers(storage: ObjectStorage[Any], *, older_than: timedelta = DEFAULT_AGE) -> AsyncGenerator[Leftover]:
    """List the temporary objects and unfinished uploads below a storage's prefix that are older than an age.

    In a bucket that keeps versions, these are all versions of temporary objects, if the permissions suffice to list them.
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
        versions = await _versions(transport, bucket, keys.temporary_root)
        current = {version.address.key: version.version_id for version in versions if version.is_current}
        async for info in transport.list(bucket, keys.temporary_root):
            begun = begun_at(info.address.key)
            if begun is not None and begun <= latest:
                yield Leftover(info.address, begun, info.size, version_id=current.get(info.address.key))
        for address, size, version_id, is_current in versions:
            begun = begun_at(address.key)
            if not is_current and begun is not None and begun <= latest:
                yield Leftover(address, begun, size, version_id=version_id, is_noncurrent=True)
        async for upload in transport.list_uploads(bucket, keys.root):
            is_temporary = upload.address.key.rpartition("/")[0] + "/" == keys.temporary_root
            is_to_content = bucket == keys.bucket and keys.hash_of(upload.address.key) is not None
            if not is_temporary and not is_to_content:
                continue  # an upload of another program
            # The later of the two, since clocks differ and some stores report a wrong time.
            begun = max(filter(None, (upload.begun, begun_at(upload.address.key))), default=None)
            if begun is not None and begun <= latest:
                yield Leftover(upload.address, begun, upload=upload)


async def _versions(transport: Transport, bucket: str, root: str) -> list[KeptVersion]:
    try:
        return [version async for version in transport.list_versions(bucket, root)]
    except LakeryCloudError as error:  # not every store can, and not every caller may
        logger.info("noncurrent versions of temporary objects in the bucket %r can't be listed: %s", bucket, error)
        return []


async def sweep(storage: ObjectStorage[Any], *, older_than: timedelta = DEFAULT_AGE) -> AsyncGenerator[Leftover]:
    """Delete `leftovers`, and yield each after its deletion. Arguments and errors are those of `leftovers`.

    Other processes may write and sweep at the same time: a leftover that is already gone is not an error. Noncurrent
    versions that the permissions or a lock keep are skipped.
    """
    found = [leftover async for leftover in leftovers(storage, older_than=older_than)]
    transport = await storage.transport()

    async def remove(batch: Sequence[Leftover]) -> Sequence[Leftover]:
        first = batch[0]
        if first.upload is not None:
            await transport.abort_upload(first.address, first.upload)
        elif first.is_noncurrent:
            return await _delete_versions(transport, batch)
        else:
            await transport.delete_all(
                first.address.bucket, {leftover.address.key: leftover.version_id for leftover in batch}
            )
        return batch

    batches = _batches(found, transport.max_deletes)
    removed = ordered_map(remove, batches, size_of=lambda _: 0, budget=ByteBudget(1), limit=DELETES_AT_A_TIME)
    async for batch in removed:
        for leftover in batch:
            yield leftover


async def _delete_versions(transport: Transport, versions: Sequence[Leftover]) -> Sequence[Leftover]:
    """Delete noncurrent versions of one object, and return those that the store lets go."""
    deleted: list[Leftover] = []
    # Markers last: without its marker, a version that has to stay would be current again.
    for version in sorted(versions, key=lambda version: not version.size):
        assert version.version_id is not None
        try:
            await transport.delete_version(version.address, version.version_id)
        except AccessDenied as error:
            logger.info("a noncurrent version of %s stays: %s", version.address, error)
            break
        deleted.append(version)
    return deleted


def _batches(found: Sequence[Leftover], max_size: int) -> list[Sequence[Leftover]]:
    """Group the objects of each bucket into batches for one request each, noncurrent versions by keys; uploads alone."""
    objects: dict[str, list[Leftover]] = {}
    versions: dict[Address, list[Leftover]] = {}
    for leftover in found:
        if leftover.is_noncurrent:
            versions.setdefault(leftover.address, []).append(leftover)
        elif leftover.upload is None:
            objects.setdefault(leftover.address.bucket, []).append(leftover)
    uploads = [[leftover] for leftover in found if leftover.upload is not None]
    batches = [each[start : start + max_size] for each in objects.values() for start in range(0, len(each), max_size)]
    return [*batches, *versions.values(), *uploads]
