"""Azure's hot requests over the fast lane, asked for and answered in the SDK's words."""

import base64
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob import BlobProperties
from multidict import CIMultiDict

from lakery_cloud.engine.hot_requests import (
    BufferedResponse,
    FastLane,
    NotNow,
    SDKCall,
    Unusual,
    current_call,
    held,
)
from lakery_cloud.http.connection import (
    HTTPError,
    ReadTimeout,
    UnsupportedResponse,
    write_head,
)
from lakery_cloud.http.headers import byte_range, header, size_of, time_of
from lakery_cloud.http.pool import (
    Answer,
    ConnectFailed,
    ConnectionPool,
    ConnectTimeout,
    Sockets,
)
from lakery_cloud.providers.azure.signing import authorization, string_to_sign

HOT = {"upload_blob": "PUT", "stage_block": "PUT", "download_blob": "GET", "get_blob_properties": "HEAD"}
"""The operations of the lane, and their methods."""
TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105, the same in every cloud
RENEW_AHEAD = 300.0
"""Seconds before its end that a token is asked for anew, as the SDK does."""

_METADATA = "x-ms-meta-"

# What changes with each request, or tells the service nothing about it.
_EACH_ITS_OWN = frozenset(
    {"accept", "authorization", "user-agent", "x-ms-client-request-id", "x-ms-date", "x-ms-range", "x-ms-version"}
)


class LaneTransport(AioHttpTransport):  # type: ignore[misc]  # it has no types
    """The SDK's HTTP session, where the lane's attempt at a request is the first one.

    Args:
        connections: How many it keeps.
        sockets: Makes its sockets.
        timeouts: See the base class.

    Attributes:
        tls: What its connections trust.
    """

    def __init__(self, connections: int, *, sockets: Sockets, **timeouts: float) -> None:
        super().__init__(**timeouts)
        self.tls = ssl.create_default_context()
        self.session: _Session | None
        self._connections = connections
        self._make_socket = sockets.make

    async def open(self) -> None:
        if not self.session:
            connector = aiohttp.TCPConnector(limit=self._connections, ssl=self.tls, socket_factory=self._make_socket)
            self.session = _Session(
                aiohttp.ClientSession(
                    connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=True
                ),
            )
        await super().open()

    async def send(self, request: Any, **config: Any) -> Any:
        call = current_call.get()
        if call is not None:
            call.note(request, self)
        return await super().send(request, **config)


class _Session:
    """aiohttp's session as far as the SDK uses it."""

    auto_decompress = False

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, url: str, **options: Any) -> Any:
        call = current_call.get()
        first = call.take_first() if call else None
        if first is None:
            return await self._session.request(method, url, **options)
        if isinstance(first, HTTPError):
            raise _as_aiohttp_says(first) from first
        return _Answer(first)

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def close(self) -> None:
        await self._session.close()


class _Answer:
    """An answer that is here in full, as far as the SDK uses aiohttp's."""

    def __init__(self, answer: BufferedResponse) -> None:
        self.status = answer.status
        self.reason = HTTPStatus(answer.status).phrase if answer.status in _STATUSES else ""
        self.headers = CIMultiDict(answer.headers)
        self.content = self
        self._body = answer.body

    async def read(self, _size: int = -1) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """Nothing is open."""


_STATUSES = frozenset(HTTPStatus)


class NotConnected(aiohttp.ClientConnectionError):
    """No connection came about."""


def _as_aiohttp_says(error: HTTPError) -> Exception:
    """What aiohttp says of no answer, by which the SDK knows whether to try again."""
    if isinstance(error, ConnectTimeout):
        return aiohttp.ConnectionTimeoutError(str(error))
    if isinstance(error, ConnectFailed):
        return NotConnected(str(error))
    if isinstance(error, ReadTimeout):
        return aiohttp.SocketTimeoutError(str(error))
    return aiohttp.ServerDisconnectedError(str(error))


@dataclass(frozen=True, slots=True)
class _Route:
    """Where requests to a container go, and what goes along with each.

    Attributes:
        connections: The connections to the host.
        host: The host, as a header.
        root: What stands before a blob's name in the path.
        version: Of the service.
        signature: The shared access signature in the URL of the client; empty if there is none.
    """

    connections: ConnectionPool
    host: str
    root: str
    version: str
    signature: str


class AzureLane(FastLane[_Route]):
    """The hot operations of a service client.

    Args:
        credential: What the client authorizes its requests with; None where its URL has a signature, or nothing.
        options: See `FastLane`; as the client's.
    """

    def __init__(self, *, credential: Any, **options: Any) -> None:
        super().__init__(**options)
        self._credential = credential
        self._token: Any = None
        self._second, self._date = 0, ""

    async def _send(self, route: _Route, operation: str, parameters: Mapping[str, Any]) -> Answer | None:
        method, path = HOT[operation], route.root + _encoded(parameters["blob"])
        body = parameters.get("data", ())
        wanted = _wanted(operation, parameters)
        if wanted is None:
            return None
        headers, query = wanted
        headers |= {"x-ms-date": self._now(), "x-ms-version": route.version}
        signature = getattr(self._credential, "signature", route.signature).removeprefix("?")
        query = "&".join(filter(None, (query, signature)))
        try:
            headers |= await self._authorization(method, path, query=query, headers=headers)
        except Exception:  # noqa: BLE001, whatever it is, the SDK meets it too, and says so
            return None
        head = write_head(method, f"{path}?{query}" if query else path, {"host": route.host, **headers})
        return None if head is None else await route.connections.send(method, head, body)

    async def _read(self, operation: str, answer: Answer) -> Any:
        return await _READERS[operation](answer)

    async def _route(self, call: SDKCall, parameters: Mapping[str, Any]) -> _Route:
        if not isinstance(call.sender, LaneTransport):
            raise Unusual("the client sends its requests by something else")
        url = urlsplit(call.sent.url)
        if getproxies().get(url.scheme) and not proxy_bypass(url.hostname or ""):
            raise Unusual("there is a proxy")
        method, path = call.sent.method, _encoded(parameters["blob"])
        operation = next(name for name in HOT if _is(name, method, url.query))
        wanted = _wanted(operation, parameters)
        if wanted is None:
            raise NotNow
        headers, query = wanted
        sent = {name.lower(): str(value) for name, value in call.sent.headers.items()}
        if {name: sent[name] for name in sent if name not in _EACH_ITS_OWN} != {
            name: headers[name] for name in headers if name not in _EACH_ITS_OWN
        }:
            raise Unusual("requests have other headers")
        own, found = query.split("&") if query else [], url.query.split("&") if url.query else []
        if not url.path.endswith(f"/{path}") or not set(own) <= set(found):
            raise Unusual("requests have another URL")
        signature = "&".join(parameter for parameter in found if parameter not in own)
        if signature != getattr(self._credential, "signature", signature).removeprefix("?"):
            raise Unusual("requests have another signature in their URL")
        authorized = await self._authorization(method, url.path, query=url.query, headers=sent)
        if sent.get("authorization") != authorized.get("authorization"):
            raise Unusual("requests are authorized in another way")
        connections = self._connections_to(url, call.sender.tls)
        return _Route(connections, url.netloc, url.path.removesuffix(path), sent["x-ms-version"], signature)

    def _raise_plain(self, operation: str, refusal: BufferedResponse) -> None:
        if refusal.status == 401:
            self._token = None

    async def _authorization(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The header that authorizes a request; none where a signature in its URL does."""
        if key := getattr(self._credential, "account_key", None):
            account = self._credential.account_name
            text = string_to_sign(account, method, path, query=query, headers=headers)
            return {"authorization": authorization(account, base64.b64decode(key), text)}
        if not hasattr(self._credential, "get_token"):
            return {}
        if self._token is None or self._token.expires_on - time.time() < RENEW_AHEAD:
            self._token = await self._credential.get_token(TOKEN_SCOPE)
        return {"authorization": f"Bearer {self._token.token}"}

    def _now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date


def _is(operation: str, method: str, query: str) -> bool:
    return HOT[operation] == method and (operation == "stage_block") == ("comp=block" in query.split("&"))


def _encoded(blob: str) -> str:
    return quote(blob, safe="~/")


def _wanted(operation: str, parameters: Mapping[str, Any]) -> tuple[dict[str, str], str] | None:
    """Headers and query of an operation's parameters, as the SDK sends them; None where they aren't the usual ones."""
    needed, possible = _PARAMETERS[operation]
    if not needed <= parameters.keys() <= needed | possible:
        return None
    headers = {name.lower(): value for name, value in parameters.get("headers", {}).items()}
    if operation == "get_blob_properties":
        return headers, ""
    if operation == "download_blob":
        headers |= _given(**{"x-ms-range": byte_range(parameters["start"], parameters["stop"])})
        return headers | _given(**{"if-match": parameters["version"]}), ""
    headers |= {"content-length": str(parameters["length"]), "content-type": "application/octet-stream"}
    if operation == "stage_block":
        block = base64.b64encode(parameters["block_id"].encode()).decode()
        return headers, f"comp=block&blockid={quote(block, safe='')}"
    settings, tier = parameters["content_settings"], parameters.get("standard_blob_tier")
    tags = parameters.get("tags")
    headers |= {"if-none-match": "*", "x-ms-blob-type": "BlockBlob"}
    headers |= {_METADATA + name: value for name, value in parameters["metadata"].items()}
    headers |= _given(
        **{
            "x-ms-access-tier": tier and tier.value,
            "x-ms-blob-content-encoding": settings.content_encoding,
            "x-ms-blob-content-type": settings.content_type,
            "x-ms-tags": tags and "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in tags.items()),
        }
    )
    return headers, ""


# Operation -> parameters that it must have here, and those that it may have.
_PARAMETERS: Mapping[str, tuple[set[str], set[str]]] = {
    "get_blob_properties": ({"blob", "headers"}, set()),
    "download_blob": ({"blob", "start", "stop", "version"}, set()),
    "stage_block": ({"blob", "headers", "block_id", "data", "length"}, {"raw_request_hook"}),
    "upload_blob": (
        {"blob", "headers", "data", "length", "match_condition", "content_settings", "metadata"},
        {"raw_request_hook", "tags", "standard_blob_tier"},
    ),
}


def _given(**headers: str | None) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value is not None}


async def _read_put(answer: Answer) -> Mapping[str, Any] | None:
    if answer.status != 201:
        return None
    found = await held(answer)
    if found.body:
        raise UnsupportedResponse("an answer to a put that has a body")
    return {"etag": found.headers.get("etag")}


async def _read_head(answer: Answer) -> BlobProperties | None:
    if answer.status != 200:
        return None
    answer.close()
    return _described(answer.headers)


async def _read_get(answer: Answer) -> tuple[BlobProperties, Answer] | None:
    if answer.status not in (200, 206):
        return None
    try:
        if (answer.status == 206) != ("content-range" in answer.headers):
            raise UnsupportedResponse(f"a status {answer.status} that does not go with its range")
        return _described(answer.headers), answer
    except BaseException:
        answer.close()
        raise


_READERS = {
    "upload_blob": _read_put,
    "stage_block": _read_put,
    "download_blob": _read_get,
    "get_blob_properties": _read_head,
}


def _described(headers: Mapping[str, str]) -> BlobProperties:
    """What the SDK makes of the headers that describe a blob."""
    metadata = {name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)}
    return BlobProperties(
        metadata=metadata,
        **{
            "Content-Length": size_of(headers),
            "Content-Range": headers.get("content-range"),
            "Content-Type": headers.get("content-type"),
            "Content-Encoding": headers.get("content-encoding"),
            "ETag": header(headers, "etag"),
            "Last-Modified": time_of(headers.get("last-modified")),
        },
    )
