"""A proxy in front of Azurite that does and says what Azurite never does."""

import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from azure.storage.blob.aio import BlobServiceClient
from yarl import URL

from lakery_cloud.emulators import Azurite
from lakery_cloud.testing import Exchange, ScriptedProxy

_IDENTIFIED = {"x-ms-request-id": "0"}


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

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        is_copy = "x-ms-copy-source" in request.headers
        if is_copy and request.query.get("comp") == "block":
            return await self._block_from_url(request)
        if is_copy and self.copy_status is not None:
            return await self._half_a_copy(request)
        if request.query.get("comp") == "copy":
            self.copy_status = "aborted"
            return web.Response(status=204, headers=_IDENTIFIED)
        if request.method == "GET" and "comp" not in request.query and self.cuts:
            self.cuts -= 1
            return await self._cut(request)
        return await super()._respond(request)

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
        return web.Response(status=201, headers=_IDENTIFIED)

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
