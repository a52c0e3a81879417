"""The requests of Amazon S3: the hot ones by `S3Requests`, all others as calls of the SDK."""

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from botocore import exceptions as botocore_errors

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.checksums import crc32c_of_parts, hex_to_header, md5_header
from lakery_cloud.engine.keys import Address, KeySpace, is_temporary
from lakery_cloud.engine.lifecycle import apply_rules
from lakery_cloud.engine.listing import in_pages
from lakery_cloud.engine.model import (
    KeptVersion,
    KeyExists,
    KeyMissing,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Signal,
    Uncertain,
    Unsupported,
    Upload,
    UploadGone,
)
from lakery_cloud.engine.transport import ABORT_ATTEMPTS, unconditional
from lakery_cloud.errors import AccessDenied, BucketNotFound, LakeryCloudError
from lakery_cloud.http.headers import time_of
from lakery_cloud.providers.s3.answers import (
    Begun,
    listed_tags,
    listed_uploads,
    listed_versions,
    whole,
)
from lakery_cloud.providers.s3.checksums import CHECKSUMS, Supported
from lakery_cloud.providers.s3.copies import Copies, store_of
from lakery_cloud.providers.s3.errors import VAGUE_STATUSES, hides_cause
from lakery_cloud.providers.s3.lifecycle import S3LifecycleRequests
from lakery_cloud.providers.s3.requests import (
    CHECKSUM_MODE,
    CONDITIONS,
    DELETE_CONDITION,
    OBJECT_SIZE,
    WHOLE_CHECKSUM,
    BucketMoved,
    S3Requests,
)
from lakery_cloud.providers.s3.sdk_requests import (
    Deletions,
    S3Calls,
    SDKRequests,
    content_parameters,
    sdk_stored_as,
)
from lakery_cloud.providers.s3.settings import S3Settings
from lakery_cloud.providers.s3.signing import Endpoints, header_names
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part
from lakery_cloud.streams.tasks import bounded_tasks

if TYPE_CHECKING:
    from lakery_cloud.providers.s3.storage import SDKClient

T = TypeVar("T")

logger = logging.getLogger("lakery_cloud")

MAX_DELETES = 16
"""Concurrent requests that delete one object each."""
DENIED_SECONDS = 60.0
"""How long an explained `AccessDenied` holds for other keys of its bucket."""


class S3Transport(S3Calls):
    """The requests of S3's API. The docstrings of the base class say what each method promises.

    Args:
        client: The SDK's client.
        settings: The storage's settings.
        signed: Hot requests that lakery-cloud sends itself; without them, the SDK sends all requests.
    """

    max_deletes = 1000  # API Reference, "DeleteObjects"
    uploads_to_content = True

    def __init__(self, client: "SDKClient", settings: S3Settings, *, signed: S3Requests | None = None) -> None:
        super().__init__(client, settings)
        self.store = store_of(client.endpoint)
        self._stored_as = sdk_stored_as(settings)
        self._signed = signed
        self._sdk = SDKRequests(client, settings=settings, translate=self._translate)
        named = (*(settings.allowed_buckets or ()), *filter(None, (settings.temporary_bucket,)))
        self._endpoints = Endpoints(client, settings.bucket, named)
        self._copies = Copies(
            self, read=self._object_read, copy_signed=self._copy_object, features=self._features, settings=settings
        )
        self._denied: dict[str, float] = {}
        self._deletions = Deletions(self._checked_read, self._features, self._payer)

    @property
    def conditional_writes(self) -> bool:  # type: ignore[override]
        """Whether create-only requests work at this endpoint."""
        return CONDITIONS in self._features.supported

    def checks_hash(self, algorithm: str) -> bool:
        return algorithm == "sha256"

    async def _hot(self, bucket: str, send: Callable[[Any], Awaitable[T]]) -> T:
        await self._endpoints.check(bucket)
        signed = self._signed
        if signed is None or not (signed.has_route(bucket) or await signed.can_serve(bucket)):
            return await send(self._sdk)
        try:
            return await send(signed)
        except BucketMoved:
            try:
                found = await send(self._sdk)
            except Signal:  # an answer from the right place too
                await signed.find_again(bucket)
                raise
            await signed.find_again(bucket)
            return found

    async def _call(
        self,
        operation: str,
        address: Address,
        function: Callable[..., Awaitable[T]],
        /,
        *args: object,
        **options: object,
    ) -> T:
        await self._endpoints.check(address.bucket)
        return await super()._call(operation, address, function, *args, **options)

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        async def send(supported: Supported) -> None:
            if CONDITIONS not in supported:
                await self._check_is_free(address)
            async with self.requests:
                await self._hot(address.bucket, lambda hot: hot.put(address, data, attributes, supported))

        await self._features.adapt(send, (CONDITIONS, CHECKSUMS))

    async def head(self, address: Address) -> ObjectInfo | None:
        async def send(supported: Supported) -> ObjectInfo | None:
            async with self.requests:
                try:
                    found: ObjectInfo = await self._hot(address.bucket, lambda hot: hot.head(address, supported))
                except KeyMissing:
                    return None
                return found

        try:
            return await self._features.adapt(send, (CHECKSUM_MODE,))
        except LakeryCloudError as refusal:
            if not hides_cause(refusal.__cause__) or self._is_denied(address.bucket, refusal):
                raise
        await self._learn_cause(address)
        return await self._features.adapt(send, (CHECKSUM_MODE,))

    async def _learn_cause(self, address: Address) -> None:
        """Raise the error that explains why the store refused a HEAD, by a GET of one byte, whose refusal has a body.

        Returns if the store answers the GET: its refusal told the SDK the region, or credentials have been renewed.
        """
        with suppress(Signal):
            async with self.requests:
                try:
                    _, close = await self._hot(address.bucket, lambda hot: hot.open(address, 0, 1, None))
                except AccessDenied:
                    self._denied[address.bucket] = time.monotonic()
                    raise
                close()

    def _is_denied(self, bucket: str, refusal: LakeryCloudError) -> bool:
        """Whether a GET has explained such a refusal lately: without the right to list, S3 denies each missing key."""
        asked = self._denied.get(bucket)
        return isinstance(refusal, AccessDenied) and asked is not None and time.monotonic() - asked < DENIED_SECONDS

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        async def send(supported: Supported) -> Receipt:
            async with self.requests:
                receipt: Receipt = await self._hot(upload.address.bucket, lambda hot: hot.part(upload, part, supported))
                return replace(receipt, size=part.size)

        return await self._features.adapt(send, (CHECKSUMS,))

    async def _check_is_free(self, address: Address) -> None:
        """Look for an object before a create-only request without a condition.

        Raises:
            KeyExists: The key has an object.
        """
        if (found := await self.head(address)) is not None:
            raise KeyExists(str(address), found)

    async def has_bucket(self, bucket: str) -> bool:
        status, _ = await self._head_bucket(bucket)
        if status in VAGUE_STATUSES and status != HTTPStatus.MOVED_PERMANENTLY:
            try:
                await self._bucket_read("list_objects_v2", Address(bucket, ""), whole, MaxKeys=0, **self._payer)
            except BucketNotFound:
                return False
            except AccessDenied:
                return True
        return status != HTTPStatus.NOT_FOUND  # 301 and 403 are answers about an existing bucket

    async def server_time(self, bucket: str) -> datetime | None:
        _, headers = await self._head_bucket(bucket)
        return time_of(headers.get("date"))

    async def _head_bucket(self, bucket: str) -> tuple[int, Mapping[str, str]]:
        """Status and headers of any answer about a bucket."""

        async def head_bucket() -> Mapping[str, Any]:
            try:
                client = await self._client.get()
                return dict(await client.head_bucket(Bucket=bucket))
            except botocore_errors.ClientError as error:
                return dict(error.response)

        metadata = (await self._call("head_bucket", Address(bucket, ""), head_bucket))["ResponseMetadata"]
        return metadata["HTTPStatusCode"], metadata.get("HTTPHeaders", {})

    async def delete(self, address: Address, *, version_id: str | None = None) -> None:
        if version_id is not None:
            try:
                await self.delete_version(address, version_id)
            except AccessDenied as error:  # without s3:DeleteObjectVersion, or because Object Lock keeps the version
                logger.debug("%s becomes a noncurrent version: %s", address, error)
            else:
                return
        await self._delete(address)

    async def delete_if(self, info: ObjectInfo) -> None:
        if await self._deletions.delete_if(info):
            return

        async def delete(supported: Supported) -> None:
            with suppress(KeyMissing):
                await self._send_delete(info.address, etag=info.version if DELETE_CONDITION in supported else None)

        await self._features.adapt(delete, (DELETE_CONDITION,))

    async def delete_version(self, address: Address, version_id: str) -> None:
        await self._delete(address, version_id=version_id)

    async def _send_delete(self, address: Address, **which: str | None) -> None:
        async with self.requests:
            await self._hot(address.bucket, lambda hot: hot.delete(address, **which))

    async def _delete(self, address: Address, *, version_id: str | None = None) -> None:
        try:
            with unconditional():
                await self._send_delete(address, version_id=version_id)
        except KeyMissing:
            return
        except Uncertain:
            if await self.head(address) is not None:
                raise

    async def delete_all(self, bucket: str, keys: Mapping[str, str | None]) -> None:
        left = set(keys)
        if len(keys) > 1:
            with suppress(LakeryCloudError):  # not every store supports this
                left &= await self._deletions.delete_all(bucket, keys)
        async with bounded_tasks(MAX_DELETES) as tasks:
            for key in left:
                await tasks.start(self.delete(Address(bucket, key), version_id=keys[key]))

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        size = self._settings.limits.page_size

        async def page(token: str | None) -> tuple[Iterable[ObjectInfo], str | None]:
            async with self.requests:
                found: tuple[Iterable[ObjectInfo], str | None] = await self._hot(
                    bucket, lambda hot: hot.page(bucket, root, token, size)
                )
                return found

        async for info in in_pages(page, Address(bucket, root)):
            yield info

    async def tags(self, address: Address) -> Mapping[str, str]:
        try:
            return await self._object_read("get_object_tagging", address, listed_tags)
        except Unsupported:
            return {}

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        async def begin(supported: Supported) -> Begun:
            async with self.requests:
                begun: Begun = await self._hot(
                    address.bucket, lambda hot: hot.begin(address, attributes, supported, is_temporary=is_temporary)
                )
                return begun

        begun = await self._features.adapt(begin, (WHOLE_CHECKSUM, CHECKSUMS))
        upload = Upload(address, begun.upload_id, attributes, is_temporary, has_whole_checksum=begun.has_whole_checksum)
        if begun.is_repeated:
            with suppress(AccessDenied):  # without the permission to list, a lifecycle rule must end the other one
                await self._abort_all(address, but=upload.id)
        return upload

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        seconds = self._settings.timeout_of_copy(stop - start)
        copied: Receipt | None = await self._copy_signed(
            source,
            upload.address,
            lambda signed: signed.copy_part(upload, number, source, start, stop, seconds=seconds),
        )
        return copied or await self._copies.copy_part(upload, number, source, start, stop)

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> ObjectInfo | str | None:
        checksum = crc32c_of_parts(receipts) if upload.has_whole_checksum else None
        seconds = self._settings.timeout_of_copy(size)

        async def complete(supported: Supported) -> ObjectInfo | str | None:
            if create_only and CONDITIONS not in supported:
                await self._check_is_free(upload.address)

            async def send(hot: Any) -> ObjectInfo | str | None:
                completed: ObjectInfo | str | None = await hot.complete(
                    *(upload, receipts, supported),
                    size=size,
                    checksum=checksum,
                    create_only=create_only,
                    seconds=seconds,
                )
                return completed

            async with self.requests:
                return await self._hot(upload.address.bucket, send)

        return await self._features.adapt(complete, (*((CONDITIONS,) if create_only else ()), OBJECT_SIZE))

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        if upload is None:
            await self._abort_all(address)
            return
        for attempt in range(1, ABORT_ATTEMPTS + 1):
            try:
                await self._object_call("abort_multipart_upload", address, UploadId=upload.id)
            except UploadGone:
                return
            except Uncertain:
                if attempt == ABORT_ATTEMPTS:
                    raise
            try:
                if not await self._has_parts(upload):
                    return
            except (UploadGone, AccessDenied):
                return

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        address = Address(bucket, root)

        async def page(token: tuple[str, str] | None) -> tuple[Iterable[Upload], tuple[str, str] | None]:
            after = dict(zip(("KeyMarker", "UploadIdMarker"), token or (), strict=False))
            parameters = {"Prefix": root, **after, **self._payer}
            read = partial(listed_uploads, bucket)
            return await self._bucket_read("list_multipart_uploads", address, read, **parameters)

        with suppress(UploadGone):  # rclone says so if there are none
            async for upload in in_pages(page, address):
                yield upload

    async def list_versions(self, bucket: str, root: str) -> AsyncIterator[KeptVersion]:
        address = Address(bucket, root)

        async def page(token: tuple[str, str] | None) -> tuple[Iterable[KeptVersion], tuple[str, str] | None]:
            after = dict(zip(("KeyMarker", "VersionIdMarker"), token or (), strict=False))
            parameters = {"Prefix": root, "Delimiter": "/", **after, **self._payer}
            return await self._bucket_read(
                "list_object_versions", address, partial(listed_versions, bucket), **parameters
            )

        async for version in in_pages(page, address):
            yield version

    def credential_kind(self) -> str | None:
        return self._client.credential_kind

    async def put_damaged(self, address: Address) -> bool:
        if CHECKSUMS in self._features.supported:
            checksum = {"ChecksumSHA256": hex_to_header(hashlib.sha256(b"other").hexdigest())}
        else:
            checksum = {"ContentMD5": await md5_header(b"other")}
        await self._object_call("put_object", address, Body=b"bytes", **checksum, **self._stored_as)
        return True

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        parameters: dict[str, Any] = {"Bucket": address.bucket, "Key": address.key, **self._payer}
        if content is not None:
            parameters |= content_parameters(content, create_only=self.conditional_writes) | self._stored_as
        operation = "get_object" if content is None else "put_object"
        client = await self._client.get()
        url = await self._call(
            f"presigning {operation}",
            address,
            client.generate_presigned_url,
            operation,
            Params=parameters,
            ExpiresIn=int(expires.total_seconds()),
        )
        headers = header_names(client, operation, parameters)
        return PresignedURL(method, url, headers, datetime.now(UTC) + expires, pins_content=content is not None)

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        return await apply_rules(S3LifecycleRequests(self._checked_call, keys, rules["Rules"]), self, keys)

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        return await self._copies.copy(source, address, attributes)

    async def copy_as_is(
        self, source: ObjectInfo, address: Address, *, replace: bool, algorithm: str | None = None
    ) -> ObjectInfo | None:
        return await self._copies.copy_as_is(source, address, replace=replace, algorithm=algorithm)

    async def _copy_object(
        self, source: ObjectInfo, address: Address, supported: Supported, **options: Any
    ) -> ObjectInfo | None:
        return await self._copy_signed(
            source, address, lambda signed: signed.copy(source, address, supported, **options)
        )

    async def _copy_signed(
        self, source: ObjectInfo, address: Address, copy: Callable[[S3Requests], Awaitable[T]]
    ) -> T | None:
        """Copy by a request that lakery-cloud signs; None if only the SDK can."""
        signed = self._signed
        await self._endpoints.check(address.bucket)
        if signed is None or not await signed.can_serve(address.bucket) or source.address.bucket.startswith("arn:"):
            return None  # only the SDK knows how the name of an access point becomes a source
        async with self.requests:
            try:
                return await copy(signed)
            except BucketMoved:
                return None

    async def _abort_all(self, address: Address, *, but: str | None = None) -> None:
        """Abort the uploads to a key that may be ours: to a content key, other writers may have some, with parts."""
        async for upload in self.list_uploads(address.bucket, address.key):
            if upload.address != address or upload.id == but:
                continue
            with suppress(UploadGone, AccessDenied):
                if is_temporary(address.key) or not await self._has_parts(upload):
                    await self.abort_upload(address, upload)

    async def _has_parts(self, upload: Upload) -> bool:
        found = await self._object_call("list_parts", upload.address, UploadId=upload.id, MaxParts=1)
        return bool(found.get("Parts"))
