"""The rig of `GCSStorage`."""

import io
import uuid
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote, unquote

import aiohttp
from yarl import URL

from lakery_cloud.providers.gcs import TAG_PREFIX, GCSStorage
from lakery_cloud.testing import RawObject, Rig
from lakery_cloud.testing.gcs_double import StrictGCS

KiB = 1024


class GCSRig(Rig):
    """`GCSStorage` on a local server, in a bucket of its own. Its own client goes around the storage.

    Args:
        title: What the server is called.
        url: Where it is.
        cannot: What it can't show.
        double: The server, if it is the strict double.
    """

    part_size = 256 * KiB

    def __init__(self, title: str, url: str, cannot: Mapping[str, str], *, double: StrictGCS | None = None) -> None:
        self.name = f"GCSStorage on {title}"
        self.cannot = cannot
        self.bucket = f"rig-{uuid.uuid4()}"
        self.endpoint_url = url
        self.double = double
        self._url = url
        self._client: Any = None

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(raise_for_status=True, auto_decompress=False)
        url = f"{self._url}/storage/v1/b?project=test"
        await self._call("POST", url, json={"name": self.bucket})
        return self

    async def __aexit__(self, *_: object) -> None:
        for key in await self.keys():
            await self.delete(key)
        await self._call("DELETE", self._bucket_url())
        await self._client.close()

    def storage(self, **options: Any) -> GCSStorage:
        return GCSStorage(
            self.bucket, **{"part_size": self.part_size, "endpoint_url": self.endpoint_url, "token": "anon", **options}
        )

    def elsewhere(self) -> GCSStorage:
        return GCSStorage("nowhere-at-all", part_size=self.part_size, endpoint_url=self.endpoint_url, token="anon")

    async def put(self, key: str, data: bytes) -> None:
        url = f"{self._url}/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={quote(key, safe='')}"
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

    async def delete(self, key: str) -> None:
        try:
            await self._call("DELETE", self._object_url(key))
        except aiohttp.ClientResponseError as error:
            if error.status != 404:
                raise

    async def keys(self) -> list[str]:
        keys, token = [], ""
        while True:
            _, page = await self._call("GET", f"{self._bucket_url()}/o?{token}")
            keys += [entry["name"] for entry in page.get("items", ())]
            if not page.get("nextPageToken"):
                return keys
            token = f"pageToken={quote(page['nextPageToken'], safe='')}"

    async def uploads(self) -> list[str]:
        # No API lists them; the double tells.
        sessions = self.double.sessions.values() if self.double else ()
        return [session.name for session in sessions if session.is_open and session.bucket == self.bucket]

    def _bucket_url(self) -> str:
        return f"{self._url}/storage/v1/b/{self.bucket}"

    def _object_url(self, key: str) -> str:
        return f"{self._bucket_url()}/o/{quote(key, safe='')}"

    async def _call(self, method: str, url: str, **parameters: Any) -> tuple[bytes, Any]:
        async with self._client.request(method, URL(url, encoded=True), **parameters) as answer:
            data = await answer.read()
            return data, await answer.json() if answer.content_type == "application/json" and data else None


# What a server can't show: name of the test -> the reason.
NO_LIMIT = "rewriteTo has no size limit"
GCS_CANNOT: Mapping[str, Mapping[str, str]] = {
    name: {
        "test_copy_past_the_limit_of_one_request_goes_in_parts": NO_LIMIT,
        "test_cancelled_copy_in_parts_leaves_nothing": NO_LIMIT,
    }
    for name in ("fake_gcs", "strict_gcs")
}
