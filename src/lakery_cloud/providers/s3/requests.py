"""S3's hot requests over the fast lane, asked for and answered in the SDK's words."""

import base64
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from botocore import exceptions as errors

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
from lakery_cloud.http.headers import header, size_of, time_of
from lakery_cloud.http.pool import (
    Answer,
    ConnectFailed,
    ConnectionPool,
    ConnectTimeout,
    Sockets,
    TLSFailed,
)
from lakery_cloud.providers.s3.signing import (
    UNSIGNED,
    Key,
    authorization,
    encode_path,
    encode_query,
    signing_key,
)

HOT = {"put_object": "PUT", "upload_part": "PUT", "get_object": "GET", "head_object": "HEAD"}
"""The operations of the lane, and their methods."""

_HEADERS = {
    "ChecksumCRC32C": "x-amz-checksum-crc32c",
    "ChecksumMode": "x-amz-checksum-mode",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentEncoding": "content-encoding",
    "ContentType": "content-type",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "Range": "range",
    "RequestPayer": "x-amz-request-payer",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "Tagging": "x-amz-tagging",
}
_QUERY = {"PartNumber": "partNumber", "UploadId": "uploadId"}
_METADATA = "x-amz-meta-"

# What changes with each request, or comes from the credentials.
_EACH_ITS_OWN = frozenset({"host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})
# Of what is signed nothing is collapsed or trimmed then, and nothing ends a line.
_PLAIN = re.compile(r"(?:[a-z0-9-]+:[\x21-\x7e]+(?: [\x21-\x7e]+)*\n)*")
_SIGNED_BY = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<access_key>[^/ ]+)/\d{8}/(?P<region>[^/ ]+)/s3/aws4_request, ?"
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), ?Signature=[0-9a-f]{64}"
)
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/\d+")


class LaneSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
    """The SDK's HTTP session, where the lane's attempt at a request is the first one.

    Attributes:
        sockets: Makes its sockets.
        tls: What its connections trust.
        has_proxies: Whether there are any.
    """

    sockets: Sockets

    def __init__(self, *, connector_args: dict[str, Any], **settings: Any) -> None:
        self.tls: ssl.SSLContext | None = None
        connector_args = {**connector_args, "socket_factory": self.sockets.make}
        super().__init__(connector_args=connector_args, **settings)
        self.has_proxies = bool(settings.get("proxies"))

    async def send(self, request: Any) -> Any:
        call = current_call.get()
        if call is not None:
            call.note(request, self)
        first = call.take_first() if call else None
        if first is None:
            return await super().send(request)
        if isinstance(first, HTTPError):
            raise _as_sdk_says(first, request.url) from first
        return AioAWSResponse(request.url, first.status, dict(first.headers), first)

    def _get_ssl_context(self) -> ssl.SSLContext:
        self.tls = super()._get_ssl_context()
        # boto3 compares names by itself, aiohttp leaves that to the context, and between them nobody does.
        self.tls.check_hostname = True
        return self.tls


def _as_sdk_says(error: HTTPError, url: str) -> Exception:
    """What the SDK says of no answer, by which it knows whether to try again."""
    kind = next((said for wire, said in _SDK_ERRORS.items() if isinstance(error, wire)), errors.ConnectionClosedError)
    made: Exception = kind(endpoint_url=url, error=error)
    return made


_SDK_ERRORS = {
    ConnectTimeout: errors.ConnectTimeoutError,
    TLSFailed: errors.SSLError,
    ConnectFailed: errors.EndpointConnectionError,
    ReadTimeout: errors.ReadTimeoutError,
}


@dataclass(frozen=True, slots=True)
class _Route:
    """Where requests to a bucket go, and what for they are signed."""

    connections: ConnectionPool
    host: str
    root: str
    region: str


class S3Lane(FastLane[_Route]):
    """The hot operations of an S3 client.

    Args:
        credentials: What the client signs with.
        options: See `FastLane`; as the client's.
    """

    elsewhere = frozenset({301, 302, 307, 308, 400})  # so S3 says that a bucket is in another region

    def __init__(self, *, credentials: Any, **options: Any) -> None:
        super().__init__(**options)
        self._credentials = credentials
        self._key: tuple[tuple[str, ...], Key] | None = None
        self._second, self._stamp = 0, ""

    async def _send(self, route: _Route, operation: str, parameters: Mapping[str, Any]) -> Answer | None:
        wanted = _wanted(parameters)
        if wanted is None:
            return None
        try:
            credentials = await self._credentials.get_frozen_credentials()
        except Exception:  # noqa: BLE001, whatever it is, the SDK meets it too, and says so
            return None
        headers, query = wanted
        method, path, body = HOT[operation], route.root + encode_path(parameters["Key"]), parameters.get("Body")
        checksum = headers.get("x-amz-checksum-sha256")
        # The hash that S3 compares as a checksum anyway.
        payload_hash = base64.b64decode(checksum).hex() if checksum else UNSIGNED
        now = self._now()
        headers["host"] = route.host
        headers["x-amz-content-sha256"] = payload_hash
        headers["x-amz-date"] = now
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        headers = dict(sorted(headers.items()))
        headers["authorization"] = authorization(
            self._signing_key(credentials, route.region, now[:8]),
            method,
            path,
            query=query,
            headers=headers,
            time=now,
            payload_hash=payload_hash,
        )
        if body is not None:
            headers["content-length"] = str(sum(map(len, body)))
        head = write_head(method, f"{path}?{query}" if query else path, headers)
        return None if head is None else await route.connections.send(method, head, body or ())

    async def _read(self, operation: str, answer: Answer) -> dict[str, Any] | None:
        return await _READERS[operation](answer)

    async def _route(self, call: SDKCall, parameters: Mapping[str, Any]) -> _Route:
        if not isinstance(call.sender, LaneSession):
            raise Unusual("the client sends its requests by something else")
        if call.sender.has_proxies:
            raise Unusual("there is a proxy")
        url = urlsplit(call.sent.url)
        sent = {name.lower(): _text(value) for name, value in call.sent.headers.items()}
        signed = _SIGNED_BY.fullmatch(sent.get("authorization", ""))
        if signed is None:
            raise Unusual("requests are signed in another way")
        credentials = await self._credentials.get_frozen_credentials()
        if signed["access_key"] != credentials.access_key:
            raise NotNow  # they were refreshed
        wanted, path = _wanted(parameters), encode_path(parameters["Key"])
        if wanted is None:
            raise NotNow
        if not url.path.endswith(path) or sorted(wanted[1].split("&")) != sorted(url.query.split("&")):
            raise Unusual("requests have another URL")
        if wanted[0] != {name: sent[name] for name in signed["names"].split(";") if name not in _EACH_ITS_OWN}:
            raise Unusual("requests have other headers")
        connections = self._connections_to(url, call.sender.tls)
        return _Route(connections, url.netloc, url.path.removesuffix(path), signed["region"])

    def _raise_plain(self, operation: str, refusal: BufferedResponse) -> None:
        if operation == "put_object" and refusal.status == 412 and b"<Code>PreconditionFailed</Code>" in refusal.body:
            code = "PreconditionFailed"
        elif operation == "head_object" and refusal.status == 404:
            code = "404"
        else:
            return
        details: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": refusal.status}}
        raise errors.ClientError(details, operation)

    def _signing_key(self, credentials: Any, region: str, date: str) -> Key:
        made_of = (credentials.access_key, credentials.secret_key, region, date)
        if self._key is None or self._key[0] != made_of:
            key = signing_key(credentials.access_key, credentials.secret_key, date=date, region=region)
            self._key = made_of, key
        return self._key[1]

    def _now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        return self._stamp


def _wanted(parameters: Mapping[str, Any]) -> tuple[dict[str, str], str] | None:
    """Headers and query of an operation's parameters; None where one is unknown, or would not be sent as it is signed."""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    for name, value in parameters.items():
        if name in _HEADERS:
            headers[_HEADERS[name]] = value
        elif name == "Metadata":
            headers.update({_METADATA + key: text for key, text in value.items()})
        elif name in _QUERY:
            query[_QUERY[name]] = str(value)
        elif name not in ("Bucket", "Key", "Body"):
            return None
    lines = "".join([f"{name}:{value}\n" for name, value in headers.items()])
    if not _PLAIN.fullmatch(lines) or lines.count("\n") != len(headers):
        return None
    return headers, encode_query(query) if query else ""


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def _read_put(answer: Answer) -> dict[str, Any] | None:
    if answer.status != 200:
        return None
    found = await held(answer)
    if found.body:
        raise UnsupportedResponse("an answer to a put that has a body")
    return {"ETag": header(found.headers, "etag")}


async def _read_head(answer: Answer) -> dict[str, Any] | None:
    if answer.status != 200:
        return None
    answer.close()
    return {**_described(answer.headers), "ChecksumSHA256": answer.headers.get("x-amz-checksum-sha256")}


async def _read_get(answer: Answer) -> dict[str, Any] | None:
    if answer.status not in (200, 206):
        return None
    try:
        content_range = answer.headers.get("content-range")
        if (answer.status == 206) != (
            content_range is not None and _CONTENT_RANGE.fullmatch(content_range) is not None
        ):
            raise UnsupportedResponse(f"a status {answer.status} that does not go with its range")
        return {**_described(answer.headers), "ContentRange": content_range, "Body": answer}
    except BaseException:
        answer.close()
        raise


_READERS = {"put_object": _read_put, "upload_part": _read_put, "get_object": _read_get, "head_object": _read_head}


def _described(headers: Mapping[str, str]) -> dict[str, Any]:
    """What the SDK calls the headers that describe an object."""
    return {
        "ContentLength": size_of(headers),
        "ETag": header(headers, "etag"),
        "ContentType": headers.get("content-type"),
        "ContentEncoding": headers.get("content-encoding"),
        "LastModified": time_of(headers.get("last-modified")),
        "Metadata": {
            name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)
        },
    }
