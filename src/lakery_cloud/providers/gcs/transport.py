"""The requests of Google Cloud Storage."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from gcsfs.core import GCSFileSystem

from lakery_cloud.engine.attributes import ObjectAttributes, attributes_of_content
from lakery_cloud.engine.bodies import Arriving
from lakery_cloud.engine.checksums import crc32c_header, header_to_hex
from lakery_cloud.engine.keys import Address, KeySpace
from lakery_cloud.engine.lifecycle import LIFECYCLE_ATTEMPTS, check_only_temporary, not_kept
from lakery_cloud.engine.model import (
    Body,
    KeyExists,
    KeyMissing,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Upload,
    UploadGone,
    VersionChanged,
    without_none,
)
from lakery_cloud.engine.retries import backoff
from lakery_cloud.engine.transport import Transport, missing
from lakery_cloud.errors import (
    AccessDenied,
    ConfigError,
    StorageUnavailable,
)
from lakery_cloud.http.headers import byte_range, read_content_range, time_of
from lakery_cloud.http.pool import ConnectionPool
from lakery_cloud.providers.gcs.lifecycle import _is_for_same, _rules
from lakery_cloud.providers.gcs.requests import (
    INTERRUPTIONS,
    JSONAPI,
    TAG_PREFIX,
    payer_of,
    quoted,
    resource_of,
    tags_of,
)
from lakery_cloud.providers.gcs.settings import GCSSettings
from lakery_cloud.providers.gcs.uploads import CompositeUpload, ResumableUpload
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part


def timeout_of(settings: GCSSettings) -> aiohttp.ClientTimeout:
    """The time-outs of one request."""
    return aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout, sock_read=settings.read_timeout)


class GCSTransport(Transport):
    """The requests of Cloud Storage's JSON API. Each docstring of the base class says what a method promises."""

    def __init__(self, fs: GCSFileSystem, settings: GCSSettings, lane: ConnectionPool | None = None) -> None:
        super().__init__(**settings.share(fs.session.connector.limit or settings.connections))
        self._api = JSONAPI(
            fs,
            timeout=fs.requests_timeout or timeout_of(settings),
            max_attempts=settings.max_attempts,
            requests=self.requests,
            lane=lane,
        )
        self._kms_key_name = settings.kms_key_name
        self._storage_class = without_none(storageClass=settings.storage_class)
        self._composite_uploads = settings.composite_uploads
        self._user_project = settings.user_project
        self._uploading: dict[str, ResumableUpload | CompositeUpload] = {}

    def checks_hash(self, algorithm: str) -> bool:
        return False

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        resource = {**resource_of(attributes), **self._storage_class}
        await self._api.insert(address, (data,), resource, kms_key_name=self._kms_key_name)

    async def head(self, address: Address) -> ObjectInfo | None:
        try:
            return _info(address, await self._api.resource(address))
        except KeyMissing:
            return None

    async def has_bucket(self, bucket: str) -> bool:
        try:
            await self._api.call("buckets.get", Address(bucket, ""), "GET", self._api.bucket_url(bucket))
        except KeyMissing:
            return False
        except AccessDenied:  # an answer about a bucket that is there
            return True
        return True

    @asynccontextmanager
    async def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AsyncGenerator[Body]:
        async with self.reads:
            try:
                answer = await self._api.request(
                    "objects.get",
                    address,
                    "GET",
                    self._api.object_url(address),
                    query=without_none(alt="media", generation=version, ifGenerationMatch=version),
                    # Without the first, what is stored as gzip comes decoded.
                    headers=without_none(**{"Accept-Encoding": "gzip", "Range": byte_range(start, stop)}),
                    is_streamed=True,
                )
            except KeyMissing as signal:
                if version is not None and await self.head(address) is not None:
                    raise VersionChanged(str(address)) from signal
                raise
            try:
                yield _body(address, answer.headers, Arriving(answer.read, interruptions=INTERRUPTIONS))
            finally:
                # A body that is not closed keeps its connection out of the pool.
                answer.close()

    async def delete(self, address: Address) -> None:
        await self._api.delete(address)

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        fields = "items(name,size,generation,updated),nextPageToken"
        token: dict[str, str] = {}
        while True:
            answer = await self._api.call(
                "objects.list",
                Address(bucket, root),
                "GET",
                f"{self._api.bucket_url(bucket)}/o",
                query={"prefix": root, "delimiter": "/", "fields": fields, **token},
            )
            page = answer.json()
            for entry in page.get("items", ()):
                yield _info(Address(bucket, entry["name"]), entry)
            if not page.get("nextPageToken"):
                return
            token = {"pageToken": page["nextPageToken"]}

    async def tags(self, address: Address) -> Mapping[str, str]:
        return tags_of(await self._api.resource(address))

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        resource = {
            **resource_of(attributes),
            **({"storageClass": "STANDARD"} if is_temporary else self._storage_class),
        }
        kind = CompositeUpload if self._composite_uploads else ResumableUpload
        uploading = await kind.begin(self._api, address, resource, kms_key_name=self._kms_key_name)
        self._uploading[uploading.id] = uploading
        return Upload(address, uploading.id, attributes, is_temporary)

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        return await self._uploading_of(upload).send(part)

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        raise ConfigError("Cloud Storage copies objects of any size by rewriting; leave limits.max_copy_size at None")

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        await self._uploading_of(upload).complete(receipts)
        del self._uploading[upload.id]

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        # An upload whose beginning was never answered can't be found: it holds nothing, and ends after a week.
        if upload is not None and (uploading := self._uploading.pop(upload.id, None)) is not None:
            await uploading.abort()

    async def server_time(self, bucket: str) -> datetime | None:
        return time_of(await self._api.date(bucket))

    def credential_kind(self) -> str | None:
        return self._api.credential_kind()

    async def put_damaged(self, address: Address) -> bool:
        checksum = await crc32c_header(b"other")
        await self._api.insert(address, (b"bytes",), {"contentType": "text/plain"}, kms_key_name=None, crc32c=checksum)
        return True

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        headers = {} if content is None else self._content_headers(content)
        query = without_none(userProject=payer_of(address) or self._user_project)
        url = await self._api.sign(address, method, expires=expires, headers=headers, query=query)
        return PresignedURL(method, url, headers, datetime.now(UTC) + expires)

    def _content_headers(self, content: Digest) -> dict[str, str]:
        """What a PUT of content by a URL must say (Cloud Storage, "HTTP headers and query string parameters for XML API").

        Its size is pinned, but not its bytes: no checksum that the store knows is in a digest.
        """
        resource = resource_of(attributes_of_content(content, {}))
        size = content["content_size"]
        return {
            **without_none(
                **{"Content-Type": resource["contentType"], "Content-Encoding": resource.get("contentEncoding")}
            ),
            "x-goog-if-generation-match": "0",
            "x-goog-content-length-range": f"{size},{size}",
            **{f"x-goog-meta-{name}": value for name, value in resource["metadata"].items()},
            **without_none(
                **{
                    "x-goog-encryption-kms-key-name": self._kms_key_name,
                    "x-goog-storage-class": self._storage_class.get("storageClass"),
                }
            ),
        }

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        (ours,) = rules["rule"]
        address = Address(keys.bucket, keys.temporary_root)
        for attempt in range(1, LIFECYCLE_ATTEMPTS + 1):
            there, metageneration = await self._lifecycle(address)
            if ours in there:
                return attempt > 1
            await check_only_temporary(self, keys)
            merged = [*(rule for rule in there if not _is_for_same(rule, ours)), ours]
            try:
                answer = await self._api.call(
                    "buckets.patch",
                    address,
                    "PATCH",
                    self._api.bucket_url(keys.bucket),
                    query={"fields": "lifecycle", "ifMetagenerationMatch": metageneration},
                    headers={"Content-Type": "application/json"},
                    body=(json.dumps({"lifecycle": {"rule": merged}}).encode(),),
                )
            except VersionChanged:  # somebody else has changed the bucket, or an attempt whose answer was lost has
                await asyncio.sleep(backoff(attempt))
                continue
            if ours not in _rules(answer.json()):
                raise not_kept(keys.bucket)
            return True
        raise StorageUnavailable(
            f"somebody else changed the bucket {keys.bucket!r} {LIFECYCLE_ATTEMPTS} times while lifecycle rules were set; "
            "try again later"
        )

    async def _lifecycle(self, address: Address) -> tuple[Sequence[Mapping[str, Any]], str]:
        """The rules of a bucket, and what changes whenever they do."""
        try:
            answer = await self._api.call(
                "buckets.get",
                address,
                "GET",
                self._api.bucket_url(address.bucket),
                query={"fields": "lifecycle,metageneration"},
            )
        except KeyMissing as signal:
            raise await missing(self, address) from signal
        resource = answer.json()
        return _rules(resource), str(resource["metageneration"])

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        query = without_none(
            ifGenerationMatch="0",
            ifSourceGenerationMatch=source.version,
            destinationKmsKeyName=self._kms_key_name,
        )
        while True:
            try:
                answer = await self._api.call(
                    "objects.rewrite",
                    address,
                    "POST",
                    f"{self._api.object_url(source.address)}/rewriteTo/b/{quoted(address.bucket)}/o/{quoted(address.key)}",
                    query=query,
                    headers={"Content-Type": "application/json"},
                    body=(json.dumps({**resource_of(attributes), **self._storage_class}).encode(),),
                )
            except KeyExists as signal:
                # The answer is the same whichever of the two conditions failed.
                now = await self.head(source.address)
                if now is None or now.version != source.version:
                    raise VersionChanged(str(source.address)) from signal
                raise
            progress = answer.json()
            if progress["done"]:
                return _info(address, progress["resource"])
            query["rewriteToken"] = progress["rewriteToken"]

    def _uploading_of(self, upload: Upload) -> ResumableUpload | CompositeUpload:
        try:
            return self._uploading[upload.id]
        except KeyError:
            raise UploadGone(f"the upload to {upload.address} was ended") from None


def _info(address: Address, resource: Mapping[str, Any]) -> ObjectInfo:
    metadata = {name: value for name, value in resource.get("metadata", {}).items() if not name.startswith(TAG_PREFIX)}
    return ObjectInfo(
        address,
        int(resource["size"]),
        str(resource["generation"]),
        _content_hash(resource),
        resource.get("contentType"),
        resource.get("contentEncoding"),
        datetime.fromisoformat(resource["updated"]) if "updated" in resource else None,
        metadata,
    )


def _body(address: Address, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> Body:
    size = int(headers.get("x-goog-stored-content-length") or headers["content-length"])
    start, size = read_content_range(headers.get("content-range"), size=size)
    info = ObjectInfo(address, size, headers.get("x-goog-generation"), None, headers.get("content-type"))
    return Body(info, chunks, start)


def _content_hash(resource: Mapping[str, Any]) -> str | None:
    """The MD5 of a whole object, which a composed one doesn't have."""
    md5 = resource.get("md5Hash")
    return f"md5:{header_to_hex(md5)}" if md5 else None
