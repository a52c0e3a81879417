"""Copies of large objects inside a store, in concurrent parts."""

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
    source: ObjectInfo,
    address: Address,
    attributes: ObjectAttributes,
    *,
    create_only: bool,
) -> None:
    """Make an object from another one by a multipart upload.

    Raises:
        VersionChanged: The source is gone, or has another version than `source` says.
        KeyExists, WriteConflict: As for `Transport.put`, if `create_only`.
    """
    limits, size = settings.limits, source.size
    step = max(limits.copy_part_size, -(-size // limits.max_parts))
    async with ScopedUpload(
        transport, address, attributes, is_temporary=False, cleanup_timeout=settings.cleanup_timeout
    ) as upload:
        # As many at once as allowed: their bytes pass through neither the link nor this process.
        async with bounded_tasks(settings.max_concurrent_parts) as tasks:
            copying = [
                await tasks.start(transport.copy_part(upload.upload, number, source, start, min(start + step, size)))
                for number, start in enumerate(range(0, size, step), start=1)
            ]
        await upload.complete([task.result() for task in copying], size=size, create_only=create_only)
