"""The rig of `AzureBlobStorage`, and a proxy that does and says what Azurite never does."""

import base64
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar, Self
from urllib.parse import unquote

from aiohttp import web
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient
from yarl import URL

from lakery_cloud.emulators.azurite import Azurite
from lakery_cloud.providers.azure import AzureBlobStorage
from lakery_cloud.testing import Exchange, RawObject, Rig, ScriptedProxy

NO_BLOCKS_FROM_URL = "it answers 501 to Put Block From URL, of which large copies are made"
AZURITE_CANNOT: Mapping[str, str] = {
    "test_copy_past_the_limit_of_one_request_goes_in_parts": NO_BLOCKS_FROM_URL,
    "test_cancelled_copy_in_parts_leaves_nothing": NO_BLOCKS_FROM_URL,
}


class AzureRig(Rig):
    """`AzureBlobStorage` on a local server, in a container of its own. Its own client goes around the storage."""

    name: ClassVar = "AzureBlobStorage on Azurite"
    part_size = 100_000

    def __init__(self, server: Azurite, cannot: Mapping[str, str] = AZURITE_CANNOT) -> None:
        self.cannot = cannot
        self.container = f"rig-{uuid.uuid4()}"
        self.server = server
        self._service = BlobServiceClient.from_connection_string(server.connection_string)
        self._client = self._service.get_container_client(self.container)

    async def __aenter__(self) -> Self:
        await self._client.create_container()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.delete_container()
        await self._service.close()

    def storage(self, **options: Any) -> AzureBlobStorage:
        # Credentials from the environment, where the fixture put them: so that storages can be pickled.
        return AzureBlobStorage(self.container, **{"part_size": self.part_size, **options})

    def elsewhere(self) -> AzureBlobStorage:
        return AzureBlobStorage("nowhere-at-all", part_size=self.part_size)

    async def put(self, key: str, data: bytes) -> None:
        settings = ContentSettings(content_type="application/octet-stream")
        await self._client.upload_blob(key, data, overwrite=True, content_settings=settings)

    async def get(self, key: str) -> RawObject | None:
        blob = self._client.get_blob_client(key)
        try:
            properties = await blob.get_blob_properties()
            data = await (await blob.download_blob(decompress=False)).readall()
            tags = await blob.get_blob_tags()
        except ResourceNotFoundError:
            return None
        settings = properties.content_settings
        metadata = {name.replace("_", "-"): value for name, value in properties.metadata.items()}
        return RawObject(data, settings.content_type, settings.content_encoding, tags, metadata)

    async def metadata(self, key: str) -> dict[str, str]:
        """The metadata under the names that Azure has."""
        return dict((await self._client.get_blob_client(key).get_blob_properties()).metadata)

    async def tier(self, key: str) -> str | None:
        """The access tier of a blob."""
        return (await self._client.get_blob_client(key).get_blob_properties()).blob_tier

    async def delete(self, key: str) -> None:
        with contextlib.suppress(ResourceNotFoundError):
            await self._client.delete_blob(key)

    async def keys(self) -> list[str]:
        return [blob.name async for blob in self._client.list_blobs()]

    async def uploads(self) -> list[str]:
        committed = set(await self.keys())
        blobs = self._client.list_blobs(include=["uncommittedblobs"])
        return [blob.name async for blob in blobs if blob.name not in committed]


class AzureProxy(ScriptedProxy):
    """A proxy in front of Azurite that also makes blocks from URLs, and answers copies and reads as a test says.

    Attributes:
        copy_status: What it says of the next copies, of which it leaves half a blob behind. None lets them pass.
        cuts: How many of the next reads break off in the middle.
        sources: URLs that blocks were copied from.
    """

    def __init__(self, server: Azurite) -> None:
        super().__init__(server.endpoint_url)
        self.copy_status: str | None = None
        self.cuts = 0
        self.sources: list[str] = []
        self._server = server

    @property
    def connection_string(self) -> str:
        return self._server.connection_string.replace(self._server.endpoint_url, self.url)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        is_copy = "x-ms-copy-source" in request.headers
        if is_copy and request.query.get("comp") == "block":
            return await self._block_from_url(request)
        if is_copy and self.copy_status is not None:
            return await self._half_a_copy(request)
        if request.query.get("comp") == "copy":
            self.copy_status = "aborted"
            return web.Response(status=204)
        if request.method == "GET" and "x-ms-range" in request.headers and self.cuts:
            self.cuts -= 1
            return await self._cut(request)
        return await super()._answer(request)

    async def _block_from_url(self, request: web.Request) -> web.Response:
        """Put Block From URL: read the source as anyone could, then put what was read."""
        url = request.headers["x-ms-copy-source"]
        self.sources.append(url)
        condition = request.headers.get("x-ms-source-if-match")
        headers = {"x-ms-range": request.headers["x-ms-source-range"], "x-ms-version": "2021-08-06"}
        async with self._client.get(
            URL(url, encoded=True), headers=headers | ({"If-Match": condition} if condition else {})
        ) as answer:
            if answer.status == 412:
                return _error(412, "SourceConditionNotMet")
            if answer.status != 206:
                return _error(answer.status, "CannotVerifyCopySource")
            data = await answer.read()
        block = base64.b64decode(request.query["blockid"]).decode()
        async with self._blob(request) as blob:
            await blob.stage_block(block, data)
        return web.Response(status=201)

    async def _half_a_copy(self, request: web.Request) -> web.Response:
        async with self._blob(request) as blob:
            await blob.upload_blob(b"half")
        headers = {"x-ms-copy-status": self.copy_status, "x-ms-copy-id": "copy", "ETag": '"0x1"'}
        return web.Response(status=202, headers=headers)

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        url = URL(self._upstream + request.raw_path, encoded=True)
        async with self._client.get(url, headers=request.headers) as answer:
            response = web.StreamResponse(status=answer.status, headers=answer.headers)
            data = await answer.read()
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            request.transport.abort()
            return response

    @contextlib.asynccontextmanager
    async def _blob(self, request: web.Request) -> AsyncIterator[Any]:
        _, _, container, key = request.raw_path.partition("?")[0].split("/", 3)
        async with BlobServiceClient.from_connection_string(self._server.connection_string) as service:
            yield service.get_blob_client(container, unquote(key))


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, headers={"x-ms-error-code": code})


def is_request(method: str, comp: str = "") -> Callable[[Exchange], bool]:
    """Whether an exchange has this method and this `comp` in its query; copies are told from puts by `comp` `copy`."""

    def matches(exchange: Exchange) -> bool:
        found = URL(exchange.target, encoded=True).query.get("comp", "")
        if not found and "x-ms-copy-source" in exchange.headers:
            found = "copy"
        return (exchange.method, found) == (method, comp)

    return matches
