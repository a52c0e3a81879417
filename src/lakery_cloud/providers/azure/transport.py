"""The requests of Azure Blob Storage: the hot ones by `AzureRequests`, all others as calls of the SDK."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core import exceptions as azure_errors
from azure.storage.blob import BlobProperties
from azure.storage.blob.aio import BlobClient, BlobServiceClient

from lakery_cloud.engine.attributes import ObjectAttributes, attributes_of_content
from lakery_cloud.engine.cloud_transport import CloudTransport
from lakery_cloud.engine.features import Features
from lakery_cloud.engine.keys import TEMPORARY_FOLDER, Address, KeySpace, is_temporary
from lakery_cloud.engine.listing import in_pages
from lakery_cloud.engine.model import (
    KeptVersion,
    KeyExists,
    KeyMissing,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Uncertain,
    Unreachable,
    Unsupported,
    Upload,
    UploadGone,
    WriteConflict,
)
from lakery_cloud.engine.transport import ABORT_ATTEMPTS, unconditional
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.http.exchange import UnsupportedResponse
from lakery_cloud.http.headers import strong, time_of
from lakery_cloud.providers.azure.answers import check_sdk_answer
from lakery_cloud.providers.azure.checksums import CRC64, OPTIONAL, Supported, checksum_headers
from lakery_cloud.providers.azure.copies import Copies
from lakery_cloud.providers.azure.errors import SDK_ERRORS, translate
from lakery_cloud.providers.azure.lifecycle import not_applicable, retention_of
from lakery_cloud.providers.azure.metadata import described, tags_in_metadata
from lakery_cloud.providers.azure.requests import AzureRequests
from lakery_cloud.providers.azure.sdk_requests import (
    MAX_READ,
    SDKRequests,
    page_of_sdk,
    version_of_sdk,
)
from lakery_cloud.providers.azure.signing import CREATE, READ, Grants, account_of
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings

T = TypeVar("T")

logger = logging.getLogger("lakery_cloud")

LATE_BLOCK = 0.2
"""Seconds until a block shows up whose request was cancelled after the service had received all of it."""

_NAME: Callable[[BlobProperties], str] = attrgetter("name")
_REFUSED = (BucketNotFound, ConfigError, CredentialsError)
"""Errors that say that the store accepts no request of a storage like this one."""
_NOTHING_STORED = (*_REFUSED, AccessDenied, Unreachable)
"""After these errors it is certain that the store has no block of the request."""


class AzureTransport(CloudTransport):
    """The requests of Azure's API. The docstrings of the base class say what each method promises.

    Args:
        client: The SDK's client.
        settings: The storage's settings.
        account_name: Name of the account, if it is known.
        signed: Hot requests that lakery-cloud sends itself; without them, the SDK sends all requests.
    """

    sdk_errors = SDK_ERRORS

    def __init__(
        self,
        client: BlobServiceClient,
        settings: "AzureSettings",
        *,
        account_name: str | None = None,
        signed: AzureRequests | None = None,
    ) -> None:
        super().__init__(settings)
        self._client = client
        self.store = self._endpoint = client.url.partition("?")[0]
        self._settings = settings
        self._account = account_of(self._endpoint, account_name)
        self._grants = Grants(client, account=self._account, call=self._call)
        self._copies = Copies(self, send=self._send, call=self._blob_call, grants=self._grants, settings=settings)
        self._hot_requests = signed or SDKRequests(client, settings=settings, translate=self._translate)
        self._features = Features(OPTIONAL)
        if signed is None:
            self.largest_piece = MAX_READ
        self._lists_index_tags = settings.blob_tags
        self._deletes_versions = True
        self._deletes_blocks = True  # whether a deletion discards the blocks of a blob that is not committed
        self._reached: dict[str, bool] = {}  # upload id -> whether a block may have reached the store
        self._cancelled: set[str] = set()  # ids of uploads of which a block was cancelled on its way

    def checks_hash(self, algorithm: str) -> bool:
        return False

    async def _hot(self, bucket: str, send: Callable[[Any], Awaitable[T]]) -> T:
        return await send(self._hot_requests)

    async def _send(self, address: Address, send: Callable[[Any], Awaitable[T]]) -> T:
        """Send a hot request within the limit of concurrent requests."""
        async with self.requests:
            return await self._hot(address.bucket, send)

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        async def send(supported: Supported) -> None:
            await self._send(address, lambda hot: hot.put(address, data, attributes, supported))

        await self._features.adapt(send, (CRC64,))

    async def has_bucket(self, bucket: str) -> bool:
        status, headers = await self._head_container(bucket)
        # 403 is an answer about an existing container.
        return status != 404 and headers.get("x-ms-error-code") != "ContainerBeingDeleted"

    async def retention(self, bucket: str) -> str | None:
        _, headers = await self._head_container(bucket)
        return retention_of(headers)

    async def server_time(self, bucket: str) -> datetime | None:
        _, headers = await self._head_container(bucket)
        return time_of(headers.get("Date"))

    async def _head_container(self, bucket: str) -> tuple[int, Mapping[str, str]]:
        """Status and headers of any response about a container."""
        responses: list[Any] = []

        def note(response: Any) -> None:
            responses.append(response.http_response)
            check_sdk_answer(response)  # this hook replaces the client's

        async def get_container_properties() -> None:
            try:
                await self._client.get_container_client(bucket).get_container_properties(raw_response_hook=note)
            except azure_errors.HttpResponseError:
                if not responses:
                    raise

        # The SDK forgets the hook when a connection breaks (`StorageResponseHook`): what it has sent again is not noted.
        for _ in range(self._settings.max_attempts):
            await self._call("get_container_properties", Address(bucket, ""), get_container_properties)
            if responses:
                return responses[-1].status_code, responses[-1].headers
        raise StorageUnavailable(f"the connections to the container {bucket!r} broke off each time; try again later")

    async def delete(self, address: Address, *, version_id: str | None = None) -> None:
        try:
            with unconditional():
                await self._delete(address)
        except KeyMissing:
            pass
        except Uncertain:
            if await self.head(address) is not None:
                raise
        if version_id is None or not self._deletes_versions:
            return
        try:
            await self._purge(address, version_id)
        except AccessDenied as error:
            self._deletes_versions = False
            logger.warning(
                "the account keeps versions of temporary blobs in the container %r for the time of its data protection: %s",
                address.bucket,
                error,
            )

    async def delete_if(self, info: ObjectInfo) -> None:
        if (etag := strong(info.version)) is None:
            raise StorageUnavailable(
                f"{info.address} was not deleted, since the store has no strong ETag of it to compare. Check that "
                "endpoint_url is Azure Blob Storage, and that no proxy changes ETags"
            )
        with suppress(KeyMissing):
            await self._delete(info.address, etag=etag)

    async def delete_version(self, address: Address, version_id: str) -> None:
        await self.delete(address)
        await self._purge(address, version_id)

    async def _delete(self, address: Address, **options: Any) -> bool:
        is_kept: bool = await self._send(address, lambda hot: hot.delete(address, **options))
        return is_kept

    async def _purge(self, address: Address, version_id: str) -> None:
        """Delete a version whose blob is deleted: the current one can't be (Azure/azure-sdk-for-java pull request 48716).

        Where versions are deleted softly, a further request deletes them for good, if the account allows it (Microsoft
        Learn, "Delete Blob", "Permanent delete").
        """
        with suppress(KeyMissing):
            if not await self._delete(address, version_id=version_id):
                return
            try:
                await self._delete(address, version_id=version_id, is_permanent=True)
            except (CredentialsError, StorageUnavailable):
                raise
            except LakeryCloudError as error:
                raise AccessDenied(
                    f"the account keeps deleted versions such as {address} for the days of its soft delete: {error}. Set "
                    "allowPermanentDelete in the account, and grant permanentDelete"
                ) from error

    async def delete_all(self, bucket: str, keys: Mapping[str, str | None]) -> None:
        for key, known in keys.items():
            info = await self.head(Address(bucket, key)) if known is None else None
            await self.delete(Address(bucket, key), version_id=info.version_id if info else known)

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        async for info in self._listed(bucket, root):
            yield info

    async def list_described(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        if self._lists_index_tags:
            has_begun = False
            try:
                async for info in self._listed(bucket, root, include=("metadata", "tags"), has_tags=True):
                    has_begun = True
                    yield info
            except (AccessDenied, ConfigError) as error:  # no permission to read tags, or no index tags
                if has_begun:
                    raise
                logger.debug("the container %r is listed without tags: %s", bucket, error)
                self._lists_index_tags = False
            else:
                return
        has_tags = not self._settings.blob_tags
        async for info in self._listed(bucket, root, include=("metadata",), has_tags=has_tags):
            yield info

    async def _listed(self, bucket: str, root: str, **options: Any) -> AsyncIterator[ObjectInfo]:
        async def page(token: str | None) -> tuple[Sequence[ObjectInfo], str | None]:
            found: tuple[Sequence[ObjectInfo], str | None] = await self._send(
                Address(bucket, root), lambda hot: hot.page(bucket, root, token, **options)
            )
            return found

        async for info in in_pages(page, Address(bucket, root)):
            yield info

    async def list_versions(self, bucket: str, root: str) -> AsyncIterator[KeptVersion]:
        async for version in self._list(bucket, root, partial(version_of_sdk, bucket), include=["versions"]):
            if version is not None:
                yield version

    async def _list(
        self, bucket: str, root: str, read: Callable[[BlobProperties], T], **options: Any
    ) -> AsyncIterator[T]:
        address = Address(bucket, root)

        async def page(token: str | None) -> tuple[Sequence[T], str | None]:
            return await self._call(
                "list_blobs",
                address,
                page_of_sdk,
                *(self._client, bucket, root, token, self._settings, read),
                **options,
            )

        async for entry in in_pages(page, address):
            yield entry

    async def tags(self, address: Address) -> Mapping[str, str]:
        if self._settings.blob_tags:
            with suppress(Unsupported):  # the content has no tags: with some, it would not have been saved
                tags: Mapping[str, str] = await self._blob_call("get_blob_tags", address, read=_checked_tags)
                return tags
        properties = await self._blob_call("get_blob_properties", address)
        return tags_in_metadata(properties.metadata)

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        # Blocks need no beginning. The random id keeps them apart from those of another writer on the same blob.
        return Upload(address, secrets.token_hex(8), attributes, is_temporary)

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        async def send(supported: Supported) -> Receipt:
            sent: Receipt = await self._send(upload.address, lambda hot: hot.part(upload, part, supported))
            return sent

        try:
            receipt = await self._features.adapt(send, (CRC64,))
        except _NOTHING_STORED:
            self._reached.setdefault(upload.id, False)
            raise
        except asyncio.CancelledError:
            self._cancelled.add(upload.id)
            raise
        except Exception:
            self._reached[upload.id] = True
            raise
        self._reached[upload.id] = True
        return receipt

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        options = {
            "grant": await self._grants.source(source),
            "seconds": self._settings.timeout_of_copy(stop - start),
        }
        copied: Receipt = await self._send(
            upload.address, lambda hot: hot.copy_part(upload, number, source, start, stop, **options)
        )
        return copied

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> str | None:
        self._reached.pop(upload.id, None)
        self._cancelled.discard(upload.id)
        try:
            version_id: str | None = await self._send(upload.address, lambda hot: hot.complete(upload, receipts))
        except KeyExists as signal:
            if create_only:
                raise
            raise UploadGone(str(signal)) from signal  # the key is ours alone: an earlier attempt has completed it
        return version_id

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        if not is_temporary(address.key):
            return  # only a commit discards blocks, and nothing partial is ever made at a content key
        is_late = upload is not None and upload.id in self._cancelled
        has_reached: bool | None = None
        if upload is not None:
            self._cancelled.discard(upload.id)
            has_reached = self._reached.pop(upload.id, None)
            if has_reached is False:
                return  # nothing reached the store, nor would this
        with suppress(BucketNotFound):
            for _ in range(ABORT_ATTEMPTS):
                try:
                    has_blocks = await self._has_blocks(address)
                except _REFUSED:
                    if has_reached:
                        raise
                    return  # the parts whose requests were cancelled would have been refused, too
                if has_blocks:
                    has_reached = True
                    await self._discard_blocks(address)
                elif is_late:
                    await asyncio.sleep(LATE_BLOCK)
                else:
                    return
                is_late = False

    async def _has_blocks(self, address: Address) -> bool:
        """Whether a blob has blocks that are not committed."""
        try:
            _, uncommitted = await self._blob_call("get_block_list", address, block_list_type="uncommitted")
        except KeyMissing:
            return False
        return bool(uncommitted)

    async def _discard_blocks(self, address: Address) -> None:
        """Delete a blob that has blocks, but was never committed (Microsoft Learn, "Delete Blob", "Remarks").

        Raises:
            AccessDenied: The deletion is not allowed. Nothing is committed then, since it could not be deleted.
        """
        if self._deletes_blocks:
            try:
                await self._delete(address)
            except KeyMissing:
                self._deletes_blocks = not await self._has_blocks(address)
            if self._deletes_blocks:
                return
        # Azurite finds only committed blobs. The deletion above was allowed, but retention may forbid the next one.
        retention = await self.retention(address.bucket)
        if retention != "":
            raise AccessDenied(
                f"the blocks of {address} stay until the store discards them, a week after the last one: it does not "
                f"delete them, and {retention or 'unknown retention'} may keep the empty blob that would replace them"
            )
        with suppress(KeyExists, UploadGone, WriteConflict):  # the caller looks again
            made = await self._blob_call("commit_block_list", address, block_list=[])
            await self.delete(address, version_id=made.get("version_id"))

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        # Only at temporary keys: blocks at content keys can't be aborted, see `abort_upload`.
        folder = f"{root}{TEMPORARY_FOLDER}/"
        found = [name async for name in self._list(bucket, folder, _NAME, include=["uncommittedblobs"])]
        # A listing does not mark them. It comes afterwards: one may be committed meanwhile.
        committed = {name async for name in self._list(bucket, folder, _NAME)}
        for name in found:
            if name not in committed and is_temporary(name):
                yield Upload(Address(bucket, name), "", ObjectAttributes("", None, {}, {}))

    def credential_kind(self) -> str | None:
        credential = self._client.credential
        if hasattr(credential, "account_key"):
            return "account key"
        if "sig=" in self._client.url or hasattr(credential, "signature"):
            return "shared access signature"
        return None if credential is None else getattr(credential, "kind", type(credential).__name__)

    async def put_damaged(self, address: Address) -> bool:
        async def send(supported: Supported) -> None:
            headers = await checksum_headers(supported, b"other")
            await self._blob_call("upload_blob", address, data=b"bytes", length=5, headers=headers)

        await self._features.adapt(send, (CRC64,))
        return True

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        expires_at = datetime.now(UTC) + expires
        signature = await self._grants.signature(address, READ if content is None else CREATE, expires_at)
        url = str(self._blob(address).url).partition("?")[0]
        headers = {} if content is None else self._content_headers(content)
        return PresignedURL(method, f"{url}?{signature}", headers, expires_at)

    def _content_headers(self, content: Digest) -> dict[str, str]:
        """The headers of a PUT by a URL. Azure's signatures cover no headers: they limit the rights alone."""
        return {
            **described(attributes_of_content(content, {}), self._settings),
            "If-None-Match": "*",
            "x-ms-blob-type": "BlockBlob",
            "x-ms-version": self._client.api_version,
        }

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        raise not_applicable(self._account or "<account>")

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        await self._copies.copy(source, address, attributes)
        return None

    async def copy_as_is(
        self, source: ObjectInfo, address: Address, *, replace: bool, algorithm: str | None = None
    ) -> ObjectInfo | None:
        await self._copies.copy_as_is(source, address, replace=replace)
        return None

    def _blob(self, address: Address) -> BlobClient:
        return self._client.get_blob_client(address.bucket, address.key)

    async def _blob_call(
        self, operation: str, address: Address, *, read: Callable[[Any], Any] | None = None, **parameters: Any
    ) -> Any:
        parameters.setdefault("raw_response_hook", check_sdk_answer)  # the client of a user has none

        async def call() -> Any:
            answer = await getattr(self._blob(address), operation)(**parameters)
            return answer if read is None else read(answer)

        return await self._call(operation, address, call)

    def _translate(self, error: Exception, operation: str, address: Address) -> Exception:
        return translate(error, operation, address, endpoint=self._endpoint)


def _checked_tags(tags: Mapping[str | None, str | None]) -> Mapping[str | None, str | None]:
    if None in tags or None in tags.values():
        raise UnsupportedResponse("a response with a malformed tag")
    return tags
