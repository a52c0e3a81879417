"""Storages of the three clouds, with and without hot requests, on servers that a test scripts byte by byte."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import google.oauth2.credentials
import pytest
from aiobotocore.session import AioSession

from lakery_cloud import AzureBlobStorage, GCSStorage, S3Storage
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Receipt, Upload
from lakery_cloud.engine.transport import Transport
from lakery_cloud.streams.parts import Part
from tests.http.raw import Serve
from tests.security.credentials import TokenCredential
from tests.security.echoes import beginning_of_an_upload

BUCKET, KEY = "bucket", "key"
ADDRESS = Address(BUCKET, KEY)
UNBEGUN = Address(BUCKET, "unbegun")
"""Where no upload begins, whatever the server."""
ATTRIBUTES = ObjectAttributes("text/plain", None, {}, {})
DATA = b"some content"
TOKEN = "s3cr3t-bearer-token"
"""The session token, bearer token or key of every storage here."""


@dataclass(frozen=True)
class Client:
    """A way to send requests.

    Attributes:
        cloud: `s3`, `gcs` or `azure`.
        fast_lane: Whether lakery-cloud sends the hot requests itself.
    """

    cloud: str
    fast_lane: bool

    def __str__(self) -> str:
        return f"{self.cloud}-{'hot' if self.fast_lane else 'sdk'}"

    def storage(self, url: str, **settings: Any) -> Any:
        """A storage at a URL."""
        given = {"fast_lane": self.fast_lane, "max_attempts": 1, **settings}
        if self.cloud == "s3":
            return S3Storage(BUCKET, session=_aws_session(), endpoint_url=url, region="us-east-1", **given)
        if self.cloud == "gcs":
            token = google.oauth2.credentials.Credentials(TOKEN)  # type: ignore[no-untyped-call]
            return GCSStorage(BUCKET, **{"token": token, "endpoint_url": url, **given})
        if url.startswith("https:"):
            secret: dict[str, Any] = {"credential": TokenCredential(TOKEN)}
        else:
            secret = {"account_key": base64.b64encode(TOKEN.encode()).decode()}
        return AzureBlobStorage(BUCKET, account_name="me", endpoint_url=f"{url}/me", **secret, **given)


@cache
def _aws_session() -> AioSession:
    """One session, since it takes long to load the description of S3's API."""
    session = AioSession()
    session.set_credentials("AKIAEXAMPLE", "secret", TOKEN)
    return session


CLIENTS = [Client(cloud, fast_lane) for cloud in ("s3", "gcs", "azure") for fast_lane in (True, False)]
each_client = pytest.mark.parametrize("client", CLIENTS, ids=str)


# Operations: one request each.

Operation = Callable[[Transport], Awaitable[Any]]


async def _put(transport: Transport) -> None:
    await transport.put(ADDRESS, DATA, ATTRIBUTES)


async def _get(transport: Transport) -> bytes:
    async with transport.get(ADDRESS) as body:
        return b"".join([chunk async for chunk in body.chunks])


async def _head(transport: Transport) -> object:
    return await transport.head(ADDRESS)


async def _list(transport: Transport) -> list[object]:
    return [info async for info in transport.list(BUCKET, "")]


async def _delete(transport: Transport) -> None:
    await transport.delete(ADDRESS)


async def _begin(transport: Transport, address: Address = UNBEGUN) -> Upload:
    return await transport.begin_upload(address, ATTRIBUTES, is_temporary=False)


async def _part(transport: Transport) -> Receipt:
    upload = await _begin(transport, ADDRESS)
    return await transport.upload_part(upload, Part(1, 0, (DATA,), is_last=True))


async def _complete(transport: Transport) -> object:
    upload = await _begin(transport, ADDRESS)
    receipts = [Receipt(1, '"etag"')]
    return await transport.complete_upload(upload, receipts, size=len(DATA), create_only=True)


async def _abort(transport: Transport) -> None:
    await transport.abort_upload(ADDRESS, await _begin(transport, ADDRESS))


async def _tags(transport: Transport) -> object:
    return await transport.tags(ADDRESS)


_COMMON: Mapping[str, Operation] = {
    "put": _put,
    "get": _get,
    "head": _head,
    "list": _list,
    "delete": _delete,
    "part": _part,
    "tags": _tags,
}
OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "s3": {**_COMMON, "begin": _begin, "complete": _complete, "abort": _abort},
    "gcs": {**_COMMON, "begin": _begin},  # the last part completes an upload
    "azure": {**_COMMON, "complete": _complete},  # blocks need no beginning
}
"""Cloud -> name -> a request of each kind. Parts and their completion begin an upload first, see `begins`."""


def begins(head: bytes) -> bytes | None:
    """The response to a request that begins an upload; None for every other request, and for `UNBEGUN`."""
    line = head.partition(b"\r\n")[0].decode()
    return None if UNBEGUN.key in line else beginning_of_an_upload(head)


# Servers.

Respond = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
"""Writes anything in response to the head of a request."""


async def requests_on(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The heads of the requests of a connection, each after the whole request has arrived."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        size = re.search(rb"^content-length: (\d+)\r$", head, flags=re.MULTILINE | re.IGNORECASE)
        await reader.readexactly(int(size[1]) if size else 0)
        yield head


def content_response(content: bytes, head: bytes, *, has_length: bool = True) -> bytes:
    """The response of every cloud to a GET of content, or of a range of it."""
    wanted = re.search(rb"^(?:x-ms-)?range: bytes=(\d+)-(\d*)\r$", head, flags=re.MULTILINE | re.IGNORECASE)
    start = int(wanted[1]) if wanted else 0
    stop = min(int(wanted[2]) + 1, len(content)) if wanted and wanted[2] else len(content)
    lines = ["HTTP/1.1 206 Partial Content" if wanted else "HTTP/1.1 200 OK", 'ETag: "a"', "x-ms-request-id: a"]
    lines += ["x-goog-generation: 1", "x-ms-blob-type: BlockBlob", "Content-Type: text/plain"]
    if wanted:
        lines.append(f"Content-Range: bytes {start}-{stop - 1}/{len(content)}")
    if has_length:
        lines.append(f"Content-Length: {stop - start}")
    return "\r\n".join([*lines, "", ""]).encode() + content[start:stop]


def responds(respond: Respond, *, begins_uploads: bool = True) -> Serve:
    """Serves each request by a function, except that uploads begin."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for head in requests_on(reader):
            begun = begins(head) if begins_uploads else None
            if begun is not None:
                writer.write(begun)
            else:
                await respond(writer, head)

    return serve


@asynccontextmanager
async def transport_of(client: Client, url: str, **settings: Any) -> AsyncIterator[Transport]:
    """An open transport to a server."""
    async with client.storage(url, **settings) as storage:
        yield await storage.transport()
