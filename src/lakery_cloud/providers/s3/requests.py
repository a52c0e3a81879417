"""S3's hot requests, signed and sent by lakery-cloud."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from lakery_cloud.engine.attributes import METADATA_HASH, ObjectAttributes
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, ObjectInfo, Receipt, Signal, Upload, without_none
from lakery_cloud.engine.requests import BodyChunks, Requests
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import BufferedResponse, Request, Response, UnsupportedResponse
from lakery_cloud.http.headers import Clock, byte_range, required, strong
from lakery_cloud.providers.s3.answers import (
    FULL_OBJECT,
    METADATA,
    Begun,
    begun_upload,
    completed_object,
    copied_object,
    copied_range,
    described_object,
    judge,
    listed_page,
    opened_object,
)
from lakery_cloud.providers.s3.checksums import CHECKSUMS, CRC32C, SHA256, Supported, checksum_of
from lakery_cloud.providers.s3.errors import Refusal
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
from lakery_cloud.streams.parts import Part

if TYPE_CHECKING:
    from lakery_cloud.providers.s3.settings import S3Settings
    from lakery_cloud.providers.s3.storage import SDKClient

logger = logging.getLogger("lakery_cloud")

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


CONTENT_HASH = "x-amz-content-sha256"
STORAGE_CLASS = "x-amz-storage-class"
MAX_PAGE = 8 * 1024 * 1024
"""Bytes of a page of a listing: 1,000 keys of 1,024 bytes, each of which is encoded as three, and what belongs to them."""


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
            **without_none(**{STORAGE_CLASS: settings.storage_class}),
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
        if SHA256 in headers:  # of the content: hashing it once serves the signature, too
            headers[CONTENT_HASH] = attributes.metadata[METADATA_HASH]
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

    async def begin(
        self, address: Address, attributes: ObjectAttributes, supported: Supported, *, is_temporary: bool
    ) -> Begun:
        """Begin a multipart upload. A temporary object has the bucket's default storage class."""
        headers = {
            **_described(attributes),
            **{name: value for name, value in self._stored_as.items() if not (is_temporary and name == STORAGE_CLASS)},
            **({COPY_CHECKSUM: "CRC32C"} if CHECKSUMS in supported else {}),
            **({WHOLE_CHECKSUM: FULL_OBJECT} if CHECKSUMS in supported and WHOLE_CHECKSUM in supported else {}),
        }
        request = self._request("POST", address, headers, query="uploads=")
        read = partial(begun_upload, request)
        return await self.send("create_multipart_upload", address, request, read, expected=(200,))

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

    async def complete(
        self,
        upload: Upload,
        receipts: Sequence[Receipt],
        supported: Supported,
        *,
        size: int,
        checksum: str | None,
        create_only: bool,
        seconds: float,
    ) -> ObjectInfo | str | None:
        """Complete a multipart upload. The response may take so many seconds."""
        body = _list_of_parts(receipts)
        headers = {
            "content-type": "application/xml",
            CONTENT_HASH: hashlib.sha256(body).hexdigest(),
            **({CRC32C: checksum, WHOLE_CHECKSUM: FULL_OBJECT} if checksum else {}),
            **({OBJECT_SIZE: str(size)} if OBJECT_SIZE in supported else {}),
            **({CONDITIONS: "*"} if create_only and CONDITIONS in supported else {}),
        }
        query = encode_query({"uploadId": upload.id})
        request = self._request("POST", upload.address, headers, query=query, body=(body,))
        request.read_timeout = seconds
        read = partial(completed_object, upload.address, size, checksum)
        return await self.send("complete_multipart_upload", upload.address, request, read, expected=(200,))

    async def delete(self, address: Address, *, version_id: str | None = None, etag: str | None = None) -> None:
        """Delete an object, or a version of it; only the one with an ETag, if one is given."""
        query = encode_query({"versionId": version_id}) if version_id is not None else ""
        headers = without_none(**{DELETE_CONDITION: strong(etag)})
        request = self._request("DELETE", address, headers, query=query)
        await self.send("delete_object", address, request, _nothing, expected=(204,))

    async def page(
        self, bucket: str, root: str, token: str | None, size: int | None
    ) -> tuple[list[ObjectInfo], str | None]:
        """Objects whose keys begin with the root and have no `/` after it, and the token of the next page.

        Args:
            bucket: Their bucket.
            root: How their keys begin.
            token: The token of the page.
            size: Most objects of the page, if not as many as the store likes.
        """
        wanted = {"list-type": "2", "prefix": root, "delimiter": "/", "encoding-type": "url"}
        place = without_none(**{"continuation-token": token, "max-keys": None if size is None else str(size)})
        query = encode_query({**wanted, **place})
        request, read = self._request("GET", Address(bucket, ""), {}, query=query), partial(listed_page, bucket)
        return await self.send(
            "list_objects_v2", Address(bucket, root), request, read, expected=(200,), max_size=MAX_PAGE
        )

    async def copy(
        self,
        source: ObjectInfo,
        address: Address,
        supported: Supported,
        *,
        attributes: ObjectAttributes | None,
        sha256: bool,
        create_only: bool,
        seconds: float,
    ) -> ObjectInfo:
        """Copy an object, as it is or with other attributes. The response may take so many seconds."""
        headers = {
            **_copy_source(source),
            **({"x-amz-metadata-directive": "REPLACE", **_described(attributes)} if attributes else {}),
            **({"x-amz-tagging-directive": "REPLACE"} if attributes and attributes.tags else {}),  # the source has none
            **({COPY_CHECKSUM: "SHA256"} if sha256 and COPY_CHECKSUM in supported else {}),
            **({CONDITIONS: "*"} if create_only and CONDITIONS in supported else {}),
            **self._stored_as,
        }
        request, read = self._request("PUT", address, headers), partial(copied_object, source, address)
        request.read_timeout, request.is_repeatable = seconds, False
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
        payload_hash = request.headers.get(CONTENT_HASH, UNSIGNED)
        headers = {
            **request.headers,
            "host": route.origin.netloc,
            CONTENT_HASH: payload_hash,
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
        signed = Request(request.method, route.root + request.target, headers, request.body)
        signed.read_timeout = request.read_timeout
        try:
            return await self._http.send(route.origin, signed)
        finally:
            request.attempts += signed.attempts

    def _signing_key(self, credentials: Any, region: str, date: str) -> Key:
        made_of = (credentials.access_key, credentials.secret_key, region, date)
        if self._key is None or self._key[0] != made_of:
            self._key = made_of, signing_key(credentials.access_key, credentials.secret_key, date=date, region=region)
        return self._key[1]

    def _judge(self, response: BufferedResponse) -> BufferedResponse:
        return judge(response)

    async def _renew_credentials(self) -> bool:
        return self._may_renew and bool(await self._credentials.renew())

    def _refused(self, response: BufferedResponse, operation: str, address: Address) -> Exception:
        refusal = Refusal.of_response(response)
        self._may_renew = refusal.code in REFUSED_CREDENTIALS  # read before any other request can change it
        if refusal.code in REDIRECTS:
            return BucketMoved(refusal.code)
        return refusal.error(operation, address, endpoint=self.endpoint)


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


def _list_of_parts(receipts: Sequence[Receipt]) -> bytes:
    """The body of CompleteMultipartUpload."""
    parts = [
        f"<Part><PartNumber>{receipt.number}</PartNumber><ETag>{escape(receipt.etag)}</ETag>"
        + (f"<ChecksumCRC32C>{receipt.checksum}</ChecksumCRC32C>" if receipt.checksum else "")
        + "</Part>"
        for receipt in receipts
    ]
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{space}">{"".join(parts)}</CompleteMultipartUpload>'.encode()


def _nothing(response: BufferedResponse) -> None:
    if response.body:
        raise UnsupportedResponse("a response to a deletion with a body")


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
