"""The rig of `GCSStorage`."""

import asyncio
import io
import os
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote, unquote

import aiohttp
from gcsfs.core import GCSFileSystem
from yarl import URL

from lakery_cloud import GCSStorage
from lakery_cloud.providers.gcs.requests import TAG_PREFIX
from lakery_cloud.testing import RawObject, StrictGCS
from tests.rigs.base import CloudRig

KiB = 1024


class GCSRig(CloudRig):
    """`GCSStorage` on a local server or, with a bucket and no server, in the account of the environment.

    Args:
        server_name: Name of the server.
        url: URL of the server.
        bucket: The bucket of an account.
        double: The server, if it is the strict double.
        settings: Settings of all its storages.
    """

    storage_class = GCSStorage
    part_size = 256 * KiB
    shows_uploads = False

    def __init__(
        self,
        server_name: str,
        url: str | None = None,
        *,
        bucket: str | None = None,
        double: StrictGCS | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(server_name, bucket=bucket)
        self.settings = settings
        self.server_url = url or os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        self.endpoint_url = url
        self.double = double
        self._credentials: Any = None
        self._client: Any = None

    async def __aenter__(self) -> Self:
        if self.double is not None:  # it serves the whole session: reset the settings of the last test
            self.double.shortfalls.clear()
            self.double.damage = None
        self._client = aiohttp.ClientSession(raise_for_status=True, auto_decompress=False)
        if self.is_live:
            token = "anon" if self.server_url.startswith("http://") else None
            self._credentials = (await asyncio.to_thread(_file_system, token)).credentials
        else:
            await self._call("POST", f"{self.server_url}/storage/v1/b?project=test", json={"name": self.bucket})
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._client:
            # A request that a test has broken off may still make an object.
            while not await self._is_removed():  # noqa: ASYNC110, the server announces nothing
                await asyncio.sleep(0.1)

    async def _is_removed(self) -> bool:
        """Delete all objects, and the bucket if it is empty then."""
        for key in await self.keys():
            await self.delete(key)
        if self.is_live:
            return True
        try:
            await self._call("DELETE", self._bucket_url())
        except aiohttp.ClientResponseError as error:
            if error.status != HTTPStatus.PRECONDITION_FAILED:
                raise
            return False
        return True

    def _storage(self, bucket: str, **options: Any) -> GCSStorage:
        return super()._storage(bucket, **{**({} if self.is_live else {"token": "anon"}), **options})

    @classmethod
    def storage_at(cls, endpoint_url: str, **options: Any) -> GCSStorage:
        return GCSStorage("bucket", endpoint_url=endpoint_url, **options)

    async def put(self, key: str, data: bytes) -> None:
        name = quote(self.in_bucket(key), safe="")
        url = f"{self.server_url}/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={name}"
        await self._call("POST", url, data=io.BytesIO(data), headers={"Content-Type": "application/octet-stream"})

    async def get(self, key: str) -> RawObject | None:
        try:
            _, resource = await self._call("GET", self._object_url(key))
            data, _ = await self._call("GET", f"{self._object_url(key)}?alt=media", headers={"Accept-Encoding": "gzip"})
        except aiohttp.ClientResponseError as error:
            if error.status == 404:
                return None
            raise
        metadata = resource.get("metadata", {})
        return RawObject(
            data,
            resource.get("contentType"),
            resource.get("contentEncoding"),
            {unquote(k.removeprefix(TAG_PREFIX)): v for k, v in metadata.items() if k.startswith(TAG_PREFIX)},
            {k: v for k, v in metadata.items() if not k.startswith(TAG_PREFIX)},
        )

    async def stored_metadata(self, key: str) -> Mapping[str, str]:
        _, resource = await self._call("GET", self._object_url(key))
        return dict(resource.get("metadata", {}))

    async def delete(self, key: str) -> None:
        try:
            await self._call("DELETE", self._object_url(key))
        except aiohttp.ClientResponseError as error:
            if error.status != 404:
                raise

    async def _bucket_uploads(self) -> AsyncGenerator[str]:
        # No API lists them; the double does.
        for session in self.double.sessions.values() if self.double else ():
            if session.is_open and session.bucket == self.bucket:
                yield session.name

    async def _bucket_keys(self) -> AsyncGenerator[str]:
        token = ""
        while True:
            _, page = await self._call("GET", f"{self._bucket_url()}/o?prefix={quote(self._below, safe='')}{token}")
            for entry in page.get("items", ()):
                yield entry["name"]
            if not page.get("nextPageToken"):
                return
            token = f"&pageToken={quote(page['nextPageToken'], safe='')}"

    def _bucket_url(self) -> str:
        return f"{self.server_url}/storage/v1/b/{self.bucket}"

    def _object_url(self, key: str) -> str:
        return f"{self._bucket_url()}/o/{quote(self.in_bucket(key), safe='')}"

    async def _call(self, method: str, url: str, **parameters: Any) -> tuple[bytes, Any]:
        headers = dict(parameters.pop("headers", {}))
        if self._credentials is not None:
            await asyncio.to_thread(self._credentials.apply, headers)  # it may renew a token
        async with self._client.request(method, URL(url, encoded=True), headers=headers, **parameters) as answer:
            data = await answer.read()
            return data, await answer.json() if answer.content_type == "application/json" and data else None


def _file_system(token: str | None) -> GCSFileSystem:
    """It finds credentials where the storage does."""
    return GCSFileSystem(token=token, asynchronous=True, skip_instance_cache=True)
