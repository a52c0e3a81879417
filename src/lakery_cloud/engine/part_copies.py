"""Copies of large objects inside a store, in concurrent parts."""

import asyncio

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.engine.scoped_upload import ScopedUpload
from lakery_cloud.engine.settings import EngineSettings
from lakery_cloud.engine.transport import Transport
from lakery_cloud.streams.tasks import bounded_tasks


async def copy_in_parts(
    transport: Transport,
    settings: EngineSettings,
    source: ObjectInfo | asyncio.Task[ObjectInfo],
    size: int,
    address: Address,
    attributes: ObjectAttributes,
    *,
    create_only: bool,
) -> None:
    """Make an object from another one by a multipart upload.

    Args:
        transport: The store.
        settings: The storage's settings.
        source: The object to copy, or a task that makes it. The upload begins before the task ends.
        size: Its size in bytes.
        address: Bucket and key of the copy.
        attributes: Attributes of the copy.
        create_only: Whether an object at the address stays.

    Raises:
        VersionChanged: The source is gone, or has another version than `source` says.
        KeyExists, WriteConflict: As for `Transport.put`, if `create_only`.
    """
    limits = settings.limits
    step = max(limits.copy_part_size, -(-size // limits.max_parts))
    async with ScopedUpload(
        transport, address, attributes, is_temporary=False, cleanup_timeout=settings.cleanup_timeout
    ) as upload:
        made = source if isinstance(source, ObjectInfo) else await source
        # As many at once as allowed: their bytes pass through neither the link nor this process.
        async with bounded_tasks(settings.max_concurrent_parts) as tasks:
            copying = [
                await tasks.start(transport.copy_part(upload.upload, number, made, start, min(start + step, size)))
                for number, start in enumerate(range(0, size, step), start=1)
            ]
        await upload.complete([task.result() for task in copying], size=size, create_only=create_only)
