"""The rig of `AzureBlobStorage`."""

import contextlib
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Self

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.identity.aio import DefaultAzureCredential
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud import AzureBlobStorage
from lakery_cloud.emulators import Azurite
from lakery_cloud.emulators.servers.azurite import ACCOUNT_NAME
from lakery_cloud.engine.keys import TEMPORARY_FOLDER
from lakery_cloud.testing import AzureDouble, RawObject
from tests.rigs.base import CloudRig


class AzureRig(CloudRig):
    """`AzureBlobStorage` on a local server or, with a container and no server, in the account of the environment.

    On a double its storages use the double, and the rig itself the server behind it.
    """

    storage_class = AzureBlobStorage
    part_size = 100_000

    def __init__(
        self,
        server_name: str,
        server: Azurite | None = None,
        *,
        double: AzureDouble | None = None,
        bucket: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(server_name, bucket=bucket)
        self.settings = settings
        self._double = double
        self._server = server = double.server if double else server
        self.server_url = server.endpoint_url if server else ""
        self.endpoint_url = None
        self.environment = server.environment() if server else {}
        if double:
            self.environment = {"AZURE_STORAGE_CONNECTION_STRING": double.connection_string}
        self._opened = contextlib.AsyncExitStack()
        self._client: Any = None

    @property
    def server(self) -> Azurite:
        """The local server."""
        assert self._server is not None
        return self._server

    async def __aenter__(self) -> Self:
        service = await self._opened.enter_async_context(
            BlobServiceClient.from_connection_string(self._server.connection_string)
            if self._server
            else await self._service_of_the_environment()
        )
        self._client = service.get_container_client(self.bucket)
        if not self.is_live:
            # Azurite sometimes loses a response, and the retry finds the container.
            with contextlib.suppress(ResourceExistsError):
                await self._client.create_container(read_timeout=20)
        return self

    async def _service_of_the_environment(self) -> BlobServiceClient:
        if text := os.environ.get("AZURE_STORAGE_CONNECTION_STRING"):
            return BlobServiceClient.from_connection_string(text)
        url = f"https://{os.environ['AZURE_STORAGE_ACCOUNT_NAME']}.blob.core.windows.net"
        secret = os.environ.get("AZURE_STORAGE_ACCOUNT_KEY") or os.environ.get("AZURE_STORAGE_SAS_TOKEN")
        return BlobServiceClient(
            url, credential=secret or await self._opened.enter_async_context(DefaultAzureCredential())
        )

    async def __aexit__(self, *_: object) -> None:
        async with self._opened:
            if not self.is_live:
                await self._client.delete_container()
                return
            for key in await self.keys():
                await self.delete(key)
            for key in await self.uploads():  # uncommitted blocks can't be deleted; a commit without them discards them
                await self._blob(key).commit_block_list([])
                await self.delete(key)

    def point_to(self, url: str) -> None:
        self.endpoint_url = f"{url}/{ACCOUNT_NAME}"

    @classmethod
    def storage_at(cls, endpoint_url: str, **options: Any) -> AzureBlobStorage:
        account = {"account_name": "me", "account_key": "c2VjcmV0"}
        return AzureBlobStorage("container", endpoint_url=f"{endpoint_url}/me", **account, **options)

    async def put(self, key: str, data: bytes) -> None:
        settings = ContentSettings(content_type="application/octet-stream")
        await self._client.upload_blob(self.in_bucket(key), data, overwrite=True, content_settings=settings)

    async def get(self, key: str) -> RawObject | None:
        blob = self._blob(key)
        try:
            properties = await blob.get_blob_properties()
            data = await (await blob.download_blob(decompress=False)).readall()
            tags = await blob.get_blob_tags()
        except ResourceNotFoundError:
            return None
        settings = properties.content_settings
        metadata = {name.replace("_", "-"): value for name, value in properties.metadata.items()}
        return RawObject(data, settings.content_type, settings.content_encoding, tags, metadata)

    async def stored_metadata(self, key: str) -> Mapping[str, str]:
        return dict((await self._blob(key).get_blob_properties()).metadata)

    async def tier(self, key: str) -> str | None:
        """The access tier of a blob."""
        return (await self._blob(key).get_blob_properties()).blob_tier

    async def delete(self, key: str) -> None:
        with contextlib.suppress(ResourceNotFoundError):
            await self._client.delete_blob(self.in_bucket(key))

    async def _bucket_uploads(self) -> AsyncGenerator[str]:
        listing = self._client.list_blobs(name_starts_with=self._below or None, include=["uncommittedblobs"])
        found = [blob.name async for blob in listing]
        committed = {key async for key in self._bucket_keys()}  # afterwards: one may be committed meanwhile
        for name in found:
            if name not in committed:
                yield name

    async def _bucket_keys(self) -> AsyncGenerator[str]:
        async for blob in self._client.list_blobs(name_starts_with=self._below or None):
            yield blob.name
        for key in self._double.kept_versions(self.bucket) if self._double else ():
            if f"{TEMPORARY_FOLDER}/" in key:
                yield key

    def _blob(self, key: str) -> Any:
        return self._client.get_blob_client(self.in_bucket(key))
