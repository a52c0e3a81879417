"""S3's hot requests, signed and sent by lakery-cloud or called from the SDK, and the way of all its other calls."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from botocore import exceptions as botocore_errors

from lakery_cloud.engine.attributes import ObjectAttributes, attributes_of_content
from lakery_cloud.engine.checksums import header_to_hex
from lakery_cloud.engine.cloud_transport import CloudTransport, OpenBody
from lakery_cloud.engine.features import Features
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, ObjectInfo, Receipt, Signal, Unsupported, Upload, without_none
from lakery_cloud.engine.requests import READ_SIZE, BodyChunks, Requests
from lakery_cloud.errors import ConfigError, LakeryCloudError
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import BufferedResponse, Request, Response, UnsupportedResponse
from lakery_cloud.http.headers import Clock, byte_range, required, strong
from lakery_cloud.providers.s3.answers import (
    METADATA,
    Answer,
    check_status,
    copied_object,
    copied_range,
    described_object,
    opened_object,
    sdk_required,
    whole,
    with_md5,
)
from lakery_cloud.providers.s3.checksums import (
    CHECKSUMS,
    CRC32C,
    MD5,
    SHA256,
    Supported,
    checksum_of,
    content_checksum,
)
from lakery_cloud.providers.s3.errors import Refusal, sdk_errors, translate
from lakery_cloud.providers.s3.refusals import REDIRECTS, REFUSED_CREDENTIALS
from lakery_cloud.providers.s3.signing import (
    UNSIGNED,
    Key,
    Route,
    authorization,
    encode_path,
    encode_query,
    find_route,
    signing_key,
)
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part, Pieces

if TYPE_CHECKING:
    from lakery_cloud.providers.s3.settings import S3Settings
    from lakery_cloud.providers.s3.storage import SDKClient

T = TypeVar("T")

logger = logging.getLogger("lakery_cloud")

_PARAMETERS = {SHA256: "ChecksumSHA256", CRC32C: "ChecksumCRC32C", MD5: "ContentMD5"}
"""Header -> the SDK's parameter."""

# Optional headers, see `Features`. Names of the last two start with that of the first one.
CONDITIONS = "if-none-match"
OBJECT_SIZE = "x-amz-mp-object-size"
WHOLE_CHECKSUM = "x-amz-checksum-type"
COPY_CHECKSUM = "x-amz-checksum-algorithm"
CHECKSUM_MODE = "x-amz-checksum-mode"
DELETE_CONDITION = "if-match"
OPTIONAL = frozenset(
    {CONDITIONS, OBJECT_SIZE, CHECKSUMS, WHOLE_CHECKSUM, COPY_CHECKSUM, CHECKSUM_MODE, DELETE_CONDITION}
)


class BucketMoved(Signal):
    """The bucket is not where the request went; only the SDK knows how to find it."""


class DecodedBody(Signal):
    """The body seems to be decoded on its way: it has no length, since a server only decodes it while it sends it."""


class S3Requests(Requests):
    """Hot requests that lakery-cloud signs and sends itself.

    Args:
        client: The SDK's client, which knows where requests go.
        http: Sends the requests.
        settings: The storage's settings.
        routes: What is known of that without the client.
    """

    def __init__(
        self, client: "SDKClient", http: HTTPClient, *, settings: "S3Settings", routes: Mapping[str, Route]
    ) -> None:
        super().__init__(endpoint=client.endpoint, max_attempts=settings.max_attempts)
        self._client = client
        self._http = http
        self._credentials = client.credentials
        self._payer = {"x-amz-request-payer": "requester"} if settings.requester_pays else {}
        self._stored_as = {
            **without_none(**{"x-amz-server-side-encryption": settings.sse}),
            **without_none(**{"x-amz-server-side-encryption-aws-kms-key-id": settings.kms_key_id}),
            **without_none(**{"x-amz-storage-class": settings.storage_class}),
        }
        self._routes: dict[str, Route | None] = {**routes}
        self._finding = asyncio.Lock()
        self._may_renew = False
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
                    self._routes[bucket] = await find_route(await self._client.get(), bucket)
        return self._routes[bucket] is not None

    async def find_again(self, bucket: str) -> None:
        """Ask again after the SDK has followed a redirect. If its answer is the same, it keeps the bucket's requests."""
        async with self._finding:
            client = await self._client.get()
            before, route = self._routes.get(bucket), await find_route(client, bucket)
            self._routes[bucket] = None if route == before else route
            if route == before:
                logger.info("the SDK sends the requests to bucket %r, since only it follows their redirects", bucket)

    async def put(
        self, address: Address, data: bytes, attributes: ObjectAttributes, supported: Supported = OPTIONAL
    ) -> None:
        headers = {**_described(attributes), **await checksum_of((data,), supported, attributes), **self._stored_as}
        if CONDITIONS in supported:
            headers["if-none-match"] = "*"
        await self.send(
            "put_object", address, self._request("PUT", address, headers, body=(data,)), _etag, expected=(200,)
        )

    async def head(self, address: Address, supported: Supported = OPTIONAL) -> ObjectInfo:
        headers = {CHECKSUM_MODE: "ENABLED"} if CHECKSUM_MODE in supported else {}
        request = self._request("HEAD", address, headers)
        return await self.send("head_object", address, request, partial(_head, address), expected=(200,))

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        headers = without_none(**{"range": byte_range(start, stop), "if-match": strong(version)})
        try:
            return await self._open(address, headers)
        except DecodedBody:
            return await self._open(address, {**headers, "accept-encoding": "gzip"})

    async def _open(self, address: Address, headers: dict[str, str]) -> OpenBody:
        request = self._request("GET", address, headers)
        read = partial(_body, address, may_be_decoded="accept-encoding" not in headers)
        return await self.open_body("get_object", address, request, read, expected=(200, 206))

    async def part(self, upload: Upload, part: Part, supported: Supported = OPTIONAL) -> Receipt:
        headers = await checksum_of(part.pieces, supported)
        request = self._request(
            "PUT",
            upload.address,
            headers,
            query=_query_of_part(upload, part.number),
            body=part.pieces,
        )
        etag = await self.send("upload_part", upload.address, request, _etag, expected=(200,))
        return Receipt(part.number, etag, headers.get(CRC32C))

    async def copy(
        self, source: ObjectInfo, address: Address, supported: Supported, *, sha256: bool, create_only: bool
    ) -> ObjectInfo:
        """Copy an object as it is. The response must not take longer than `read_timeout`."""
        headers = {
            **_copy_source(source),
            **({COPY_CHECKSUM: "SHA256"} if sha256 and COPY_CHECKSUM in supported else {}),
            **({CONDITIONS: "*"} if create_only and CONDITIONS in supported else {}),
            **self._stored_as,
        }
        request, read = self._request("PUT", address, headers), partial(copied_object, source, address)
        return await self.send("copy_object", address, request, read, expected=(200,))

    async def copy_part(
        self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int, *, seconds: float
    ) -> Receipt:
        """Copy a range of an object into a part. The response may take so many seconds."""
        headers = {**_copy_source(source), "x-amz-copy-source-range": f"bytes={start}-{stop - 1}"}
        request = self._request("PUT", upload.address, headers, query=_query_of_part(upload, number))
        request.read_timeout = seconds
        read = partial(copied_range, number, stop - start)
        return await self.send("upload_part_copy", upload.address, request, read, expected=(200,))

    def _request(
        self, method: str, address: Address, headers: dict[str, str], *, query: str = "", body: tuple[bytes, ...] = ()
    ) -> Request:
        """A request without its signature; its target lacks the root of the route."""
        path = encode_path(address.key)
        return Request(method, f"{path}?{query}" if query else path, {**headers, **self._payer}, body)

    async def _exchange(self, address: Address, request: Request) -> Response:
        route = self._routes[address.bucket]
        assert route is not None
        credentials = await self._credentials.get_frozen_credentials()
        now = self._clock.now()
        checksum = request.headers.get(SHA256)
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

    def _signing_key(self, credentials: Any, region: str, date: str) -> Key:
        made_of = (credentials.access_key, credentials.secret_key, region, date)
        if self._key is None or self._key[0] != made_of:
            self._key = made_of, signing_key(credentials.access_key, credentials.secret_key, date=date, region=region)
        return self._key[1]

    async def _renew_credentials(self) -> bool:
        return self._may_renew and bool(await self._credentials.renew())

    def _refused(self, response: BufferedResponse, operation: str, address: Address) -> Exception:
        refusal = Refusal.of_response(response)
        self._may_renew = refusal.code in REFUSED_CREDENTIALS  # read before any other request can change it
        if refusal.code in REDIRECTS:
            return BucketMoved(refusal.code)
        return refusal.error(operation, address, endpoint=self.endpoint)


class SDKRequests:
    """Hot requests as calls of the SDK, with its retries.

    Args:
        client: The SDK's client.
        settings: The storage's settings.
        translate: Makes the engine's error for an error of the SDK.
    """

    def __init__(
        self,
        client: "SDKClient",
        *,
        settings: "S3Settings",
        translate: Callable[[Exception, str, Address], Exception],
    ) -> None:
        self._client = client
        self._payer = sdk_payer(settings)
        self._stored_as = sdk_stored_as(settings)
        self._translate = translate

    async def put(
        self, address: Address, data: bytes, attributes: ObjectAttributes, supported: Supported = OPTIONAL
    ) -> None:
        await self._call(
            "put_object",
            address,
            _required_etag,
            Body=data,
            **sdk_described(attributes),
            **await self._checksum((data,), supported, attributes),
            **({"IfNoneMatch": "*"} if CONDITIONS in supported else {}),
            **self._stored_as,
        )

    async def head(self, address: Address, supported: Supported = OPTIONAL) -> ObjectInfo:
        mode = {"ChecksumMode": "ENABLED"} if CHECKSUM_MODE in supported else {}
        return await self._call("head_object", address, partial(_head_of_sdk, address), **mode)

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        wanted = without_none(Range=byte_range(start, stop), IfMatch=strong(version))
        return await self._call("get_object", address, partial(_body_of_sdk, address), **wanted)

    async def part(self, upload: Upload, part: Part, supported: Supported = OPTIONAL) -> Receipt:
        checksum = await self._checksum(part.pieces, supported)
        etag = await self._call(
            "upload_part",
            upload.address,
            _required_etag,
            UploadId=upload.id,
            PartNumber=part.number,
            Body=b"".join(part.pieces),
            **checksum,
        )
        return Receipt(part.number, etag, checksum.get("ChecksumCRC32C"))

    async def _checksum(
        self, pieces: Pieces, supported: Supported, attributes: ObjectAttributes | None = None
    ) -> dict[str, str]:
        headers = await checksum_of(pieces, supported, attributes)
        return {_PARAMETERS[name]: value for name, value in headers.items()}

    async def _call(
        self, operation: str, address: Address, read: Callable[[Mapping[str, Any]], T], **parameters: Any
    ) -> T:
        target = {"Bucket": address.bucket, "Key": address.key}
        try:
            client = await self._client.get()
            answer = await getattr(client, operation)(**target, **self._payer, **parameters)
            return read(answer if operation == "get_object" else check_status(operation, answer))
        except LakeryCloudError:
            raise
        except (botocore_errors.ClientError, *sdk_errors()) as error:
            raise self._translate(error, operation, address) from error


class S3Calls(CloudTransport):
    """A transport whose other requests are calls of the SDK.

    Args:
        client: The SDK's client.
        settings: The storage's settings.
    """

    def __init__(self, client: "SDKClient", settings: "S3Settings") -> None:
        super().__init__(settings, connections=client.connections)
        self._client = client
        self._endpoint = client.endpoint
        self._features = Features(OPTIONAL if settings.conditional_writes else OPTIONAL - {CONDITIONS})
        self._settings = settings
        self._wants_md5 = False
        self._payer = sdk_payer(settings)

    @property
    def sdk_errors(self) -> tuple[type[Exception], ...]:  # type: ignore[override]  # it imports aiohttp
        return (botocore_errors.ClientError, *sdk_errors())

    async def _object_call(self, operation: str, address: Address, **parameters: Any) -> Answer:
        return await self._object_read(operation, address, whole, **parameters)

    async def _object_read(self, operation: str, address: Address, read: Callable[[Answer], T], **parameters: Any) -> T:
        return await self._bucket_read(operation, address, read, Key=address.key, **self._payer, **parameters)

    async def _checked_call(self, operation: str, address: Address, **parameters: Any) -> Answer:
        return await self._checked_read(operation, address, whole, **parameters)

    async def _checked_read(
        self, operation: str, address: Address, read: Callable[[Answer], T], **parameters: Any
    ) -> T:
        """Call an operation that needs a checksum: the SDK's, or `Content-MD5` if the store accepts nothing else."""
        if not self._wants_md5 and CHECKSUMS in self._features.supported:
            try:
                return await self._bucket_read(operation, address, read, **parameters)
            except Unsupported as refusal:
                if not any(header.startswith(("content-md5", CHECKSUMS)) for header in refusal.headers):
                    raise
        with with_md5():
            result = await self._bucket_read(operation, address, read, **parameters)
        self._wants_md5 = True
        return result

    async def _bucket_read(self, operation: str, address: Address, read: Callable[[Answer], T], **parameters: Any) -> T:
        """Call an operation of the SDK, and read its answer. What the reader refuses is an error of the call."""

        async def call() -> T:
            client = await self._client.get()
            answer = await getattr(client, operation)(Bucket=address.bucket, **parameters)
            return read(check_status(operation, answer))

        return await self._call(operation, address, call)

    def _translate(self, error: Exception, operation: str, address: Address) -> Exception:
        return translate(error, operation, address, endpoint=self._endpoint)


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


def _required_etag(answer: Mapping[str, Any]) -> str:
    return str(sdk_required(answer, "ETag"))


def _head_of_sdk(address: Address, answer: Mapping[str, Any]) -> ObjectInfo:
    return described_object(address, answer["ResponseMetadata"]["HTTPHeaders"])


def _body_of_sdk(address: Address, answer: Mapping[str, Any]) -> OpenBody:
    body, metadata = answer["Body"], answer["ResponseMetadata"]
    try:
        info, start = opened_object(address, metadata["HTTPStatusCode"], metadata["HTTPHeaders"])
    except UnsupportedResponse:
        body.close()
        raise
    chunks = BodyChunks(partial(body.read, READ_SIZE), interruptions=sdk_errors())
    return Body(info, chunks, start), body.close


def _described(attributes: ObjectAttributes) -> dict[str, str]:
    headers = {METADATA + name: value for name, value in attributes.metadata.items()}
    headers["content-type"] = attributes.content_type
    if attributes.content_encoding is not None:
        headers["content-encoding"] = attributes.content_encoding
    if attributes.tags:
        headers["x-amz-tagging"] = urlencode(attributes.tags)
    return headers


def _query_of_part(upload: Upload, number: int) -> str:
    return encode_query({"partNumber": str(number), "uploadId": upload.id})


def _copy_source(source: ObjectInfo) -> dict[str, str]:
    return {
        "x-amz-copy-source": encode_path(f"{source.address.bucket}/{source.address.key}"),
        **without_none(**{"x-amz-copy-source-if-match": strong(source.version)}),
    }


def _etag(response: BufferedResponse) -> str:
    if response.body:
        raise UnsupportedResponse("a response to a put with a body")
    return required(response.headers, "etag")


def _head(address: Address, response: BufferedResponse) -> ObjectInfo:
    return described_object(address, response.headers)


def _body(address: Address, response: Response, *, may_be_decoded: bool) -> OpenBody:
    headers = response.headers
    if may_be_decoded and response.status == 200 and not {"content-length", "content-encoding"} & headers.keys():
        raise DecodedBody(str(address))
    info, start = opened_object(address, response.status, headers)
    return Body(info, BodyChunks(response.read), start), response.close


def content_parameters(content: Digest, *, create_only: bool) -> dict[str, Any]:
    """The parameters of a PUT by a URL. All of them are signed, so the store accepts nothing but the content.

    Raises:
        ConfigError: The store can't check the hash.
    """
    if content["content_hash_algorithm"] != "sha256":
        raise ConfigError(
            f"a URL can't pin content whose hash is a {content['content_hash_algorithm']}: S3 checks sha256 alone"
        )
    attributes = attributes_of_content(content, {})
    checksum = {"ChecksumSHA256": content_checksum(attributes)}
    return {**sdk_described(attributes), **checksum, **({"IfNoneMatch": "*"} if create_only else {})}
