"""S3's hot requests over the fast lane, asked for and answered in the SDK's words. Everything else is the SDK's.

The first request of each kind to a bucket goes the SDK's way. From what the SDK sent the lane learns the host, the path and
the region, and that it would have sent and signed the same; where it would not, it leaves the requests to the SDK.
"""

import base64
import logging
import re
import ssl
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from botocore import exceptions as errors

from lakery_cloud.engine.lane import Answer, Lane, NoConnection, NoConnectionInTime, NoTLS, Origin
from lakery_cloud.engine.sockets import socket_factory
from lakery_cloud.engine.wire import NothingCame, OddAnswer, WireError, write_head
from lakery_cloud.providers.s3_signing import UNSIGNED, Key, authorization, encode_path, encode_query, signing_key

logger = logging.getLogger("lakery_cloud")

MAX_ERROR = 1024 * 1024
"""Bytes of an error; S3's have less than one KiB."""

_METHODS = {"put_object": "PUT", "upload_part": "PUT", "get_object": "GET", "head_object": "HEAD"}
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
# Nothing is collapsed or trimmed when it is signed, and nothing ends a header: one line for each.
_PLAIN = re.compile(r"(?:[a-z0-9-]+:[\x21-\x7e]+(?: [\x21-\x7e]+)*\n)*")
_SIGNED_BY = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<access_key>[^/ ]+)/\d{8}/(?P<region>[^/ ]+)/s3/aws4_request, ?"
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), ?Signature=[0-9a-f]{64}"
)
# What S3 says of a bucket in another region; the SDK finds out in which.
_ELSEWHERE = frozenset({301, 302, 307, 308, 400})
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/\d+")


@dataclass(slots=True)
class _Call:
    """A call of the SDK: what its first attempt is to find, and what it sent.

    Attributes:
        first: The outcome of the lane's attempt, which is the first of the call's.
        session: What sent it.
        sent: The last request.
    """

    first: "Outcome | None" = None
    session: "LaneSession | None" = None
    sent: Any = None


@dataclass(frozen=True, slots=True)
class _Held:
    """An answer in full, as the SDK wants it.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: Its body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        return self.body


Outcome = _Held | WireError

_call: ContextVar[_Call | None] = ContextVar("lakery_cloud_s3_call", default=None)


class LaneSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
    """The SDK's HTTP session. The lane's attempt at a request is the first of its own."""

    seconds: float
    """How long the other side may take nothing of what is sent; the SDK's settings know no such limit."""

    def __init__(self, *, connector_args: dict[str, Any], **settings: Any) -> None:
        self.tls: ssl.SSLContext | None = None
        connector_args = {**connector_args, "socket_factory": socket_factory(self.seconds)}
        super().__init__(connector_args=connector_args, **settings)
        self.has_proxies = bool(settings.get("proxies"))

    async def send(self, request: Any) -> Any:
        call = _call.get()
        if call is None:
            return await super().send(request)
        call.session, call.sent = self, request
        if call.first is None:
            return await super().send(request)
        first, call.first = call.first, None
        if isinstance(first, WireError):
            raise _as_sdk_says(first, request.url) from first
        return AioAWSResponse(request.url, first.status, dict(first.headers), first)

    def _get_ssl_context(self) -> ssl.SSLContext:
        self.tls = super()._get_ssl_context()
        # boto3 compares names by itself, aiohttp leaves that to the context, and between them nobody does.
        self.tls.check_hostname = True
        return self.tls


def _as_sdk_says(error: WireError, url: str) -> Exception:
    """What the SDK says of no answer, by which it knows whether to try again."""
    kind = next((said for wire, said in _SDK_ERRORS.items() if isinstance(error, wire)), errors.ConnectionClosedError)
    made: Exception = kind(endpoint_url=url, error=error)
    return made


_SDK_ERRORS = {
    NoConnectionInTime: errors.ConnectTimeoutError,
    NoTLS: errors.SSLError,
    NoConnection: errors.EndpointConnectionError,
    NothingCame: errors.ReadTimeoutError,
}


@dataclass(frozen=True, slots=True)
class _Route:
    """Where requests to a bucket go, and what for they are signed."""

    lane: Lane
    host: str
    root: str
    region: str


class S3Lane:
    """The operations of an S3 client, the hot ones over the fast lane.

    Args:
        client: The client.
        credentials: What the client signs with.
        connect_timeout: Seconds, as the client's.
        read_timeout: Seconds, as the client's.
    """

    def __init__(self, client: Any, *, credentials: Any, connect_timeout: float, read_timeout: float) -> None:
        self._client = client
        self._credentials = credentials
        self._timeouts = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
        self._lanes: dict[Origin, Lane] = {}
        self._routes: dict[tuple[str, str], _Route | None] = {}
        self._key: tuple[tuple[str, ...], Key] | None = None
        self._second, self._stamp = 0, ""

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Do an operation, as the method of the client does it.

        Raises:
            ClientError, BotoCoreError, HTTPClientError: As the method.
        """
        if operation not in _METHODS:
            return await self._ask_sdk(operation, parameters, _Call())
        place = operation, parameters["Bucket"]
        if place not in self._routes:
            return await self._learn(place, parameters)
        route = self._routes[place]
        if route is None:
            return await self._ask_sdk(operation, parameters, _Call())
        try:
            answer = await self._send(route, operation, parameters)
            if answer is None:
                return await self._ask_sdk(operation, parameters, _Call())
            found = await _READERS[operation](answer)
            if found is not None:
                return found
            first: Outcome = await _held(answer)
        except WireError as error:
            first = error
        except OddAnswer as odd:
            self._leave(place, str(odd))
            return await self._ask_sdk(operation, parameters, _Call())
        if isinstance(first, _Held):
            _raise_plain(operation, first)
            if first.status in _ELSEWHERE:
                return await self._learn(place, parameters, first)
        return await self._ask_sdk(operation, parameters, _Call(first))

    def close(self) -> None:
        """Close the connections."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        self._routes.clear()

    async def _ask_sdk(self, operation: str, parameters: Mapping[str, Any], call: _Call) -> dict[str, Any]:
        token = _call.set(call)
        try:
            answer: dict[str, Any] = await getattr(self._client, operation)(**parameters)
        finally:
            _call.reset(token)
        return answer

    async def _send(self, route: _Route, operation: str, parameters: Mapping[str, Any]) -> Answer | None:
        """Send a request; None if it can't be written or signed here."""
        wanted = _wanted(parameters)
        try:
            credentials = await self._credentials.get_frozen_credentials()
        except Exception as error:  # noqa: BLE001, whatever it is, the SDK meets it too, and says so
            logger.debug("no credentials for the fast lane: %s", type(error).__name__)
            return None
        if wanted is None or credentials.access_key is None:
            return None
        headers, query = wanted
        method, path = _METHODS[operation], route.root + encode_path(parameters["Key"])
        checksum = headers.get("x-amz-checksum-sha256")
        # The hash that S3 checks as a checksum anyway.
        payload_hash = base64.b64decode(checksum).hex() if checksum else UNSIGNED
        now = self._now()
        headers["host"] = route.host
        headers["x-amz-content-sha256"] = payload_hash
        headers["x-amz-date"] = now
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        headers = dict(sorted(headers.items()))
        signature = authorization(
            self._signing_key(credentials, route.region, now[:8]),
            method,
            path,
            query=query,
            headers=headers,
            time=now,
            payload_hash=payload_hash,
        )
        body = parameters.get("Body")
        headers["authorization"] = signature
        if body is not None:
            headers["content-length"] = str(len(body))
        head = write_head(method, f"{path}?{query}" if query else path, headers)
        return None if head is None else await route.lane.send(method, head, (body,) if body else ())

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

    async def _learn(
        self, place: tuple[str, str], parameters: Mapping[str, Any], first: Outcome | None = None
    ) -> dict[str, Any]:
        """Ask the SDK, and learn from what it sent where it was answered as it wanted."""
        call = _Call(first)
        answer = await self._ask_sdk(place[0], parameters, call)
        try:
            self._routes[place] = await self._route(call, parameters)
        except _Unusual as reason:
            self._leave(place, str(reason))
        except _Refreshed:
            pass
        return answer

    async def _route(self, call: _Call, parameters: Mapping[str, Any]) -> _Route:
        if call.session is None or call.sent is None:
            raise _Unusual("the client sends its requests by something else")
        if call.session.has_proxies:
            raise _Unusual("there is a proxy")
        url = urlsplit(call.sent.url)
        sent = {name.lower(): _text(value) for name, value in call.sent.headers.items()}
        signed = _SIGNED_BY.fullmatch(sent.get("authorization", ""))
        credentials = await self._credentials.get_frozen_credentials()
        if signed is None:
            raise _Unusual("requests are signed in another way")
        if signed["access_key"] != credentials.access_key:
            raise _Refreshed
        wanted, path = _wanted(parameters), encode_path(parameters["Key"])
        if (
            wanted is None
            or not url.path.endswith(path)
            or sorted(wanted[1].split("&")) != sorted(url.query.split("&"))
        ):
            raise _Unusual("requests have another URL")
        if wanted[0] != {name: sent[name] for name in signed["names"].split(";") if name not in _EACH_ITS_OWN}:
            raise _Unusual("requests have other headers")
        is_tls = url.scheme == "https"
        origin = Origin(url.hostname or "", url.port or (443 if is_tls else 80), is_tls)
        if origin not in self._lanes:
            tls = call.session.tls
            if is_tls and tls is None:
                raise _Unusual("certificates are not checked")
            self._lanes[origin] = Lane(origin, tls=tls, **self._timeouts)
        return _Route(self._lanes[origin], url.netloc, url.path.removesuffix(path), signed["region"])

    def _leave(self, place: tuple[str, str], reason: str) -> None:
        self._routes[place] = None
        logger.info("%s in bucket %r goes without the fast lane: %s", *place, reason)


class _Unusual(Exception):
    """The SDK does what the lane can't."""


class _Refreshed(Exception):
    """The SDK signed with other credentials than are there now, so nothing can be told from it."""


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


async def _held(answer: Answer) -> _Held:
    """The whole of an answer that is none of ours."""
    try:
        return _Held(answer.status, answer.headers, await answer.read_all(MAX_ERROR))
    finally:
        answer.close()


def _raise_plain(operation: str, answer: _Held) -> None:
    """Raise what the SDK would, of the two refusals that the algorithm meets every day.

    Raises:
        ClientError: The object is there already, or isn't there.
    """
    if operation == "put_object" and answer.status == 412 and b"<Code>PreconditionFailed</Code>" in answer.body:
        code = "PreconditionFailed"
    elif operation == "head_object" and answer.status == 404:
        code = "404"
    else:
        return
    details: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": answer.status}}
    raise errors.ClientError(details, operation)


# Answers: None if it is no plain success.


async def _read_put(answer: Answer) -> dict[str, Any] | None:
    if answer.status != 200:
        return None
    held = await _held(answer)
    if held.body:
        raise OddAnswer("an answer to a put that has a body")
    return {"ETag": _header(held.headers, "etag")}


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
            raise OddAnswer(f"a status {answer.status} with the range {content_range!r}")
        return {**_described(answer.headers), "ContentRange": content_range, "Body": answer}
    except BaseException:
        answer.close()
        raise


_READERS = {"put_object": _read_put, "upload_part": _read_put, "get_object": _read_get, "head_object": _read_head}


def _described(headers: Mapping[str, str]) -> dict[str, Any]:
    """What the SDK calls the headers that describe an object."""
    size = _header(headers, "content-length")
    if not size.isdecimal():
        raise OddAnswer(f"an object of the size {size!r}")
    return {
        "ContentLength": int(size),
        "ETag": _header(headers, "etag"),
        "ContentType": headers.get("content-type"),
        "ContentEncoding": headers.get("content-encoding"),
        "LastModified": _modified(headers.get("last-modified")),
        "Metadata": {
            name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)
        },
    }


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise OddAnswer(f"an answer without {name}")
    return value


def _modified(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
    except ValueError as error:
        raise OddAnswer(f"an object of the date {text!r}") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
