"""The requests of Azure Blob Storage."""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from lakery_cloud.engine.attributes import (
    METADATA_ALGORITHM,
    METADATA_HASH,
    METADATA_SIZE,
    ObjectAttributes,
    attributes_of_content,
)
from lakery_cloud.engine.bodies import SLICE_SIZE, Arriving, Slices
from lakery_cloud.engine.checksums import md5_header
from lakery_cloud.engine.keys import (
    TEMPORARY_FOLDER,
    Address,
    KeySpace,
    is_temporary,
)
from lakery_cloud.engine.model import (
    Body,
    BodyInterrupted,
    KeyExists,
    KeyMissing,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Unreachable,
    Upload,
    VersionChanged,
    without_none,
)
from lakery_cloud.engine.transport import ABORT_ATTEMPTS, Transport
from lakery_cloud.errors import (
    BucketNotFound,
    ConfigError,
    CredentialsError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.http.connection import HTTPError, UnsupportedResponse
from lakery_cloud.http.headers import read_content_range, time_of
from lakery_cloud.providers.azure.errors import raise_if_throttled
from lakery_cloud.providers.azure.settings import AzureSettings
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobClient
from azure.core import MatchConditions
from azure.core import exceptions as azure_errors
from azure.storage.blob import (
    BlobBlock,
    BlobProperties,
    BlobSasPermissions,
    ContentSettings,
    StandardBlobTier,
    generate_blob_sas,
)
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud.http.pool import Answer
from lakery_cloud.providers.azure.errors import (
    ConditionNotMet,
    OutOfRange,
    translate,
)
from lakery_cloud.providers.azure.requests import (
    HOT,
    TOKEN_SCOPE,
    AzureLane,
)

WINDOW_SIZE = 4 * 1024**2
"""Most bytes of one ranged read: the SDK holds the whole answer."""


LATE_BLOCK = 0.2
"""Seconds after which a block is there whose request was cut off when the service had all of it."""


SOURCE_GRANT = timedelta(hours=1)
"""How long the source of a copy may be read with the signature made for it."""


METADATA_TAGS = "content_tags"
"""Where tags are kept as JSON if not as index tags. The name is permanent."""


# Metadata names are C# identifiers here.
_NAMES = {name.replace("-", "_"): name for name in (METADATA_HASH, METADATA_ALGORITHM, METADATA_SIZE)}


class AzureTransport(Transport):
    """The requests of Azure's Blob service. Each docstring of the base class says what a method promises."""

    def __init__(self, client: BlobServiceClient, settings: AzureSettings, lane: AzureLane | None = None) -> None:
        super().__init__(
            max_concurrent_requests=settings.max_concurrent_requests,
            max_concurrent_reads=settings.max_concurrent_reads,
        )
        self._client = client
        self._lane = lane
        self._reached: dict[str, bool] = {}  # upload id -> whether a block of it was staged, once it was tried
        self._cut_off: set[str] = set()  # ids of uploads of which a block was on its way when it was cancelled
        self._endpoint = client.url.partition("?")[0]
        self._blob_tags = settings.blob_tags
        self._access_tier = without_none(
            standard_blob_tier=StandardBlobTier(settings.access_tier) if settings.access_tier else None
        )

    def checks_hash(self, algorithm: str) -> bool:
        return False

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        await self._call(
            "upload_blob",
            address,
            data=(data,),
            length=len(data),
            headers={"Content-MD5": await md5_header(data)},
            **_in_slices(data),
            match_condition=MatchConditions.IfMissing,
            **self._headers(attributes),
            **self._access_tier,
        )

    async def head(self, address: Address) -> ObjectInfo | None:
        try:
            return _info(address, await self._call("get_blob_properties", address))
        except (KeyMissing, BucketNotFound):
            return None

    async def has_bucket(self, bucket: str) -> bool:
        try:
            await self._client.get_container_client(bucket).get_container_properties()
        except azure_errors.AzureError as error:
            if isinstance(error, azure_errors.HttpResponseError) and error.response is not None:
                # 403 is an answer about a container that may well be there.
                return bool(error.status_code != 404)
            raise self._translate(error, "get_container_properties", Address(bucket, "")) from error
        return True

    @asynccontextmanager
    async def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AsyncGenerator[Body]:
        async with self.reads:
            info, place, body = await self.open_body(address, start, stop, version)
            if not isinstance(body, Answer):
                async with aclosing(_windows(self, info, start, stop, body)) as chunks:
                    yield Body(info, chunks, place)
                return
            try:
                yield Body(info, Arriving(body.read, interruptions=_INTERRUPTIONS), place)
            finally:
                # A body that is not closed keeps its connection.
                body.close()

    async def open_body(
        self, address: Address, start: int, stop: int | None, version: str | None
    ) -> tuple[ObjectInfo, int | None, bytes | Answer]:
        """The blob, where its bytes begin, and these: all on their way, or as many as one window holds."""
        window = partial(self.read_window, address, start, stop, version)
        if self._lane is None:
            found, body = await window()
        else:
            wanted = {"blob": address.key, "start": start, "stop": stop, "version": version}
            found, body = await self._lane.call("download_blob", address.bucket, wanted, ask=window)
        if not isinstance(body, Answer):
            return found, start, body
        place, _ = read_content_range(found.content_range, size=found.size)
        return _info(address, found), place, body

    async def read_window(
        self, address: Address, start: int, stop: int | None, version: str | None
    ) -> tuple[ObjectInfo, bytes]:
        """The blob, and its bytes from `start` on: to `stop`, or as many as one window holds."""
        length = WINDOW_SIZE if stop is None else min(stop - start, WINDOW_SIZE)
        opened: list[Any] = []

        def note(response: Any) -> None:
            opened.append(response.http_response.internal_response)
            raise_if_throttled(response)  # in place of whose hook this one is

        try:
            answer = await self._request(
                "download_blob",
                address,
                offset=start,
                length=length,
                decompress=False,
                raw_response_hook=note,
                **_if_match(version),
            )
            data = await answer.readall()
        except OutOfRange as signal:
            # So an empty blob answers to any range.
            info = await self.head(address)
            if info is None:
                raise KeyMissing(str(address)) from signal
            if info.size != start or version not in (None, info.version):
                raise VersionChanged(str(address)) from signal
            return info, b""
        except azure_errors.AzureError as error:
            raise self._translate(error, "download_blob", address) from error
        finally:
            for response in opened:
                response.close()  # of a body that stalled the SDK keeps the connection until garbage is collected
        return _info(address, answer.properties), data

    async def delete(self, address: Address) -> None:
        with suppress(KeyMissing):
            await self._call("delete_blob", address)

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        async for entry in self._list(bucket, root):
            yield _info(Address(bucket, entry.name), entry)

    async def _list(self, bucket: str, root: str, **options: Any) -> AsyncIterator[BlobProperties]:
        address = Address(bucket, root)
        container = self._client.get_container_client(bucket)
        pages = container.walk_blobs(name_starts_with=root, delimiter="/", **options).by_page()
        while True:
            try:
                async with self.requests:
                    page = await anext(pages)
                entries = [entry async for entry in page]
            except StopAsyncIteration:
                return
            except azure_errors.AzureError as error:
                raise self._translate(error, "list_blobs", address) from error
            for entry in entries:
                if isinstance(entry, BlobProperties):  # the others are folders
                    yield entry

    async def tags(self, address: Address) -> Mapping[str, str]:
        if self._blob_tags:
            tags: dict[str, str] = await self._call("get_blob_tags", address)
            return tags
        properties = await self._call("get_blob_properties", address)
        return _tags_in_metadata(properties.metadata)

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        # Blocks need no beginning. The random name keeps them apart from those of another writer on the same blob.
        return Upload(address, secrets.token_hex(8), attributes, is_temporary)

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        block = _block_id(upload, part.number)
        try:
            await self._call(
                "stage_block",
                upload.address,
                block_id=block,
                data=part.pieces,
                length=part.size,
                headers={"Content-MD5": await md5_header(*part.pieces)},
                **_in_slices(*part.pieces),
            )
        except Unreachable:
            self._reached.setdefault(upload.id, False)
            raise
        except asyncio.CancelledError:
            self._cut_off.add(upload.id)
            raise
        self._reached[upload.id] = True
        return Receipt(part.number, block)

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        block = _block_id(upload, number)
        await self._call(
            "stage_block_from_url",
            upload.address,
            block_id=block,
            source_offset=start,
            source_length=stop - start,
            headers=without_none(**{"x-ms-source-if-match": source.version}),
            **await self._copy_source(source),
        )
        return Receipt(number, block)

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        self._reached.pop(upload.id, None)
        self._cut_off.discard(upload.id)
        await self._call(
            "commit_block_list",
            upload.address,
            block_list=[BlobBlock(block_id=receipt.etag) for receipt in receipts],
            **self._headers(upload.attributes),
            **({"match_condition": MatchConditions.IfMissing} if create_only else {}),
            **({} if upload.is_temporary else self._access_tier),
        )

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        if not is_temporary(address.key):
            return  # only a commit discards blocks, and nothing partial is ever made at a content key
        if upload is not None and self._reached.pop(upload.id, None) is False:
            return  # nothing came to the store, nor would this
        with suppress(BucketNotFound):
            for _ in range(ABORT_ATTEMPTS):
                try:
                    _, uncommitted = await self._call("get_block_list", address, block_list_type="uncommitted")
                except KeyMissing:
                    uncommitted = []
                if upload is not None and upload.id in self._cut_off:
                    self._cut_off.discard(upload.id)
                    if not uncommitted:  # yet
                        await asyncio.sleep(LATE_BLOCK)
                        continue
                if not uncommitted:
                    return
                await self._call("commit_block_list", address, block_list=[])
                await self.delete(address)

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        # At temporary keys alone: of blocks at content keys nothing can be aborted, see `abort_upload`.
        folder = f"{root}{TEMPORARY_FOLDER}/"
        committed = {entry.name async for entry in self._list(bucket, folder)}
        async for entry in self._list(bucket, folder, include=["uncommittedblobs"]):
            if entry.name not in committed and is_temporary(entry.name):  # a listing doesn't mark these
                yield Upload(Address(bucket, entry.name), "", ObjectAttributes("", None, {}, {}))

    async def server_time(self, bucket: str) -> datetime | None:
        container = self._client.get_container_client(bucket)
        dates: list[str | None] = []

        def note_date(response: Any) -> None:
            dates.append(response.http_response.headers.get("Date"))

        try:
            await container.get_container_properties(raw_response_hook=note_date)
        except azure_errors.AzureError as error:
            if not dates:
                raise self._translate(error, "get_container_properties", Address(bucket, "")) from error
        return time_of(dates[-1])

    def credential_kind(self) -> str | None:
        return _kind_of_credential(self._client)

    async def put_damaged(self, address: Address) -> bool:
        checksum = await md5_header(b"other")
        await self._call("upload_blob", address, data=(b"bytes",), length=5, headers={"Content-MD5": checksum})
        return True

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        expires_at = datetime.now(UTC) + expires
        # Who may create, but not write, can't replace a blob.
        rights = _READ if content is None else BlobSasPermissions(create=True)
        signature = await self._signature(address, rights, expires_at)
        url = str(self._blob(address).url).partition("?")[0]
        headers = {} if content is None else self._content_headers(content)
        return PresignedURL(method, f"{url}?{signature}", headers, expires_at)

    async def _signature(self, address: Address, rights: BlobSasPermissions, expires_at: datetime) -> str:
        """A shared access signature for one blob, by the account's key, or by a key that Azure gives to who logged in."""
        credential = self._client.credential
        if key := getattr(credential, "account_key", None):
            signed_by: dict[str, Any] = {"account_key": key}
        elif hasattr(credential, "get_token"):
            begin = datetime.now(UTC)
            try:
                async with self.requests:
                    delegated = await self._client.get_user_delegation_key(begin, expires_at)
            except azure_errors.AzureError as error:
                raise self._translate(error, "get_user_delegation_key", address) from error
            signed_by = {"user_delegation_key": delegated}
        else:
            raise CredentialsError(
                f"a URL for {address} can't be signed by a shared access signature or without credentials; give the "
                "account's key, or log in as who has the role Storage Blob Delegator"
            )
        signature: str = generate_blob_sas(
            getattr(credential, "account_name", None) or str(self._client.account_name),
            address.bucket,
            address.key,
            permission=rights,
            expiry=expires_at,
            **signed_by,
        )
        return signature

    def _content_headers(self, content: Digest) -> dict[str, str]:
        """What a PUT of content by a URL must say. No signature of Azure's covers headers: only the rights bind."""
        attributes = attributes_of_content(content, {})
        return {
            "x-ms-blob-type": "BlockBlob",
            "x-ms-version": self._client.api_version,
            "If-None-Match": "*",
            **without_none(
                **{"Content-Type": attributes.content_type, "x-ms-blob-content-encoding": attributes.content_encoding}
            ),
            **{f"x-ms-meta-{_sdk_name(name)}": value for name, value in attributes.metadata.items()},
            **({"x-ms-access-tier": tier.value} if (tier := self._access_tier.get("standard_blob_tier")) else {}),
        }

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        account = f"--account-name {self._client.account_name} --resource-group <group>"
        raise ConfigError(
            "lifecycle rules belong to the account, and are set by Azure's management API, not by that for blobs. Save "
            "what `lakery-cloud lifecycle` prints as policy.json, with the rules that "
            f"`az storage account management-policy show {account}` prints, since all are replaced, and run: "
            f"az storage account management-policy create {account} --policy @policy.json"
        )

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        # Content type and encoding come along with the source. The asynchronous copy would show a blob that is not whole.
        headers = self._headers(attributes)
        del headers["content_settings"]
        try:
            answer = await self._call(
                "start_copy_from_url",
                address,
                requires_sync=True,
                match_condition=MatchConditions.IfMissing,
                source_match_condition=MatchConditions.IfNotModified,
                source_etag=source.version,
                **await self._copy_source(source),
                **headers,
                **self._access_tier,
            )
        except ConditionNotMet as signal:
            is_source = await self.head(address) is None
            raise (VersionChanged if is_source else KeyExists)(str(signal)) from signal
        if answer["copy_status"] != "success":
            await self._undo_copy(address, answer)
        return None

    async def _undo_copy(self, address: Address, answer: Mapping[str, Any]) -> None:
        """Remove a copy that was not made at once, although that was asked for."""
        if answer["copy_status"] == "pending":
            with suppress(KeyMissing, LakeryCloudError):  # it may have ended in the meantime
                await self._call("abort_copy", address, copy_id=answer["copy_id"])
        await self.delete(address)
        raise StorageUnavailable(
            f"the copy to {address} ended as {answer['copy_status']!r}; nothing was stored, try again"
        )

    async def _copy_source(self, source: ObjectInfo) -> dict[str, str]:
        """Where a copy reads, with the leave to do so: the service reads its source like any other client."""
        url = str(self._blob(source.address).url)  # with a shared access signature, if that is the credential
        credential: Any = self._client.credential
        if hasattr(credential, "account_key"):
            granted = await self._signature(source.address, _READ, datetime.now(UTC) + SOURCE_GRANT)
            return {"source_url": f"{url}?{granted}"}
        if hasattr(credential, "get_token"):
            token = await credential.get_token(TOKEN_SCOPE)
            return {"source_url": url, "source_authorization": f"Bearer {token.token}"}
        if signature := getattr(credential, "signature", None):
            return {"source_url": f"{url}?{signature.removeprefix('?')}"}
        return {"source_url": url}

    def _headers(self, attributes: ObjectAttributes) -> dict[str, Any]:
        tags, metadata = dict(attributes.tags), {_sdk_name(k): v for k, v in attributes.metadata.items()}
        if tags and not self._blob_tags:
            metadata[METADATA_TAGS] = json.dumps(tags, separators=(",", ":"))
        return {
            "content_settings": ContentSettings(
                content_type=attributes.content_type, content_encoding=attributes.content_encoding
            ),
            "metadata": metadata,
            **({"tags": tags} if tags and self._blob_tags else {}),
        }

    def _blob(self, address: Address) -> "BlobClient":
        return self._client.get_blob_client(address.bucket, address.key)

    async def _call(self, operation: str, address: Address, **parameters: Any) -> Any:
        async with self.requests:
            return await self._request(operation, address, **parameters)

    async def _request(self, operation: str, address: Address, **parameters: Any) -> Any:
        """One operation of the SDK, its errors translated."""

        async def ask() -> Any:
            body = without_none(data=b"".join(parameters["data"]) if "data" in parameters else None)
            return await getattr(self._blob(address), operation)(**{**parameters, **body})

        try:
            if self._lane is None or operation not in HOT or operation == "download_blob":
                return await ask()
            # The SDK adds to the headers that it is given.
            wanted = {**parameters, "blob": address.key, "headers": dict(parameters.get("headers", {}))}
            return await self._lane.call(operation, address.bucket, wanted, ask=ask)
        except azure_errors.AzureError as error:
            raise self._translate(error, operation, address) from error

    def _translate(self, error: azure_errors.AzureError, operation: str, address: Address) -> Exception:
        """The engine's word for an error."""
        return translate(error, operation, address, endpoint=self._endpoint)


def _kind_of_credential(client: BlobServiceClient) -> str | None:
    credential = client.credential
    if hasattr(credential, "account_key"):
        return "account key"
    if "sig=" in client.url or hasattr(credential, "signature"):
        return "shared access signature"
    return None if credential is None else type(credential).__name__


async def _windows(
    transport: AzureTransport, info: ObjectInfo, start: int, stop: int | None, first: bytes
) -> AsyncGenerator[bytes]:
    """The bytes of a read, all of one version: window after window, until the rest is on its way in one answer."""
    body: bytes | Answer = first
    position = start
    stop = info.size if stop is None else min(stop, info.size)
    while not isinstance(body, Answer):
        if not body:
            return
        position += len(body)
        yield body
        if position >= stop:
            return
        _, place, body = await transport.open_body(info.address, position, stop, info.version)
    try:
        if place != position:
            raise BodyInterrupted(f"the range from byte {position} on began at byte {place}")
        async for chunk in Arriving(body.read, interruptions=_INTERRUPTIONS):
            yield chunk
    finally:
        body.close()


_READ = BlobSasPermissions(read=True)


_INTERRUPTIONS = (HTTPError, UnsupportedResponse)


def _sdk_name(name: str) -> str:
    return name.replace("-", "_")


def _tags_in_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    try:
        tags = json.loads(metadata.get(METADATA_TAGS, "{}"))
    except ValueError:
        return {}  # not ours
    return tags if isinstance(tags, dict) else {}


def _in_slices(*pieces: bytes) -> dict[str, Any]:
    """Leave for the event loop to do other things while a large body is sent: TLS copies what it gets in one piece."""

    def replace_body(request: Any) -> None:
        request.http_request.data = Slices(*pieces)

    return {"raw_request_hook": replace_body} if sum(map(len, pieces)) > SLICE_SIZE else {}


def _block_id(upload: Upload, number: int) -> str:
    return f"{upload.id}{number:06d}"  # all ids of one blob must have the same length


def _if_match(version: str | None) -> dict[str, Any]:
    return {} if version is None else {"etag": version, "match_condition": MatchConditions.IfNotModified}


def _info(address: Address, properties: BlobProperties) -> ObjectInfo:
    _, size = read_content_range(properties.content_range, size=properties.size)
    return ObjectInfo(
        address,
        size,
        '"' + properties.etag.strip('"') + '"',  # listings leave the quotes out
        None,
        properties.content_settings.content_type,
        properties.content_settings.content_encoding,
        properties.last_modified,
        {_NAMES.get(k.lower(), k): v for k, v in (properties.metadata or {}).items() if k != METADATA_TAGS},
    )
