"""`AzureBlobStorage`: Azure Blob Storage, on adlfs. The algorithm is the engine's."""

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NotRequired, TypedDict, Unpack

from lakery_cloud.engine.attributes import (
    METADATA_ALGORITHM,
    METADATA_HASH,
    METADATA_SIZE,
    ObjectAttributes,
    attributes_of_content,
)
from lakery_cloud.engine.bodies import SLICE_SIZE, Arriving, Slices
from lakery_cloud.engine.checksums import md5_header
from lakery_cloud.engine.cloud_storage import CloudStorage, Redacted
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
    Limits,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Unreachable,
    Upload,
    VersionChanged,
    without_none,
)
from lakery_cloud.engine.retries import backoff
from lakery_cloud.engine.settings import CloudOptions, read_flag
from lakery_cloud.engine.transport import ABORT_ATTEMPTS, Transport
from lakery_cloud.errors import (
    BucketNotFound,
    ConfigError,
    CredentialsError,
    LakeryCloudError,
    MissingDependency,
    StorageUnavailable,
)
from lakery_cloud.http.connection import HTTPError, UnsupportedResponse
from lakery_cloud.http.headers import read_content_range, time_of
from lakery_cloud.http.pool import Sockets
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part

try:
    from adlfs import AzureBlobFileSystem
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
    from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry

    from lakery_cloud.http.pool import Answer
    from lakery_cloud.providers.azure.errors import (
        SET_CREDENTIALS,
        ConditionNotMet,
        OutOfRange,
        translate,
    )
    from lakery_cloud.providers.azure.requests import (
        HOT,
        TOKEN_SCOPE,
        AzureLane,
        LaneTransport,
    )
except ImportError as error:
    raise MissingDependency('AzureBlobStorage needs adlfs: pip install "lakery-cloud[azure]"') from error

if TYPE_CHECKING:
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob.aio import BlobClient

MiB = 1024**2
GiB = 1024**3

# Microsoft Learn, "Scalability and performance targets for Blob Storage", "Put Blob", "Copy Blob From URL" and "Put Block
# From URL" (whose older versions take blocks of 100 MiB).
AZURE_LIMITS = Limits(
    max_put_size=5000 * MiB,
    min_part_size=1,
    max_part_size=4000 * MiB,
    max_parts=50_000,
    max_object_size=50_000 * 4000 * MiB,
    max_copy_size=256 * MiB,
    copy_part_size=100 * MiB,
)

MAX_SEGMENTS = 254
"""Microsoft Learn, "Naming and referencing containers, blobs, and metadata"."""
SDK_SINGLE_PUT_SIZE = 64 * MiB
"""azure-storage-blob's default: a client that was not opened here sends larger blobs in blocks."""

MAX_URL_LIFETIME = timedelta(days=7)
"""Microsoft Learn, "Get User Delegation Key". The account's key could sign for longer, which nobody could take back."""
WINDOW_SIZE = 4 * MiB
"""Most bytes of one ranged read: the SDK holds the whole answer."""
LATE_BLOCK = 0.2
"""Seconds after which a block is there whose request was cut off when the service had all of it."""
SOURCE_GRANT = timedelta(hours=1)
"""How long the source of a copy may be read with the signature made for it."""
METADATA_TAGS = "content_tags"
"""Where tags are kept as JSON if not as index tags. The name is permanent."""

# Metadata names are C# identifiers here.
_NAMES = {name.replace("-", "_"): name for name in (METADATA_HASH, METADATA_ALGORITHM, METADATA_SIZE)}


class AzureStorageData(TypedDict):
    """Storage data of `AzureBlobStorage`. What labox wrote has neither hash nor size."""

    container: str
    blob: str
    hash: NotRequired[str]
    size: NotRequired[int]


class AzureBlobStorage(CloudStorage[AzureStorageData]):
    """Content-addressed blobs in a container of Azure Blob Storage.

    Credentials come from where adlfs finds them (`AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_ACCOUNT_NAME` with
    `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN` or a service principal, else `DefaultAzureCredential`), or are
    given here; what is given goes before the environment. None of them is ever in a repr, an error or a pickle.

    A stream's blocks are staged on a temporary blob and never show before they are committed. Should a process die, Azure
    discards uncommitted blocks a week after the last of them; so it does with those of an interrupted copy in parts, since
    nothing but the whole content is ever made at a content key.

    Args:
        container: Name of the container. It must exist.
        prefix: What stands before each key.
        fs: An `adlfs.AzureBlobFileSystem` to use as it is, with its own retries and time-outs. Its client belongs to one
            event loop, and is not closed here.
        account_name: Name of the storage account.
        account_key: Key of the account.
        connection_string: Account, key and endpoint in one.
        sas_token: A shared access signature with the rights read, create, write, delete, list and tags.
        credential: An asynchronous token credential, such as those of `azure.identity.aio`. It is not closed here.
        endpoint_url: Where the blob service is, for clouds other than the public one, and for emulators.
        access_tier: Access tier of the content: `Hot`, `Cool` or `Cold`. By default the account decides. Temporary blobs
            are always in the account's own.
        blob_tags: Whether tags become blob index tags. Accounts with a hierarchical namespace refuse these: set it to
            false there, and tags are kept in the metadata.
        options: See `CloudStorage` and `EngineSettings`.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    name = "lakery_cloud.azure@v1"
    aliases = ("labox.azure.blob@v1",)
    default_limits = AZURE_LIMITS
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "az"
    place_names = ("container", "blob")
    url_options: ClassVar = {
        **CloudStorage.cloud_url_options,
        "account_name": str,
        "access_tier": str,
        "blob_tags": read_flag,
    }
    pickles_with = "account_name and endpoint_url"

    def __init__(
        self,
        container: str,
        *,
        prefix: str = "",
        fs: "AzureBlobFileSystem | None" = None,
        account_name: str | None = None,
        account_key: str | None = None,
        connection_string: str | None = None,
        sas_token: str | None = None,
        credential: "AsyncTokenCredential | AzureNamedKeyCredential | AzureSasCredential | None" = None,
        endpoint_url: str | None = None,
        access_tier: Literal["Hot", "Cool", "Cold"] | None = None,
        blob_tags: bool = True,
        **options: Unpack[CloudOptions],
    ) -> None:
        super().__init__(container, prefix=prefix, endpoint_url=endpoint_url, **options)
        _check_segments(self.keys.prefix)
        keys = without_none(account_key=account_key, sas_token=sas_token, credential=credential)
        if fs is not None and (account_name or connection_string or keys or endpoint_url):
            raise ConfigError("an fs has its own account, credentials and endpoint; leave these out")
        if connection_string is not None and (account_name or keys or endpoint_url):
            raise ConfigError("a connection_string has its own account, credentials and endpoint; leave these out")
        if len(keys) > 1:
            raise ConfigError(f"{' and '.join(keys)} exclude each other; give one of them")
        if access_tier not in (None, "Hot", "Cool", "Cold"):
            raise ConfigError(f"access_tier must be 'Hot', 'Cool' or 'Cold', not {access_tier!r}")
        if fs is not None:
            largest = min(self.settings.limits.max_put_size, SDK_SINGLE_PUT_SIZE)
            self.settings = replace(self.settings, limits=replace(self.settings.limits, max_put_size=largest))
        self._own_fs = fs
        self._account_name = account_name
        self._secrets = Redacted({**keys, **without_none(connection_string=connection_string)})
        self._access_tier = access_tier
        self._blob_tags = blob_tags

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """What `az storage account management-policy create --policy` takes: temporary blobs are deleted.

        Uncommitted blocks are left out: Azure discards them by itself, a week after the last of them (Microsoft Learn,
        "Put Block").

        Args:
            days: How many after their last change.
        """
        root = f"{self.keys.bucket}/{self.keys.temporary_root}"
        return {
            "rules": [
                {
                    "enabled": True,
                    # One for each container and prefix of the account; names have letters, digits and dashes.
                    "name": f"lakery-cloud-temporary-blobs-{hashlib.sha256(root.encode()).hexdigest()[:32]}",
                    "type": "Lifecycle",
                    "definition": {
                        "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}},
                        "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [root]},
                    },
                }
            ]
        }

    def _has_secrets(self) -> bool:
        return self._own_fs is not None or bool(self._secrets.value)

    def _credential_source(self) -> str:
        for variable in _CREDENTIAL_VARIABLES:
            if os.environ.get(variable):
                return f"{variable} in the environment"
        return "DefaultAzureCredential: its environment variables, managed identity, or a login of az"

    def _shown(self) -> dict[str, Any]:
        return {**without_none(account_name=self._account_name), **super()._shown()}

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        if self._own_fs is not None:
            yield AzureTransport(self._own_fs.service_client, self)
            return
        sockets = self._sockets()
        fs = self._file_system(sockets)
        lane = self._lane(fs.service_client, sockets)
        try:
            yield AzureTransport(fs.service_client, self, lane)
        finally:
            if lane is not None:
                lane.close()
            await fs.service_client.close()
            if fs.sync_credential is not None:  # adlfs made both of them
                await fs.credential.close()
                fs.sync_credential.close()
            # adlfs keeps every instance until the process ends, to close its client then.
            fs.service_client = _Closed()

    def _lane(self, client: BlobServiceClient, sockets: Sockets) -> AzureLane | None:
        if not self.fast_lane:
            return None
        return AzureLane(
            credential=client.credential,
            sockets=sockets,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
        )

    def _file_system(self, sockets: Sockets) -> AzureBlobFileSystem:
        """adlfs finds account and credentials; its client is made anew, since adlfs passes it no settings."""
        secrets_given = self._secrets.value
        if not (self._account_name or secrets_given or any(map(os.environ.get, _ACCOUNT_VARIABLES))):
            raise CredentialsError(f"no storage account for {self!r}. {SET_CREDENTIALS}")
        given = {**without_none(account_name=self._account_name), **secrets_given}
        try:
            fs = AzureBlobFileSystem(**given, skip_instance_cache=True)
            if secrets_given and "connection_string" not in secrets_given:
                # If the environment has these, adlfs takes them first.
                fs.connection_string = None
                fs.account_key = secrets_given.get("account_key")
                fs.do_connect()
            found = fs.service_client
            url, mark, signature = found.url.partition("?")
            fs.service_client = BlobServiceClient(
                f"{self.endpoint_url or url}{mark}{signature}",
                credential=found.credential,
                **self._client_config(sockets),
            )
        except ValueError:
            fs = None
        if fs is None:  # not within the handler: the library's error may hold what was given
            raise CredentialsError(f"the credentials for {self!r} can't be used. {SET_CREDENTIALS}")
        if self._account_name not in (None, found.account_name):
            raise ConfigError(
                f"account_name is {self._account_name!r}, but AZURE_STORAGE_CONNECTION_STRING is of the account "
                f"{found.account_name!r}; leave one of them out"
            )
        return fs

    def _client_config(self, sockets: Sockets) -> dict[str, Any]:
        retries = self.max_attempts - 1
        return {
            "retry_policy": _Retries(
                retry_total=retries, retry_connect=retries, retry_read=retries, retry_status=retries
            ),
            "transport": LaneTransport(
                self.settings.connections,
                sockets=sockets,
                connection_timeout=self.connect_timeout,
                read_timeout=self.read_timeout,
            ),
            "raw_response_hook": _raise_if_throttled,
            # Whatever fits into one put is one: blocks at a content key would outlive a cancellation.
            "max_single_put_size": AZURE_LIMITS.max_put_size,
        }


_ACCOUNT_VARIABLES = ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME")
# In the order in which adlfs takes them.
_CREDENTIAL_VARIABLES = (
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
)


def _check_segments(prefix: str) -> None:
    """Refuse what a blob name can't hold, beyond what no key can."""
    segments = prefix.split("/")
    if any(segment.endswith(".") for segment in segments):
        raise ConfigError(f"the prefix {prefix!r} has a segment that ends with a dot, which Azure does not keep")
    if len(segments) > MAX_SEGMENTS - 2:  # a temporary key has two more
        raise ConfigError(f"the prefix has {len(segments)} segments; Azure takes at most {MAX_SEGMENTS} in a blob name")


class _Closed:
    """What is left of a client that was closed."""

    async def close(self) -> None:
        pass


class _Retries(ExponentialRetry):
    """Short pauses at first, of random length: the SDK's own begin at 15 seconds."""

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        return backoff(settings["count"] + 1)


def _raise_if_throttled(response: Any) -> None:
    """Have 429 tried again: of answers the SDK tries again after 408 and 5xx alone, but after any error of its own."""
    if response.http_response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise azure_errors.ServiceRequestError("Azure answered 429: too many requests")


class AzureTransport(Transport):
    """The requests of Azure's Blob service. Each docstring of the base class says what a method promises."""

    def __init__(self, client: BlobServiceClient, storage: AzureBlobStorage, lane: AzureLane | None = None) -> None:
        super().__init__(
            max_concurrent_requests=storage.settings.max_concurrent_requests,
            max_concurrent_reads=storage.settings.max_concurrent_reads,
        )
        self._client = client
        self._lane = lane
        self._reached: dict[str, bool] = {}  # upload id -> whether a block of it was staged, once it was tried
        self._cut_off: set[str] = set()  # ids of uploads of which a block was on its way when it was cancelled
        self._endpoint = client.url.partition("?")[0]
        self._credentials_in_use = _credentials_in_use(client, storage)
        self._blob_tags = storage._blob_tags
        self._access_tier = without_none(
            standard_blob_tier=StandardBlobTier(storage._access_tier) if storage._access_tier else None
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
            _raise_if_throttled(response)  # in place of whose hook this one is

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

    def credentials_in_use(self) -> str | None:
        return self._credentials_in_use

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


def _credentials_in_use(client: BlobServiceClient, storage: AzureBlobStorage) -> str | None:
    """Where the credentials are from; what is given to a storage goes before the environment."""
    kind = _kind_of_credential(client)
    if storage._own_fs is not None:
        return kind and f"{kind}, of an fs of your own"
    if storage._secrets.value:
        return kind and f"{kind}, given as {' and '.join(storage._secrets.value)}"
    variable = next((name for name in _CREDENTIAL_VARIABLES if os.environ.get(name)), None)
    return kind and (f"{kind}, of {variable}" if variable else f"{kind}, which looks around by itself")


def _kind_of_credential(client: BlobServiceClient) -> str | None:
    credential = client.credential
    if hasattr(credential, "account_key"):
        return "the account's key"
    if "sig=" in client.url or hasattr(credential, "signature"):
        return "a shared access signature"
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
