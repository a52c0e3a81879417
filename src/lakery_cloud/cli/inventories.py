"""The option of commands that take a provider's inventory instead of listings."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

from cyclopts import Parameter

from lakery_cloud.cli.common import storage_of
from lakery_cloud.engine.object_storage import ObjectStorage

if TYPE_CHECKING:
    from lakery_cloud.maintenance.inventories import Inventory

InventoryName = Annotated[
    str | None,
    Parameter(
        name="--inventory",
        help="Manifest of an S3 Inventory, a Storage Insights inventory report or an Azure Blob inventory, a file or a URL "
        "such as s3://bucket/key, to use instead of listings. Content that is newer than the inventory is not seen.",
    ),
]

_LOCAL = "file://"


@asynccontextmanager
async def open_inventory(storage: ObjectStorage[Any], name: str | None) -> AsyncGenerator["Inventory | None"]:
    """Read an inventory of the storage's bucket, if one is named.

    Raises:
        ConfigError, IntegrityError, MissingDependency: As for `read_inventory`.
    """
    if name is None:
        yield None
        return
    from lakery_cloud.maintenance.inventories import read_inventory

    if name.startswith(_LOCAL) or "://" not in name:
        inventory = await read_inventory(storage, unquote(name[len(_LOCAL) :]) if name.startswith(_LOCAL) else name)
    else:
        # The key of the manifest is where a storage has its prefix.
        async with storage_of(name) as bucket:
            inventory = await read_inventory(storage, bucket.keys.prefix, bucket=bucket)
    with inventory:
        yield inventory
