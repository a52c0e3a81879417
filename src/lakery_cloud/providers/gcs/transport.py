"""The requests of Google Cloud Storage: all of them by `GCSRequests`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from lakery_cloud.engine.attributes import ObjectAttributes, attributes_of_content
from lakery_cloud.engine.checksums import crc32c_header
from lakery_cloud.engine.cloud_transport import CloudTransport, HotRequests
from lakery_cloud.engine.keys import Address, KeySpace
from lakery_cloud.engine.lifecycle import apply_rules
from lakery_cloud.engine.listing import in_pages
from lakery_cloud.engine.model import (
    KeptVersion,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Upload,
    UploadGone,
    WriteConflict,
    without_none,
)
from lakery_cloud.errors import AccessDenied, ConfigError
from lakery_cloud.providers.gcs.answers import read_size
from lakery_cloud.providers.gcs.copies import Copies
from lakery_cloud.providers.gcs.credentials import Tokens
from lakery_cloud.providers.gcs.lifecycle import GCSLifecycleRequests
from lakery_cloud.providers.gcs.requests import GCSRequests
from lakery_cloud.providers.gcs.settings import GCSSettings
from lakery_cloud.providers.gcs.signing import sign_url
from lakery_cloud.providers.gcs.uploads import CompositeUpload, ResumableUpload
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part

T = TypeVar("T")


@dataclass(slots=True)
class TemporaryObject:
    """The object of an upload to a temporary key, until it is deleted.

    Attributes:
        is_throttled: Whether the store has refused a change of it so soon after another one.
        is_moved: Whether it has become the content.
        parts: The upload, if its parts are to be composed to the content key. Then the object itself does not exist.
    """

    is_throttled: bool = False
    is_moved: bool = False
    parts: CompositeUpload | None = None


class GCSTransport(CloudTransport):
    """The requests of the JSON API. The docstrings of the base class say what each method promises.

    Args:
        api: Sends the requests.
        tokens: Signs URLs.
        settings: The storage's settings.
        connections: How many connections the requests may use.
    """

    def __init__(self, api: GCSRequests, tokens: Tokens, settings: GCSSettings, *, connections: int) -> None:
        super().__init__(settings, connections=connections)
        self._api = api
        self._tokens = tokens
        self._settings = settings
        self.store = api.endpoint
        self.copies_need_description = settings.storage_class is not None
        self.uploads_to_content = not settings.composite_uploads
        self._uploads: dict[str, ResumableUpload | CompositeUpload] = {}
        self._temporary: dict[Address, TemporaryObject] = {}
        self._copies = Copies(self, api, settings)
        self._keeps_no_moved: set[str] = set()

    def checks_hash(self, algorithm: str) -> bool:
        return False

    async def _hot(self, bucket: str, send: Callable[[HotRequests], Awaitable[T]]) -> T:
        return await send(cast("HotRequests", self._api))  # a part has requests of its own, see `upload_part`

    async def head(self, address: Address) -> ObjectInfo | None:
        if (made := self._temporary.get(address)) is not None and made.parts is not None:
            await made.parts.compose()  # only a copy needs no object
        return await super().head(address)

    async def has_bucket(self, bucket: str) -> bool:
        async with self.requests:
            return await self._api.has_bucket(bucket)

    async def server_time(self, bucket: str) -> datetime | None:
        async with self.requests:
            return await self._api.server_time(bucket)

    async def delete(self, address: Address, *, version_id: str | None = None) -> None:
        made = self._temporary.pop(address, None)
        if made is not None and made.parts is not None:
            await made.parts.abort()
            return
        if made is not None and made.is_moved:
            await self._delete_moved(address, version_id)
            return
        async with self.requests:
            await self._api.delete(address, generation=version_id)

    async def _delete_moved(self, address: Address, generation: str | None) -> None:
        """Delete what a bucket with versions may keep of a moved object.

        Google does not document whether it keeps anything, so the first response about each bucket decides.
        """
        if address.bucket in self._keeps_no_moved:
            return
        async with self.requests:
            try:
                is_kept = await self._api.delete_generation(address, generation)
            except AccessDenied:
                self._keeps_no_moved.add(address.bucket)  # one warning is enough
                raise
        if not is_kept:
            self._keeps_no_moved.add(address.bucket)

    async def delete_if(self, info: ObjectInfo) -> None:
        async with self.requests:
            await self._api.delete_if(info.address, info.version)

    async def delete_version(self, address: Address, version_id: str) -> None:
        async with self.requests:
            await self._api.delete_generation(address, version_id)

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        async def read(token: str | None) -> tuple[Sequence[ObjectInfo], str | None]:
            async with self.requests:
                return await self._api.list_page(bucket, root, token)

        async for info in in_pages(read, Address(bucket, root)):
            yield info

    async def list_described(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        # The response to a read has no metadata (googleapis/google-cloud-go pull request 11212), and so no tags.
        async def read(token: str | None) -> tuple[Sequence[ObjectInfo], str | None]:
            async with self.requests:
                return await self._api.list_page(bucket, root, token, described=True)

        async for info in in_pages(read, Address(bucket, root)):
            yield info

    async def list_versions(self, bucket: str, root: str) -> AsyncIterator[KeptVersion]:
        async def read(token: str | None) -> tuple[Sequence[KeptVersion], str | None]:
            async with self.requests:
                return await self._api.versions_page(bucket, root, token)

        async for version in in_pages(read, Address(bucket, root)):
            yield version

    async def tags(self, address: Address) -> Mapping[str, str]:
        async with self.requests:
            return (await self._api.describe(address)).tags

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        resource = self._api.resource(attributes, is_temporary=is_temporary)
        upload: ResumableUpload | CompositeUpload
        if self._settings.composite_uploads:
            upload = CompositeUpload(self._api, self.requests, address, resource)
        else:
            async with self.requests:
                session_url = await self._api.begin_resumable(address, resource)
            upload = ResumableUpload(
                self._api, self.requests, address, session_url, attributes.content_type, is_temporary=is_temporary
            )
        self._uploads[upload.id] = upload
        return Upload(address, upload.id, attributes, is_temporary)

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        return await self._upload(upload).send(part)

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        raise ConfigError("Cloud Storage copies objects of any size by rewriting; leave limits.max_copy_size at None")

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> ObjectInfo:
        begun, temporary = self._upload(upload), TemporaryObject()
        can_wait = upload.is_temporary and self._copies.is_kept(upload.address, self._settings.bucket)
        if can_wait and isinstance(begun, CompositeUpload):
            made, temporary.parts = await begun.prepare(receipts), begun
        else:
            made = await begun.complete(receipts)
        del self._uploads[upload.id]
        if upload.is_temporary:
            self._temporary[upload.address] = temporary
        return made

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        # An upload without a response to its beginning can't be found. It has no bytes, and expires after a week.
        if upload is not None and upload.id in self._uploads:
            await self._uploads.pop(upload.id).abort()

    def _upload(self, upload: Upload) -> ResumableUpload | CompositeUpload:
        if upload.id not in self._uploads:
            raise UploadGone(f"the upload to {upload.address} has ended")
        return self._uploads[upload.id]

    async def retention(self, bucket: str) -> str | None:
        async with self.requests:
            options = await self._api.options(bucket)
        return options and options.retention

    async def kept_objects(self, bucket: str) -> Sequence[str] | None:
        async with self.requests:
            options = await self._api.options(bucket)
        return options and options.kept

    def credential_kind(self) -> str | None:
        return self._tokens.credential_kind()

    async def put_damaged(self, address: Address) -> bool:
        checksum = await crc32c_header(b"other")
        async with self.requests:
            await self._api.insert(address, (b"bytes",), {"contentType": "text/plain"}, crc32c=checksum, read=read_size)
        return True

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        headers = {} if content is None else self._content_headers(content)
        url = await sign_url(
            self._tokens,
            address,
            method,
            endpoint=self._api.endpoint,
            expires=expires,
            headers=headers,
            query=without_none(userProject=self._api.payer(address)),
        )
        return PresignedURL(method, url, headers, datetime.now(UTC) + expires)

    def _content_headers(self, content: Digest) -> dict[str, str]:
        """The headers of a PUT by a URL. They pin the size alone: no digest has a checksum that the store knows.

        Source: Cloud Storage, "HTTP headers and query string parameters for XML API".
        """
        resource = self._api.resource(attributes_of_content(content, {}))
        size = content["content_size"]
        return {
            **{f"x-goog-meta-{name}": value for name, value in resource["metadata"].items()},
            "x-goog-if-generation-match": "0",
            "x-goog-content-length-range": f"{size},{size}",
            **without_none(
                **{
                    "Content-Type": resource["contentType"],
                    "Content-Encoding": resource.get("contentEncoding"),
                    "x-goog-encryption-kms-key-name": self._settings.kms_key_name,
                    "x-goog-storage-class": self._settings.storage_class,
                }
            ),
        }

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        requests = GCSLifecycleRequests(self._api, self.requests, keys, rules["rule"])
        return await apply_rules(requests, self, keys)

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        made = self._temporary.get(source.address)
        if made is not None and made.parts is not None:
            return await made.parts.compose_content(address, self._api.resource(attributes))
        if made is None or made.is_throttled or not self._copies.can_move(source.address, address.bucket):
            return await self._copies.rewrite(source, address, attributes)
        try:
            moved, made.is_moved = await self._copies.move(source, address, attributes)
        except WriteConflict:
            made.is_throttled = True  # a rewrite changes no existing object
            raise
        return moved

    async def copy_as_is(
        self, source: ObjectInfo, address: Address, *, replace: bool, algorithm: str | None = None
    ) -> ObjectInfo | None:
        return await self._copies.copy_as_is(source, address, replace=replace)
