"""Quarantine: content that no record seemed to need, kept for a while at `<prefix>/.trash/<content_hash>`.

Reads find it there. Writes don't count it as stored.
"""

import logging
from contextlib import suppress

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address, is_quarantined, quarantined
from lakery_cloud.engine.model import CopyTooLarge, ObjectInfo
from lakery_cloud.engine.part_copies import copy_in_parts
from lakery_cloud.engine.settings import EngineSettings
from lakery_cloud.engine.transport import Transport

logger = logging.getLogger("lakery_cloud")


async def find_object(transport: Transport, address: Address) -> ObjectInfo | None:
    """The store's description of content, also if it is in quarantine; None if it is nowhere."""
    info = await transport.head(address)
    if info is None and (elsewhere := quarantined(address)) is not None:
        info = await transport.head(elsewhere)
        if info is not None:
            warn_of_quarantine(info)
    return info


def warn_of_quarantine(info: ObjectInfo) -> None:
    """Log that a read has found content in quarantine, if it has."""
    if is_quarantined(info.address):
        logger.warning(
            "content is read from quarantine at %s, since a garbage collection found no record of it; `lakery-cloud gc "
            "--restore` restores it",
            info.address,
        )


async def copy_as_is(
    transport: Transport,
    settings: EngineSettings,
    source: ObjectInfo,
    address: Address,
    *,
    replace: bool,
    algorithm: str | None = None,
) -> ObjectInfo | None:
    """Copy an object of any size with its attributes and tags; arguments and errors as for `Transport.copy_as_is`."""
    largest = settings.limits.max_copy_size
    if largest is None or source.size <= largest:
        with suppress(CopyTooLarge):
            return await transport.copy_as_is(source, address, replace=replace, algorithm=algorithm)
    # A listing tells tags only together with all other attributes.
    described = source if source.tags is not None else await transport.head(source.address)
    tags = described.tags if described else None
    attributes = ObjectAttributes(
        (described and described.content_type) or "application/octet-stream",
        described and described.content_encoding,
        await transport.tags(source.address) if tags is None else tags,
        described.metadata if described else {},
    )
    await copy_in_parts(transport, settings, source, source.size, address, attributes, create_only=not replace)
    return None
