"""S3's requests as calls of the SDK: the hot ones, and the way of all others."""

import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from botocore import exceptions as botocore_errors

from lakery_cloud.engine.attributes import ObjectAttributes, attributes_of_content
from lakery_cloud.engine.cloud_transport import CloudTransport, OpenBody
from lakery_cloud.engine.features import Features
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, ObjectInfo, Receipt, Signal, Unsupported, Upload, without_none
from lakery_cloud.engine.requests import READ_SIZE, BodyChunks
from lakery_cloud.errors import ConfigError, LakeryCloudError, StorageUnavailable
from lakery_cloud.http.exchange import UnsupportedResponse
from lakery_cloud.http.headers import byte_range, strong
from lakery_cloud.providers.s3.answers import (
    FULL_OBJECT,
    Answer,
    Begun,
    begun,
    check_status,
    completed,
    described_object,
    listed_objects,
    opened_object,
    sdk_required,
    undeleted,
    whole,
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
from lakery_cloud.providers.s3.errors import sdk_errors, translate
from lakery_cloud.providers.s3.requests import (
    CHECKSUM_MODE,
    CONDITIONS,
    DELETE_CONDITION,
    OBJECT_SIZE,
    OPTIONAL,
    WHOLE_CHECKSUM,
)
from lakery_cloud.storage import Digest
from lakery_cloud.streams.gathering import Batches
from lakery_cloud.streams.parts import Part, Pieces

if TYPE_CHECKING:
    from lakery_cloud.providers.s3.settings import S3Settings
    from lakery_cloud.providers.s3.storage import SDKClient

T = TypeVar("T")

MAX_BATCH = 1000
"""Objects that one request deletes (API Reference, "DeleteObjects")."""

_PARAMETERS = {SHA256: "ChecksumSHA256", CRC32C: "ChecksumCRC32C", MD5: "ContentMD5"}
"""Header -> the SDK's parameter."""


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

    async def begin(
        self, address: Address, attributes: ObjectAttributes, supported: Supported, *, is_temporary: bool
    ) -> Begun:
        return await self._call(
            "create_multipart_upload",
            address,
            begun,
            **({"ChecksumAlgorithm": "CRC32C"} if CHECKSUMS in supported else {}),
            **({"ChecksumType": FULL_OBJECT} if CHECKSUMS in supported and WHOLE_CHECKSUM in supported else {}),
            **sdk_described(attributes),
            **{name: each for name, each in self._stored_as.items() if not (is_temporary and name == "StorageClass")},
        )

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
        parts = [
            without_none(PartNumber=receipt.number, ETag=receipt.etag, ChecksumCRC32C=receipt.checksum)
            for receipt in receipts
        ]
        with patience(seconds):
            return await self._call(
                "complete_multipart_upload",
                upload.address,
                partial(completed, upload.address, size, checksum),
                UploadId=upload.id,
                MultipartUpload={"Parts": parts},
                **({"ChecksumCRC32C": checksum, "ChecksumType": FULL_OBJECT} if checksum else {}),
                **({"MpuObjectSize": size} if OBJECT_SIZE in supported else {}),
                **({"IfNoneMatch": "*"} if create_only and CONDITIONS in supported else {}),
            )

    async def delete(self, address: Address, *, version_id: str | None = None, etag: str | None = None) -> None:
        wanted = without_none(VersionId=version_id, IfMatch=strong(etag))
        await self._call("delete_object", address, whole, **wanted)

    async def page(
        self, bucket: str, root: str, token: str | None, size: int | None
    ) -> tuple[list[ObjectInfo], str | None]:
        place = without_none(ContinuationToken=token, MaxKeys=size)
        return await self._bucket_call(
            *("list_objects_v2", Address(bucket, root), partial(listed_objects, bucket)),
            **{"Prefix": root, "Delimiter": "/", **place},
        )

    async def _checksum(
        self, pieces: Pieces, supported: Supported, attributes: ObjectAttributes | None = None
    ) -> dict[str, str]:
        headers = await checksum_of(pieces, supported, attributes)
        return {_PARAMETERS[name]: value for name, value in headers.items()}

    async def _call(
        self, operation: str, address: Address, read: Callable[[Mapping[str, Any]], T], **parameters: Any
    ) -> T:
        return await self._bucket_call(operation, address, read, Key=address.key, **parameters)

    async def _bucket_call(
        self, operation: str, address: Address, read: Callable[[Mapping[str, Any]], T], **parameters: Any
    ) -> T:
        try:
            client = await self._client.get()
            answer = await getattr(client, operation)(Bucket=address.bucket, **self._payer, **parameters)
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


class Deletions:
    """Deletes several objects by one request. What it leaves, requests for one object delete, or say why not.

    Args:
        read: Calls an operation that needs a checksum, and reads its answer.
        features: The optional headers that the endpoint supports.
        payer: The parameter that says who pays.
    """

    def __init__(self, read: Callable[..., Awaitable[Any]], features: Features, payer: Mapping[str, str]) -> None:
        self._read = read
        self._features = features
        self._payer = payer
        self._batches = Batches(self._delete_versions, most=MAX_BATCH)
        self._is_supported = True

    async def delete_if(self, info: ObjectInfo) -> bool:
        """Delete an object if it still has this version, together with those of concurrent calls; return whether it did."""
        return self._is_supported and info.address not in await self._batches.add(info)

    async def delete_all(self, bucket: str, keys: Mapping[str, str | None]) -> set[str]:
        """Delete keys, or versions of them, and return the keys that are left."""
        return await self._delete(
            bucket, [without_none(Key=key, VersionId=version_id) for key, version_id in keys.items()]
        )

    async def _delete_versions(self, infos: Sequence[ObjectInfo]) -> set[Address]:
        left, bucket = {info.address for info in infos}, infos[0].address.bucket
        is_pinned = DELETE_CONDITION in self._features.supported
        objects = [
            without_none(Key=info.address.key, ETag=strong(info.version) if is_pinned else None)
            for info in infos
            if info.address.bucket == bucket
        ]
        try:
            kept = await self._delete(bucket, objects)
        except (LakeryCloudError, Signal) as refusal:
            self._is_supported = isinstance(refusal, StorageUnavailable)
            return left
        return {address for address in left if address.bucket != bucket or address.key in kept}

    async def _delete(self, bucket: str, objects: Sequence[Mapping[str, str]]) -> set[str]:
        address, wanted = Address(bucket, objects[0]["Key"]), {"Objects": objects, "Quiet": True}
        left: set[str] = await self._read("delete_objects", address, undeleted, Delete=wanted, **self._payer)
        return left


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


copy_timeout: ContextVar[float | None] = ContextVar("copy_timeout", default=None)
"""Seconds that the SDK waits for the response to a copy, or to the completion of an upload."""


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let the SDK wait longer for responses to copies and completions: many stores send none before their end."""
    token = copy_timeout.set(seconds)
    try:
        yield
    finally:
        copy_timeout.reset(token)


_sends_md5: ContextVar[bool] = ContextVar("sends_md5", default=False)


@contextmanager
def with_md5() -> Iterator[None]:
    """Send requests of the SDK with `Content-MD5` instead of the checksum that it chooses."""
    token = _sends_md5.set(True)
    try:
        yield
    finally:
        _sends_md5.reset(token)


def add_md5(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    """A handler for the SDK's event `before-call`, see `with_md5`."""
    if _sends_md5.get():
        digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
        context.get("checksum", {}).pop("request_algorithm", None)
