"""Opens storages on accounts of Azure as people have them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import uuid4

from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud import AzureBlobStorage
from lakery_cloud.emulators import Azurite
from lakery_cloud.testing import AzureDouble, AzureProfile

PART = 50_000


class AzureStore(NamedTuple):
    """A container of an account, and a storage on it.

    Attributes:
        double: The account.
        storage: The storage.
        container: A client of Azurite itself.
    """

    double: AzureDouble
    storage: AzureBlobStorage
    container: Any

    async def keys(self) -> list[str]:
        """The keys of committed blobs."""
        return [blob.name async for blob in self.container.list_blobs()]

    async def all_keys(self) -> list[str]:
        """The keys of blobs, also of those with uncommitted blocks alone."""
        return [blob.name async for blob in self.container.list_blobs(include=["uncommittedblobs"])]

    def operations(self) -> list[str]:
        """The operations that the account received."""
        return [exchange.operation for exchange in self.double.exchanges]

    def another(self, **settings: Any) -> AzureBlobStorage:
        """Another storage on the container."""
        return storage_on(self.double, self.container.container_name, **settings)


@asynccontextmanager
async def azure_store(
    azurite: Azurite, profile: AzureProfile | str, *, fast_lane: bool = True, **settings: Any
) -> AsyncIterator[AzureStore]:
    """A new container of an account, and a storage on it."""
    async with (
        AzureDouble(azurite, profile) as double,
        BlobServiceClient.from_connection_string(azurite.connection_string) as service,
    ):
        container = await service.create_container(f"store-{uuid4()}")
        async with storage_on(double, container.container_name, fast_lane=fast_lane, **settings) as storage:
            yield AzureStore(double, storage, container)
        await container.delete_container()


def storage_on(double: AzureDouble, container: str, **settings: Any) -> AzureBlobStorage:
    """A storage on an account."""
    given = {"part_size": PART, "max_attempts": 2, **settings}
    if not given.keys() & {"sas_token", "credential", "account_key"}:
        given = {"connection_string": double.connection_string, **given}
    return AzureBlobStorage(container, **given)
