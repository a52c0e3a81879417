"""S3's hot requests: put, get, head and part, signed and sent by lakery-cloud, or called from the SDK."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from botocore import exceptions as botocore_errors

from lakery_cloud.engine.attributes import METADATA_ALGORITHM, METADATA_HASH, ObjectAttributes
from lakery_cloud.engine.checksums import crc32c_header, header_to_hex, hex_to_header
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, ObjectInfo, Receipt, Signal, Upload, without_none
from lakery_cloud.engine.requests import READ_SIZE, BodyChunks, Requests
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import BufferedResponse, Origin, Request, Response, UnsupportedResponse
from lakery_cloud.http.headers import Clock, byte_range, read_content_range, required, size_of, time_of
from lakery_cloud.providers.s3.errors import REDIRECTS, SDK_ERRORS, SET_CREDENTIALS, Refusal, translate
from lakery_cloud.providers.s3.signing import UNSIGNED, Key, authorization, encode_path, encode_query, signing_key
from lakery_cloud.streams.parts import Part

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

    from lakery_cloud.providers.s3.settings import S3Settings

logger = logging.getLogger("lakery_cloud")

PROBE = "lakery-cloud-route"
"""A key that is never requested: the SDK is asked where it would send a request for it."""

_METADATA = "x-amz-meta-"
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/ ]+/\d{8}/(?P<region>[^/ ]+)/s3/aws4_request, ?SignedHeaders=(?P<names>[a-z0-9;-]+),"
)
# The headers that our requests sign too; others come from the user's hooks.
_OURS = frozenset({"host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})


@dataclass(slots=True)
class Conditions:
    """Whether the endpoint supports `If-None-Match`: by the settings, until it refuses the header."""

    are_supported: bool


class BucketMoved(Signal):
    """The bucket is not where the request went; only the SDK knows how to find it."""


class Route(NamedTuple):
    """Where requests to a bucket go.

    Attributes:
        origin: The host.
        root: The path before the key.
        region: The region that signatures name.
    """

    origin: Origin
    root: str
    region: str


def answer_probe(request: Any, **_: Any) -> AioAWSResponse | None:
    """A handler for the SDK's event `before-send`: answers the probe, unsent, with the request's own URL and signature."""
    if not request.url.endswith(f"/{PROBE}"):
        return None
    signature = request.headers.get("Authorization", "")
    signature = signature.decode() if isinstance(signature, bytes) else signature
    return AioAWSResponse(request.url, 200, {"url": request.url, "authorization": signature}, _NoBody())


class _NoBody:
    async def read(self) -> bytes:
        return b""


async def find_route(client: "S3Client", bucket: str) -> Route | None:
    """Where the SDK would send a request for an object of a bucket; None if it signs in a way that we can't."""
    answer = await client.head_object(Bucket=bucket, Key=PROBE)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    signed = _SIGNED.match(headers["authorization"])
    if signed is None or not set(signed["names"].split(";")) <= _OURS:
        return None
    root = urlsplit(headers["url"]).path.removesuffix(PROBE)  # without the credentials that a URL may have
    return Route(Origin.of(headers["url"]), root, signed["region"])


class S3Requests(Requests):
    """Hot requests that lakery-cloud signs and sends itself.

    Args:
        client: The SDK's client, which knows where requests go.
        http: Sends the requests.
        credentials: The credentials of the client.
        settings: The storage's settings.
        conditions: Whether requests are conditional.
    """

    def __init__(
        self,
        client: "S3Client",
        http: HTTPClient,
        *,
        credentials: Any,
        settings: "S3Settings",
        conditions: "Conditions",
    ) -> None:
        super().__init__(endpoint=client.meta.endpoint_url, max_attempts=settings.max_attempts)
        self._conditions = conditions
        self._client = client
        self._http = http
        self._credentials = credentials
        self._payer = {"x-amz-request-payer": "requester"} if settings.requester_pays else {}
        self._stored_as = {
            **without_none(**{"x-amz-server-side-encryption": settings.sse}),
            **without_none(**{"x-amz-server-side-encryption-aws-kms-key-id": settings.kms_key_id}),
            **without_none(**{"x-amz-storage-class": settings.storage_class}),
        }
        self._routes: dict[str, Route | None] = {}
        self._finding = asyncio.Lock()
        self._key: tuple[tuple[str, ...], Key] | None = None
        self._clock = Clock(lambda second: time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second)))

    def has_route(self, bucket: str) -> bool:
        """Whether we are known to sign requests to a bucket."""
        return self._routes.get(bucket) is not None

    async def can_serve(self, bucket: str) -> bool:
        """Whether we can sign requests to a bucket. The SDK is asked once for each bucket."""
        if bucket not in self._routes:
            async with self._finding:
                if bucket not in self._routes:
                    self._routes[bucket] = await self._find_route(bucket)
        return self._routes[bucket] is not None

    async def find_again(self, bucket: str) -> None:
        """Ask again after the SDK has followed a redirect. If its answer is the same, it keeps the bucket's requests."""
        async with self._finding:
            before, route = self._routes.get(bucket), await self._find_route(bucket)
            self._routes[bucket] = None if route == before else route
            if route == before:
                logger.info("the SDK sends the requests to bucket %r, since only it follows their redirects", bucket)

    async def _find_route(self, bucket: str) -> Route | None:
        try:
            return await find_route(self._client, bucket)
        except Exception as error:
            raise self._unsigned(error, Address(bucket, "")) from error

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        headers = {**_described(attributes), **await _checksum(data, attributes), **self._stored_as}
        if self._conditions.are_supported:
            headers["if-none-match"] = "*"
        await self.send(
            "put_object", address, self._request("PUT", address, headers, body=(data,)), _etag, expected=(200,)
        )

    async def head(self, address: Address) -> ObjectInfo:
        request = self._request("HEAD", address, {"x-amz-checksum-mode": "ENABLED"})
        return await self.send("head_object", address, request, partial(_info, address), expected=(200,))

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        headers = without_none(**{"range": byte_range(start, stop), "if-match": version})
        return await self.open_body(
            "get_object", address, self._request("GET", address, headers), partial(_body, address), expected=(200, 206)
        )

    async def part(self, upload: Upload, part: Part) -> Receipt:
        checksum = await crc32c_header(*part.pieces)
        request = self._request(
            "PUT",
            upload.address,
            {"x-amz-checksum-crc32c": checksum},
            query=encode_query({"partNumber": str(part.number), "uploadId": upload.id}),
            body=part.pieces,
        )
        etag = await self.send("upload_part", upload.address, request, _etag, expected=(200,))
        return Receipt(part.number, etag, checksum)

    def _request(
        self, method: str, address: Address, headers: dict[str, str], *, query: str = "", body: tuple[bytes, ...] = ()
    ) -> Request:
        """A request without its signature; its target lacks the root of the route."""
        path = encode_path(address.key)
        return Request(method, f"{path}?{query}" if query else path, {**headers, **self._payer}, body)

    async def _exchange(self, address: Address, request: Request) -> Response:
        route = self._routes[address.bucket]
        assert route is not None
        try:
            credentials = await self._credentials.get_frozen_credentials()
        except Exception as error:
            raise self._unsigned(error, address) from error
        now = self._clock.now()
        checksum = request.headers.get("x-amz-checksum-sha256")
        # S3 compares the checksum too, so hashing the body once serves both.
        payload_hash = header_to_hex(checksum) if checksum else UNSIGNED
        headers = {
            **request.headers,
            "host": route.origin.netloc,
            "x-amz-content-sha256": payload_hash,
            "x-amz-date": now,
        }
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        path, _, query = request.target.partition("?")
        headers = dict(sorted(headers.items()))
        headers["authorization"] = authorization(
            self._signing_key(credentials, route.region, now[:8]),
            request.method,
            route.root + path,
            query=query,
            headers=headers,
            time=now,
            payload_hash=payload_hash,
        )
        return await self._http.send(
            route.origin, Request(request.method, route.root + request.target, headers, request.body)
        )

    def _unsigned(self, error: Exception, address: Address) -> Exception:
        """The engine's error for a request that could not be signed; credentials come from code of any kind."""
        if isinstance(error, (botocore_errors.ClientError, *SDK_ERRORS)):
            return translate(error, "signing", address, endpoint=self.endpoint, is_conditional=False)
        return self.failure("signing", address, redact_error(error)).no_credentials(SET_CREDENTIALS)

    def _signing_key(self, credentials: Any, region: str, date: str) -> Key:
        made_of = (credentials.access_key, credentials.secret_key, region, date)
        if self._key is None or self._key[0] != made_of:
            self._key = made_of, signing_key(credentials.access_key, credentials.secret_key, date=date, region=region)
        return self._key[1]

    def _refused(self, response: BufferedResponse, operation: str, address: Address) -> Exception:
        refusal = Refusal.of_response(response)
        if refusal.code in REDIRECTS:
            return BucketMoved(refusal.code)
        return refusal.error(operation, address, endpoint=self.endpoint, is_conditional=self._conditions.are_supported)


class SDKRequests:
    """Hot requests as calls of the SDK, with its retries.

    Args:
        client: The SDK's client.
        settings: The storage's settings.
        conditions: Whether requests are conditional.
        translate: Makes the engine's error for an error of the SDK.
    """

    def __init__(
        self,
        client: "S3Client",
        *,
        settings: "S3Settings",
        conditions: Conditions,
        translate: Callable[[Exception, str, Address], Exception],
    ) -> None:
        self._client = client
        self._payer = sdk_payer(settings)
        self._stored_as = sdk_stored_as(settings)
        self._conditions = conditions
        self._translate = translate

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        checksum = content_checksum(attributes)
        await self._call(
            "put_object",
            address,
            Body=data,
            **sdk_described(attributes),
            **({"ChecksumSHA256": checksum} if checksum else {"ChecksumCRC32C": await crc32c_header(data)}),
            **({"IfNoneMatch": "*"} if self._conditions.are_supported else {}),
            **self._stored_as,
        )

    async def head(self, address: Address) -> ObjectInfo:
        return _info_of_sdk(address, await self._call("head_object", address, ChecksumMode="ENABLED"))

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        wanted = without_none(Range=byte_range(start, stop), IfMatch=version)
        answer = await self._call("get_object", address, **wanted)
        body = answer["Body"]
        first, _ = read_content_range(answer.get("ContentRange"), size=answer["ContentLength"])
        chunks = BodyChunks(partial(body.read, READ_SIZE), interruptions=(*SDK_ERRORS, aiohttp.ClientError))
        return Body(_info_of_sdk(address, answer), chunks, first), body.close

    async def part(self, upload: Upload, part: Part) -> Receipt:
        checksum = await crc32c_header(*part.pieces)
        answer = await self._call(
            "upload_part",
            upload.address,
            UploadId=upload.id,
            PartNumber=part.number,
            Body=b"".join(part.pieces),
            ChecksumCRC32C=checksum,
        )
        return Receipt(part.number, answer["ETag"], checksum)

    async def _call(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        target = {"Bucket": address.bucket, "Key": address.key}
        try:
            answer: dict[str, Any] = await getattr(self._client, operation)(**target, **self._payer, **parameters)
        except (botocore_errors.ClientError, *SDK_ERRORS) as error:
            raise self._translate(error, operation, address) from error
        return answer


def sdk_payer(settings: "S3Settings") -> dict[str, str]:
    """The parameter of every call that says who pays."""
    return {"RequestPayer": "requester"} if settings.requester_pays else {}


def sdk_stored_as(settings: "S3Settings") -> dict[str, str]:
    """The parameters of a call that say how the store keeps content."""
    return without_none(
        ServerSideEncryption=settings.sse, SSEKMSKeyId=settings.kms_key_id, StorageClass=settings.storage_class
    )


def sdk_described(attributes: ObjectAttributes) -> dict[str, Any]:
    """An object's attributes as parameters of a call."""
    return without_none(
        ContentType=attributes.content_type,
        ContentEncoding=attributes.content_encoding,
        Metadata=dict(attributes.metadata) or None,
        Tagging=urlencode(attributes.tags) or None,
    )


def _info_of_sdk(address: Address, answer: Mapping[str, Any]) -> ObjectInfo:
    _, size = read_content_range(answer.get("ContentRange"), size=answer["ContentLength"])
    return ObjectInfo(
        address,
        size,
        answer["ETag"],
        content_hash(answer.get("ChecksumSHA256")),
        answer.get("ContentType"),
        answer.get("ContentEncoding"),
        answer.get("LastModified"),
        answer.get("Metadata", {}),
    )


def _described(attributes: ObjectAttributes) -> dict[str, str]:
    return {
        **{_METADATA + name: value for name, value in attributes.metadata.items()},
        **without_none(
            **{
                "content-type": attributes.content_type,
                "content-encoding": attributes.content_encoding,
                "x-amz-tagging": urlencode(attributes.tags) or None,
            }
        ),
    }


async def _checksum(data: bytes, attributes: ObjectAttributes) -> dict[str, str]:
    """The checksum that S3 compares with the body: the content hash, if S3 knows its algorithm."""
    if sha256 := content_checksum(attributes):
        return {"x-amz-checksum-sha256": sha256}
    return {"x-amz-checksum-crc32c": await crc32c_header(data)}


def content_checksum(attributes: ObjectAttributes) -> str | None:
    """The content hash as a checksum of S3, if it is a SHA-256."""
    is_sha256 = attributes.metadata.get(METADATA_ALGORITHM) == "sha256"
    return hex_to_header(attributes.metadata[METADATA_HASH]) if is_sha256 else None


def content_hash(checksum: str | None) -> str | None:
    """The SHA-256 of a whole object; S3 marks a checksum of checksums by `-<parts>` at its end."""
    return None if not checksum or "-" in checksum else f"sha256:{header_to_hex(checksum)}"


def _etag(response: BufferedResponse) -> str:
    if response.body:
        raise UnsupportedResponse("a response to a put with a body")
    return required(response.headers, "etag")


def _info(address: Address, response: Response | BufferedResponse) -> ObjectInfo:
    headers = response.headers
    _, size = read_content_range(headers.get("content-range"), size=size_of(headers))
    return ObjectInfo(
        address,
        size,
        required(headers, "etag"),
        content_hash(headers.get("x-amz-checksum-sha256")),
        headers.get("content-type"),
        headers.get("content-encoding"),
        time_of(headers.get("last-modified")),
        {name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)},
    )


def _body(address: Address, response: Response) -> OpenBody:
    content_range = response.headers.get("content-range")
    if response.status == 206 and content_range is None:  # some stores send a range with 200
        raise UnsupportedResponse("a response 206 without Content-Range")
    start, _ = read_content_range(content_range, size=0)
    return Body(_info(address, response), BodyChunks(response.read), start), response.close
