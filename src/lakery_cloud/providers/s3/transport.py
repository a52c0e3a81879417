"""The requests of Amazon S3."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from lakery_cloud.engine.attributes import (
    METADATA_ALGORITHM,
    METADATA_HASH,
    ObjectAttributes,
    attributes_of_content,
)
from lakery_cloud.engine.bodies import Arriving
from lakery_cloud.engine.checksums import crc32c_header, header_to_hex, hex_to_header
from lakery_cloud.engine.keys import Address, KeySpace, is_temporary
from lakery_cloud.engine.lifecycle import LIFECYCLE_ATTEMPTS, check_only_temporary, not_kept
from lakery_cloud.engine.model import (
    Body,
    ConditionUnsupported,
    KeyMissing,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Upload,
    UploadGone,
    without_none,
)
from lakery_cloud.engine.retries import backoff
from lakery_cloud.engine.transport import ABORT_ATTEMPTS, Transport
from lakery_cloud.errors import (
    AccessDenied,
    ConfigError,
    LakeryCloudError,
)
from lakery_cloud.http.connection import HTTPError, UnsupportedResponse
from lakery_cloud.http.headers import byte_range, read_content_range, time_of
from lakery_cloud.providers.s3.lifecycle import _has_other_filters, _has_rules
from lakery_cloud.providers.s3.settings import S3Settings
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part
from lakery_cloud.streams.tasks import bounded_tasks

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
import aiohttp
from botocore import exceptions as botocore_errors

from lakery_cloud.providers.s3.errors import (
    SDK_ERRORS,
    translate,
)
from lakery_cloud.providers.s3.requests import HOT, S3Lane

DELETES_AT_A_TIME = 16
"""Requests for one object each, where many at once could not be deleted."""


class S3Transport(Transport):
    """The requests of S3's API. Each docstring of the base class says what a method promises."""

    max_deletes = 1000  # API Reference, "DeleteObjects"

    def __init__(self, client: "S3Client", settings: S3Settings, lane: S3Lane | None = None) -> None:
        super().__init__(**settings.share(client.meta.config.max_pool_connections))
        self._lane = lane
        self.conditional_writes = settings.conditional_writes
        self._client = client
        self._endpoint = client.meta.endpoint_url
        self._payer = {"RequestPayer": "requester"} if settings.requester_pays else {}
        self._encryption = without_none(ServerSideEncryption=settings.sse, SSEKMSKeyId=settings.kms_key_id)
        self._storage_class = without_none(StorageClass=settings.storage_class)

    def checks_hash(self, algorithm: str) -> bool:
        return algorithm == "sha256"

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        await self._call(
            "put_object",
            address,
            Body=(data,),
            **_headers(attributes),
            **_sha256(attributes),
            **self._create_only(),
            **self._encryption,
            **self._storage_class,
        )

    async def head(self, address: Address) -> ObjectInfo | None:
        try:
            return _info(address, await self._call("head_object", address, ChecksumMode="ENABLED"))
        except KeyMissing:
            return None

    async def has_bucket(self, bucket: str) -> bool:
        try:
            await self._client.head_bucket(Bucket=bucket)
        except botocore_errors.ClientError as error:
            # 301 and 403 are answers about a bucket that is there.
            return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] != 404)
        except SDK_ERRORS as error:
            raise self._translate(error, "head_bucket", Address(bucket, "")) from error
        return True

    @asynccontextmanager
    async def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AsyncGenerator[Body]:
        async with self.reads:
            wanted = without_none(Range=byte_range(start, stop), IfMatch=version)
            answer = await self._request("get_object", address, **wanted)
            body = answer["Body"]
            first, _ = read_content_range(answer.get("ContentRange"), size=answer["ContentLength"])
            try:
                yield Body(_info(address, answer), Arriving(body.read, interruptions=_INTERRUPTIONS), first)
            finally:
                # A body that is not closed keeps its connection out of the pool.
                body.close()

    async def delete(self, address: Address) -> None:
        await self._call("delete_object", address)

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        left = set(keys)
        if len(keys) > 1:
            wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            # Not every store knows this, and each may keep some: why, it says when it is asked for one.
            with suppress(LakeryCloudError):
                answer = await self._call_bucket(
                    "delete_objects", Address(bucket, keys[0]), Delete=wanted, **self._payer
                )
                left &= {error["Key"] for error in answer.get("Errors", ())}
        async with bounded_tasks(DELETES_AT_A_TIME) as tasks:
            for key in left:
                await tasks.start(self.delete(Address(bucket, key)))

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        token: dict[str, str] = {}
        while True:
            page = await self._call("list_objects_v2", Address(bucket, root), Prefix=root, Delimiter="/", **token)
            for entry in page.get("Contents", ()):
                yield ObjectInfo(
                    Address(bucket, entry["Key"]), entry["Size"], entry["ETag"], modified=entry["LastModified"]
                )
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def tags(self, address: Address) -> Mapping[str, str]:
        answer = await self._call("get_object_tagging", address)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        answer = await self._call(
            "create_multipart_upload",
            address,
            ChecksumAlgorithm="CRC32C",
            **_headers(attributes),
            **self._encryption,
            **({} if is_temporary else self._storage_class),
        )
        upload = Upload(address, answer["UploadId"], attributes, is_temporary)
        if answer["ResponseMetadata"].get("RetryAttempts"):
            # An attempt whose answer was lost may have begun an upload of its own. Who may not list leaves it to a
            # lifecycle rule: the write itself goes on.
            with suppress(AccessDenied):
                await self._abort_all(address, but=upload.id)
        return upload

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        checksum = await crc32c_header(*part.pieces)
        answer = await self._call(
            "upload_part",
            upload.address,
            UploadId=upload.id,
            PartNumber=part.number,
            Body=part.pieces,
            ChecksumCRC32C=checksum,
        )
        return Receipt(part.number, answer["ETag"], checksum)

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        answer = await self._call(
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
        await self._call(
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
                await self._call("abort_multipart_upload", address, UploadId=upload.id)
            except UploadGone:
                return
            try:
                left = await self._call("list_parts", address, UploadId=upload.id, MaxParts=1)
            except (UploadGone, AccessDenied):
                return
            if not left.get("Parts"):
                return

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        token: dict[str, str] = {}
        while True:
            try:
                page = await self._call("list_multipart_uploads", Address(bucket, root), Prefix=root, **token)
            except UploadGone:  # so rclone says that there are none
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

    async def server_time(self, bucket: str) -> datetime | None:
        try:
            answer: Mapping[str, Any] = await self._client.head_bucket(Bucket=bucket)
        except botocore_errors.ClientError as error:
            answer = error.response
        except SDK_ERRORS as error:
            raise self._translate(error, "head_bucket", Address(bucket, "")) from error
        return time_of(answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date"))

    def credential_kind(self) -> str | None:
        credentials = self._client._request_signer._credentials  # a client of the user's has them nowhere else
        return str(getattr(credentials, "method", "explicit")) if credentials else None

    async def put_damaged(self, address: Address) -> bool:
        checksum = hex_to_header(hashlib.sha256(b"other").hexdigest())
        await self._call("put_object", address, Body=(b"bytes",), ChecksumSHA256=checksum)
        return True

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        parameters: dict[str, Any] = {"Bucket": address.bucket, "Key": address.key, **self._payer}
        if content is not None:
            parameters |= self._content_parameters(content)
        operation = "get_object" if content is None else "put_object"
        try:
            url = await self._client.generate_presigned_url(
                operation, Params=parameters, ExpiresIn=int(expires.total_seconds())
            )
        except (botocore_errors.ClientError, *SDK_ERRORS) as error:
            raise self._translate(error, f"presigning {operation}", address) from error
        headers = self._header_names(operation, parameters)
        return PresignedURL(method, url, headers, datetime.now(UTC) + expires, pins_content=content is not None)

    def _content_parameters(self, content: Digest) -> dict[str, Any]:
        """What a PUT of content by a URL must say, all of it signed: the store then takes nothing but the content."""
        if content["content_hash_algorithm"] != "sha256":
            raise ConfigError(
                f"a URL can't pin content whose hash is a {content['content_hash_algorithm']}: S3 checks sha256 alone"
            )
        attributes = attributes_of_content(content, {})
        return {
            **_headers(attributes),
            **_sha256(attributes),
            **self._create_only(),
            **self._encryption,
            **self._storage_class,
        }

    def _header_names(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Parameters of an operation as the headers that they travel in."""
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
        # S3 knows no condition for this: what somebody else sets between our two requests is lost.
        ours = rules["Rules"]
        address = Address(keys.bucket, keys.temporary_root)
        there, options = await self._lifecycle(address)
        if _has_rules(there, ours):
            return False
        await check_only_temporary(self, keys)
        names = {rule["ID"] for rule in ours}
        others = [rule for rule in there if rule.get("ID") not in names]
        await self._put_lifecycle(address, [*others, *ours], options)
        for attempt in range(1, LIFECYCLE_ATTEMPTS + 1):
            shown, _ = await self._lifecycle(address)
            if _has_rules(shown, ours):
                return True
            if _has_other_filters(shown, ours):
                await self._put_lifecycle(address, there, options)
                raise ConfigError(
                    f"the store at {self._endpoint} does not keep the filters of lifecycle rules, so that content could "
                    "expire; the rules that were there before were put back. Run `lakery-cloud sweep` instead"
                )
            await asyncio.sleep(backoff(attempt))
        raise not_kept(keys.bucket)

    async def _lifecycle(self, address: Address) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
        """The rules of a bucket, and what else a request must say so that it changes nothing but rules."""
        try:
            answer = await self._call_bucket("get_bucket_lifecycle_configuration", address)
        except KeyMissing:
            return [], {}
        size = answer.get("TransitionDefaultMinimumObjectSize")
        return answer.get("Rules", []), without_none(TransitionDefaultMinimumObjectSize=size)

    async def _put_lifecycle(
        self, address: Address, rules: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> None:
        if not rules:  # a configuration must have one
            await self._call_bucket("delete_bucket_lifecycle", address)
            return
        await self._call_bucket(
            "put_bucket_lifecycle_configuration", address, LifecycleConfiguration={"Rules": rules}, **options
        )

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        sha256 = attributes.metadata.get(METADATA_ALGORITHM) == "sha256"
        answer = await self._call(
            "copy_object",
            address,
            MetadataDirective="REPLACE",
            TaggingDirective="REPLACE",
            **_copy_source(source),
            **_headers(attributes),
            **({"ChecksumAlgorithm": "SHA256"} if sha256 else {}),
            **self._create_only(),
            **self._encryption,
            **self._storage_class,
        )
        result = answer["CopyObjectResult"]
        return ObjectInfo(address, source.size, result["ETag"], _content_hash(result))

    def _create_only(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self.conditional_writes else {}

    async def _abort_all(self, address: Address, *, but: str | None = None) -> None:
        async for upload in self.list_uploads(address.bucket, address.key):
            if upload.address == address and upload.id != but:
                await self.abort_upload(address, upload)

    async def _call(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        async with self.requests:
            return await self._request(operation, address, **parameters)

    async def _call_bucket(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        """One operation on the bucket itself; the key is for messages."""
        async with self.requests:
            try:
                answer: dict[str, Any] = await getattr(self._client, operation)(Bucket=address.bucket, **parameters)
            except (botocore_errors.ClientError, *SDK_ERRORS) as error:
                raise self._translate(error, operation, address) from error
            return answer

    async def _request(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        """One operation of the SDK, its errors translated."""
        target = {} if "Prefix" in parameters else {"Key": address.key}
        parameters = {"Bucket": address.bucket, **target, **self._payer, **parameters}

        async def ask() -> dict[str, Any]:
            body = without_none(Body=b"".join(parameters["Body"]) if "Body" in parameters else None)
            answer: dict[str, Any] = await getattr(self._client, operation)(**{**parameters, **body})
            return answer

        try:
            if self._lane is not None and operation in HOT:
                answer: dict[str, Any] = await self._lane.call(operation, address.bucket, parameters, ask=ask)
            else:
                answer = await ask()
        except (botocore_errors.ClientError, *SDK_ERRORS) as error:
            raise self._translate(error, operation, address) from error
        return answer

    def _translate(self, error: Exception, operation: str, address: Address) -> Exception:
        """The engine's word for an error."""
        translated = translate(
            error, operation, address, endpoint=self._endpoint, conditional_writes=self.conditional_writes
        )
        if isinstance(translated, ConditionUnsupported):
            self.conditional_writes = False
        return translated


_INTERRUPTIONS = (*SDK_ERRORS, aiohttp.ClientError, HTTPError, UnsupportedResponse)


_API_NAMES = {"get_object": "GetObject", "put_object": "PutObject"}


# What botocore calls the places where it found credentials ("Credentials" in the boto3 documentation).
def _headers(attributes: ObjectAttributes) -> dict[str, Any]:
    return without_none(
        ContentType=attributes.content_type,
        ContentEncoding=attributes.content_encoding,
        Metadata=dict(attributes.metadata) or None,
        Tagging=urlencode(attributes.tags) or None,
    )


def _sha256(attributes: ObjectAttributes) -> dict[str, str]:
    """The content hash as the checksum that S3 checks the body against."""
    if attributes.metadata[METADATA_ALGORITHM] != "sha256":
        return {}
    return {"ChecksumSHA256": hex_to_header(attributes.metadata[METADATA_HASH])}


def _copy_source(source: ObjectInfo) -> dict[str, Any]:
    return without_none(
        CopySource={"Bucket": source.address.bucket, "Key": source.address.key}, CopySourceIfMatch=source.version
    )


def _info(address: Address, answer: Mapping[str, Any]) -> ObjectInfo:
    _, size = read_content_range(answer.get("ContentRange"), size=answer["ContentLength"])
    return ObjectInfo(
        address,
        size,
        answer["ETag"],
        _content_hash(answer),
        answer.get("ContentType"),
        answer.get("ContentEncoding"),
        answer.get("LastModified"),
        answer.get("Metadata", {}),
    )


def _content_hash(answer: Mapping[str, Any]) -> str | None:
    """The SHA-256 of a whole object; S3 marks a checksum of checksums by `-<parts>` at its end."""
    checksum = answer.get("ChecksumSHA256")
    return None if not checksum or "-" in checksum else f"sha256:{header_to_hex(checksum)}"
