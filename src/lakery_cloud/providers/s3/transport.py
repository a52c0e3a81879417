"""The requests of Amazon S3: the hot ones by `S3Requests`, all others as calls of the SDK."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from botocore import exceptions as botocore_errors

from lakery_cloud.engine.attributes import METADATA_ALGORITHM, ObjectAttributes, attributes_of_content
from lakery_cloud.engine.checksums import hex_to_header
from lakery_cloud.engine.cloud_transport import CloudTransport, HotRequests
from lakery_cloud.engine.keys import Address, KeySpace, is_temporary
from lakery_cloud.engine.lifecycle import apply_rules
from lakery_cloud.engine.model import (
    ConditionUnsupported,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Upload,
    UploadGone,
    without_none,
)
from lakery_cloud.engine.transport import ABORT_ATTEMPTS
from lakery_cloud.errors import AccessDenied, ConfigError, LakeryCloudError
from lakery_cloud.http.headers import time_of
from lakery_cloud.providers.s3.errors import SDK_ERRORS, translate
from lakery_cloud.providers.s3.lifecycle import S3LifecycleRequests
from lakery_cloud.providers.s3.requests import (
    BucketMoved,
    Conditions,
    S3Requests,
    SDKRequests,
    content_checksum,
    content_hash,
    sdk_described,
    sdk_payer,
    sdk_stored_as,
)
from lakery_cloud.providers.s3.settings import S3Settings
from lakery_cloud.storage import Digest
from lakery_cloud.streams.tasks import bounded_tasks

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

T = TypeVar("T")

MAX_DELETES = 16
"""Concurrent requests that delete one object each."""


class S3Transport(CloudTransport):
    """The requests of S3's API. The docstrings of the base class say what each method promises.

    Args:
        client: The SDK's client.
        settings: The storage's settings.
        conditions: Whether requests are conditional.
        signed: Hot requests that lakery-cloud sends itself; without them, the SDK sends all requests.
    """

    max_deletes = 1000  # API Reference, "DeleteObjects"
    sdk_errors = (botocore_errors.ClientError, *SDK_ERRORS)

    def __init__(
        self, client: "S3Client", settings: S3Settings, *, conditions: Conditions, signed: S3Requests | None = None
    ) -> None:
        super().__init__(**settings.share(client.meta.config.max_pool_connections))
        self._client = client
        self._endpoint = client.meta.endpoint_url
        self._conditions = conditions
        self._payer = sdk_payer(settings)
        self._stored_as = sdk_stored_as(settings)
        self._signed = signed
        self._sdk = SDKRequests(client, settings=settings, conditions=conditions, translate=self._translate)

    @property
    def conditional_writes(self) -> bool:  # type: ignore[override]
        """Whether create-only requests work at this endpoint."""
        return self._conditions.are_supported

    def checks_hash(self, algorithm: str) -> bool:
        return algorithm == "sha256"

    async def _hot(self, bucket: str, send: Callable[[HotRequests], Awaitable[T]]) -> T:
        signed = self._signed
        try:
            if signed is None or not (signed.has_route(bucket) or await signed.can_serve(bucket)):
                return await send(self._sdk)
            try:
                return await send(signed)
            except BucketMoved:
                found = await send(self._sdk)
                await signed.find_again(bucket)
                return found
        except ConditionUnsupported:
            self._conditions.are_supported = False
            raise

    async def has_bucket(self, bucket: str) -> bool:
        status, _ = await self._head_bucket(bucket)
        return status != 404  # 301 and 403 are answers about an existing bucket

    async def server_time(self, bucket: str) -> datetime | None:
        _, headers = await self._head_bucket(bucket)
        return time_of(headers.get("date"))

    async def _head_bucket(self, bucket: str) -> tuple[int, Mapping[str, str]]:
        """Status and headers of any answer about a bucket."""

        async def head_bucket() -> Mapping[str, Any]:
            try:
                return dict(await self._client.head_bucket(Bucket=bucket))
            except botocore_errors.ClientError as error:
                return dict(error.response)

        answer: Mapping[str, Any] = await self._call("head_bucket", Address(bucket, ""), head_bucket)
        metadata = answer["ResponseMetadata"]
        return metadata["HTTPStatusCode"], metadata.get("HTTPHeaders", {})

    async def delete(self, address: Address) -> None:
        await self._object_call("delete_object", address)

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        left = set(keys)
        if len(keys) > 1:
            wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            # Not every store supports this, and a store may keep some; a request for one object says why.
            with suppress(LakeryCloudError):
                answer = await self._bucket_call(
                    "delete_objects", Address(bucket, keys[0]), Delete=wanted, **self._payer
                )
                left &= {error["Key"] for error in answer.get("Errors", ())}
        async with bounded_tasks(MAX_DELETES) as tasks:
            for key in left:
                await tasks.start(self.delete(Address(bucket, key)))

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        token: dict[str, str] = {}
        while True:
            page = await self._bucket_call(
                "list_objects_v2", Address(bucket, root), Prefix=root, Delimiter="/", **self._payer, **token
            )
            for entry in page.get("Contents", ()):
                yield ObjectInfo(
                    Address(bucket, entry["Key"]), entry["Size"], entry["ETag"], modified=entry["LastModified"]
                )
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def tags(self, address: Address) -> Mapping[str, str]:
        answer = await self._object_call("get_object_tagging", address)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        stored_as = {**self._stored_as}
        if is_temporary:
            stored_as.pop("StorageClass", None)
        answer = await self._object_call(
            "create_multipart_upload",
            address,
            ChecksumAlgorithm="CRC32C",
            **sdk_described(attributes),
            **stored_as,
        )
        upload = Upload(address, answer["UploadId"], attributes, is_temporary)
        if answer["ResponseMetadata"].get("RetryAttempts"):
            # An attempt whose response was lost may have begun another upload. Without the permission to list, a
            # lifecycle rule must end it.
            with suppress(AccessDenied):
                await self._abort_all(address, but=upload.id)
        return upload

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        answer = await self._object_call(
            "upload_part_copy",
            upload.address,
            UploadId=upload.id,
            PartNumber=number,
            CopySourceRange=f"bytes={start}-{stop - 1}",
            **_copy_source(source),
        )
        result = answer["CopyPartResult"]
        return Receipt(number, result["ETag"], result.get("ChecksumCRC32C"))

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        parts = [
            without_none(PartNumber=receipt.number, ETag=receipt.etag, ChecksumCRC32C=receipt.checksum)
            for receipt in receipts
        ]
        await self._object_call(
            "complete_multipart_upload",
            upload.address,
            UploadId=upload.id,
            MultipartUpload={"Parts": parts},
            MpuObjectSize=size,
            **(self._create_only() if create_only else {}),
        )

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        if upload is None:
            await self._abort_all(address)
            return
        for _ in range(ABORT_ATTEMPTS):
            try:
                await self._object_call("abort_multipart_upload", address, UploadId=upload.id)
            except UploadGone:
                return
            try:
                left = await self._object_call("list_parts", address, UploadId=upload.id, MaxParts=1)
            except (UploadGone, AccessDenied):
                return
            if not left.get("Parts"):
                return

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        token: dict[str, str] = {}
        while True:
            try:
                page = await self._bucket_call(
                    "list_multipart_uploads", Address(bucket, root), Prefix=root, **self._payer, **token
                )
            except UploadGone:  # rclone says so if there are none
                return
            for entry in page.get("Uploads", ()):
                yield Upload(
                    Address(bucket, entry["Key"]),
                    entry["UploadId"],
                    ObjectAttributes("", None, {}, {}),
                    is_temporary(entry["Key"]),
                    entry["Initiated"],
                )
            if not page.get("IsTruncated"):
                return
            token = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def credential_kind(self) -> str | None:
        credentials = self._client._request_signer._credentials  # a client has no public attribute for them
        return str(getattr(credentials, "method", "explicit")) if credentials else None

    async def put_damaged(self, address: Address) -> bool:
        checksum = hex_to_header(hashlib.sha256(b"other").hexdigest())
        await self._object_call("put_object", address, Body=b"bytes", ChecksumSHA256=checksum)
        return True

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        parameters: dict[str, Any] = {"Bucket": address.bucket, "Key": address.key, **self._payer}
        if content is not None:
            parameters |= self._content_parameters(content)
        operation = "get_object" if content is None else "put_object"
        url = await self._call(
            f"presigning {operation}",
            address,
            self._client.generate_presigned_url,
            operation,
            Params=parameters,
            ExpiresIn=int(expires.total_seconds()),
        )
        headers = self._header_names(operation, parameters)
        return PresignedURL(method, url, headers, datetime.now(UTC) + expires, pins_content=content is not None)

    def _content_parameters(self, content: Digest) -> dict[str, Any]:
        """The parameters of a PUT by a URL. All of them are signed, so the store accepts nothing but the content."""
        if content["content_hash_algorithm"] != "sha256":
            raise ConfigError(
                f"a URL can't pin content whose hash is a {content['content_hash_algorithm']}: S3 checks sha256 alone"
            )
        attributes = attributes_of_content(content, {})
        return {
            **sdk_described(attributes),
            "ChecksumSHA256": content_checksum(attributes),
            **self._create_only(),
            **self._stored_as,
        }

    def _header_names(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, str]:
        """The headers that carry the parameters of an operation."""
        shape = self._client.meta.service_model.operation_model(_API_NAMES[operation]).input_shape
        assert shape is not None
        headers: dict[str, str] = {}
        for name, value in parameters.items():
            serialization = shape.members[name].serialization
            if serialization.get("location") == "header":
                headers[serialization["name"]] = value
            elif serialization.get("location") == "headers":
                headers |= {f"{serialization['name']}{key}": text for key, text in value.items()}
        return headers

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        return await apply_rules(S3LifecycleRequests(self._bucket_call, keys, rules["Rules"]), self, keys)

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        sha256 = attributes.metadata.get(METADATA_ALGORITHM) == "sha256"
        answer = await self._object_call(
            "copy_object",
            address,
            MetadataDirective="REPLACE",
            TaggingDirective="REPLACE",
            **_copy_source(source),
            **sdk_described(attributes),
            **({"ChecksumAlgorithm": "SHA256"} if sha256 else {}),
            **self._create_only(),
            **self._stored_as,
        )
        result = answer["CopyObjectResult"]
        return ObjectInfo(address, source.size, result["ETag"], content_hash(result.get("ChecksumSHA256")))

    def _create_only(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self.conditional_writes else {}

    async def _abort_all(self, address: Address, *, but: str | None = None) -> None:
        async for upload in self.list_uploads(address.bucket, address.key):
            if upload.address == address and upload.id != but:
                await self.abort_upload(address, upload)

    async def _object_call(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        return await self._bucket_call(operation, address, Key=address.key, **self._payer, **parameters)

    async def _bucket_call(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        return await self._call(
            operation, address, getattr(self._client, operation), Bucket=address.bucket, **parameters
        )

    def _translate(self, error: Exception, operation: str, address: Address) -> Exception:
        is_conditional = self._conditions.are_supported
        translated = translate(error, operation, address, endpoint=self._endpoint, is_conditional=is_conditional)
        if isinstance(translated, ConditionUnsupported):
            self._conditions.are_supported = False
        return translated


_API_NAMES = {"get_object": "GetObject", "put_object": "PutObject"}


def _copy_source(source: ObjectInfo) -> dict[str, Any]:
    return without_none(
        CopySource={"Bucket": source.address.bucket, "Key": source.address.key}, CopySourceIfMatch=source.version
    )
