"""`GCSStorage`: Google Cloud Storage, on gcsfs. The algorithm is the engine's."""

import asyncio
import json
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NotRequired, TypedDict, Unpack
from urllib.parse import urlsplit

from lakery_cloud.engine.attributes import ObjectAttributes, attributes_of_content
from lakery_cloud.engine.bodies import Arriving
from lakery_cloud.engine.checksums import crc32c_header, header_to_hex
from lakery_cloud.engine.cloud_storage import CloudStorage, Redacted
from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.keys import Address, KeySpace
from lakery_cloud.engine.lifecycle import LIFECYCLE_ATTEMPTS, check_only_temporary, not_kept
from lakery_cloud.engine.model import (
    Body,
    KeyExists,
    KeyMissing,
    Limits,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Upload,
    UploadGone,
    VersionChanged,
    without_none,
)
from lakery_cloud.engine.retries import backoff
from lakery_cloud.engine.settings import CloudOptions, read_flag
from lakery_cloud.engine.transport import Transport, missing
from lakery_cloud.errors import (
    AccessDenied,
    ConfigError,
    CredentialsError,
    InvalidRecord,
    MissingDependency,
    StorageUnavailable,
    brief,
)
from lakery_cloud.http.headers import byte_range, read_content_range, time_of
from lakery_cloud.http.pool import Sockets
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part

try:
    import aiohttp
    from gcsfs.core import GCSFileSystem
    from google.auth import exceptions as auth_errors

    from lakery_cloud.http.pool import ConnectionPool, Origin
    from lakery_cloud.providers.gcs.requests import (
        INTERRUPTIONS,
        JSONAPI,
        LOG_IN,
        TAG_PREFIX,
        PaidAddress,
        payer_of,
        quoted,
        resource_of,
        tags_of,
    )
    from lakery_cloud.providers.gcs.uploads import MAX_COMPONENTS, CompositeUpload, ResumableUpload
except ImportError as error:
    raise MissingDependency('GCSStorage needs gcsfs: pip install "lakery-cloud[gcs]"') from error

KiB = 1024
MiB = 1024**2
TiB = 1024**4

CHUNK_MULTIPLE = 256 * KiB
"""Cloud Storage, "Resumable uploads": chunks are multiples of 256 KiB unless they are the last."""

# Cloud Storage, "Quotas & limits": 5 TiB for an object and for an upload. The number of chunks has no limit of its own.
GCS_LIMITS = Limits(
    max_put_size=5 * TiB,
    min_part_size=CHUNK_MULTIPLE,
    max_part_size=5 * TiB,
    max_parts=5 * TiB // CHUNK_MULTIPLE,
    max_object_size=5 * TiB,
    max_copy_size=None,
    copy_part_size=64 * MiB,
    ordered_parts=True,
    part_multiple=CHUNK_MULTIPLE,
)

# Cloud Resource Manager, "Projects": an id, which may stand behind a domain, or a number.
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")

MAX_URL_LIFETIME = timedelta(days=7)
"""Cloud Storage, "Signed URLs"."""
TOKEN_METHODS = frozenset({"google_default", "cache", "cloud", "anon"})
"""Values of `token` that name a place to look for credentials."""


class GCSStorageData(TypedDict):
    """Storage data of `GCSStorage`. What labox wrote has neither hash nor size."""

    bucket: str
    blob: str
    hash: NotRequired[str]
    size: NotRequired[int]
    user_project: NotRequired[str | None]


class GCSStorage(CloudStorage[GCSStorageData]):
    """Content-addressed objects in a bucket of Google Cloud Storage.

    Credentials come from where gcsfs finds them (application default credentials, gcsfs' cache, the metadata server), or
    from a `token` or `fs` of your own; they are never part of a URL.

    Args:
        bucket: Name of the bucket. It must exist.
        prefix: What stands before each key.
        fs: A `GCSFileSystem`, made with `asynchronous=True`, to use as it is, with its own credentials, time-outs and
            connections. It belongs to one event loop, and is not closed here.
        project: Project of the credentials.
        token: As in gcsfs: the name of a method (`google_default`, `cache`, `cloud`, `anon`), the path of a file with
            credentials, or credentials themselves. By default gcsfs looks for them, which `NO_GCE_CHECK=true` makes quicker
            outside of Google Cloud; over plain HTTP none are sent.
        endpoint_url: Where the API is, if not at Google. Without it `STORAGE_EMULATOR_HOST` counts, as in gcsfs.
        user_project: Project that pays for requests to a bucket whose requester pays.
        kms_key_name: Key of the encryption by KMS. By default the bucket decides.
        storage_class: Storage class of the content, such as `NEARLINE`. Temporary objects are always `STANDARD`.
        composite_uploads: Whether the parts of a stream travel side by side, as temporary objects that the store composes.
            Faster where a connection is slower than the network; each part costs the price of a write, and soft delete
            keeps parts as it keeps any deleted object.
        options: See `CloudStorage` and `EngineSettings`. `part_size` must be a multiple of 256 KiB.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    name = "lakery_cloud.gcs@v1"
    aliases = ("labox.google.blob@v1",)
    default_limits = GCS_LIMITS
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "gs"
    place_names = ("bucket", "blob")
    url_options: ClassVar = {
        **CloudStorage.cloud_url_options,
        "project": str,
        "user_project": str,
        "kms_key_name": str,
        "storage_class": str,
        "composite_uploads": read_flag,
    }
    pickles_with = "the name of a method or the path of a file as token"

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        fs: GCSFileSystem | None = None,
        project: str | None = None,
        token: Any = None,
        endpoint_url: str | None = None,
        user_project: str | None = None,
        kms_key_name: str | None = None,
        storage_class: str | None = None,
        composite_uploads: bool = False,
        **options: Unpack[CloudOptions],
    ) -> None:
        super().__init__(bucket, prefix=prefix, endpoint_url=endpoint_url, **options)
        if fs is not None and (project or token is not None or endpoint_url or user_project):
            raise ConfigError("an fs has its own project, token, endpoint_url and user_project; leave these out")
        if fs is not None and not fs.asynchronous:
            raise ConfigError("an fs must be made with asynchronous=True, or it runs on an event loop of its own")
        self._own_fs = fs
        self._project = project
        self._token = Redacted(token)
        self._user_project = user_project
        self._kms_key_name = kms_key_name
        self._storage_class = storage_class
        self._composite_uploads = composite_uploads
        if composite_uploads:
            limits = self.settings.limits
            limits = replace(limits, ordered_parts=False, max_parts=min(limits.max_parts, MAX_COMPONENTS))
            self.settings = replace(self.settings, limits=limits)

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """What `gcloud storage buckets update --lifecycle-file` takes: temporary objects, parts included, are deleted.

        Unfinished uploads are left out: AbortIncompleteMultipartUpload is about those of the XML API, and ours, which are
        resumable ones, end after a week by themselves.

        Args:
            days: How many after they were made.
        """
        condition = {"age": days, "matchesPrefix": [self.keys.temporary_root]}
        return {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}

    def _has_secrets(self) -> bool:
        return self._own_fs is not None or not _is_no_secret(self._token.value)

    @classmethod
    def credentials_from(cls, secrets: Mapping[str, str]) -> dict[str, Any]:
        """`token`, `credentials_file` (the path of a file) or `credentials_json` (what stands in one) as `token`."""
        if len(secrets) > 1:
            raise ConfigError(f"{' and '.join(secrets)} exclude each other; give one of them")
        token: Any = next(iter(secrets.values()), None)
        if "credentials_file" in secrets and not os.path.isfile(token):
            raise ConfigError(f"credentials_file is {token!r}, and there is no such file")
        if "credentials_json" in secrets:
            token = _read_credentials(token)
        return without_none(token=token)

    def _credential_source(self) -> str:
        if self._token.value in TOKEN_METHODS:
            return f"{self._token.value!r} of gcsfs"
        if self._token.value is not None:
            return f"file {self._token.value}"
        if self._is_plain():
            return "none: over plain HTTP none are sent"
        if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return "GOOGLE_APPLICATION_CREDENTIALS in the environment"
        # Google Cloud, "How Application Default Credentials works".
        folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
        path = os.path.join(folder, "application_default_credentials.json")
        if os.path.isfile(path):
            return f"application default credentials in {path}"
        return "gcsfs' cache or the metadata server, else none"

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        if self._own_fs is not None:
            await self._own_fs._set_session()
            yield GCSTransport(self._own_fs, self)
            return
        # In a thread, since it looks for credentials in files and on the network.
        fs = await asyncio.to_thread(self._file_system)
        sockets = self._sockets()
        if not getattr(fs, "_use_client_cert", False):  # else gcsfs makes a connector with the certificate
            fs.session_kwargs["connector"] = aiohttp.TCPConnector(
                limit=self.settings.connections, socket_factory=sockets.make
            )
        await fs._set_session()
        lane = await self._open_lane(fs, sockets)
        try:
            yield GCSTransport(fs, self, lane)
        finally:
            if lane is not None:
                lane.close()
            await fs._session.close()
            fs._session = None

    async def _open_lane(self, fs: GCSFileSystem, sockets: Sockets) -> ConnectionPool | None:
        if not self.fast_lane or getattr(fs, "_use_client_cert", False):
            return None
        url = urlsplit(fs._location)
        is_tls = url.scheme == "https"
        if not url.hostname or url.path or "@" in url.netloc:
            return None
        return ConnectionPool(
            Origin(url.hostname, url.port or (443 if is_tls else 80), is_tls),
            tls=await asyncio.to_thread(ssl.create_default_context) if is_tls else None,
            sockets=sockets,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
        )

    def _file_system(self) -> GCSFileSystem:
        token = self._token.value
        try:
            return GCSFileSystem(
                token="anon" if token is None and self._is_plain() else token,
                endpoint_url=self.endpoint_url,
                requester_pays=self._user_project or False,
                requests_timeout=self._timeout(),
                asynchronous=True,
                skip_instance_cache=True,
                **without_none(project=self._project),
            )
        except auth_errors.DefaultCredentialsError as error:
            raise CredentialsError(
                f"no credentials for {self.keys.bucket!r}: {redact_error(error)}. {LOG_IN}"
            ) from error
        except Exception as error:  # noqa: BLE001, gcsfs lets out whatever it meets
            kind = type(error).__name__
        # Not within the handler: the text of the error, or of its cause, may hold the token.
        raise CredentialsError(
            f"the credentials for bucket {self.keys.bucket!r} could not be loaded ({kind}). Check token and project, or: "
            f"{LOG_IN}"
        )

    def _is_plain(self) -> bool:
        endpoint = self.endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
        return endpoint not in ("", "default") and not endpoint.startswith("https://")

    def _timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self.connect_timeout, sock_read=self.read_timeout)

    def _storage_data(self, address: Address, content_hash: str, size: int) -> GCSStorageData:
        data = super()._storage_data(address, content_hash, size)
        user_project = self._user_project or payer_of(address)
        return {**data, "user_project": user_project} if user_project else data

    def _address(self, storage_data: GCSStorageData) -> Address:
        address = PaidAddress(*super()._address(storage_data))
        user_project = storage_data.get("user_project")
        if user_project is not None and not (isinstance(user_project, str) and _PROJECT.fullmatch(user_project)):
            raise InvalidRecord(f"the user_project in storage data must be the name of one, not {brief(user_project)}")
        address.user_project = user_project
        return address


def _is_no_secret(token: Any) -> bool:
    """Whether a token says where credentials are, and is none itself."""
    return token is None or (isinstance(token, str) and (token in TOKEN_METHODS or os.path.exists(token)))


def _read_credentials(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), dict):
            return found
    raise ConfigError("credentials_json is no JSON object; it must be what stands in a file with credentials")


class GCSTransport(Transport):
    """The requests of Cloud Storage's JSON API. Each docstring of the base class says what a method promises."""

    def __init__(self, fs: GCSFileSystem, storage: GCSStorage, lane: ConnectionPool | None = None) -> None:
        settings = storage.settings
        super().__init__(**settings.share(fs.session.connector.limit or settings.connections))
        self._api = JSONAPI(
            fs,
            timeout=fs.requests_timeout or storage._timeout(),
            max_attempts=storage.max_attempts,
            requests=self.requests,
            lane=lane,
        )
        self._kms_key_name = storage._kms_key_name
        self._storage_class = without_none(storageClass=storage._storage_class)
        self._composite_uploads = storage._composite_uploads
        self._user_project = storage._user_project
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

    def credentials_in_use(self) -> str | None:
        return self._api.credentials_in_use()

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


def _rules(bucket: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The lifecycle rules in what is said about a bucket."""
    rules: Sequence[Mapping[str, Any]] = bucket.get("lifecycle", {}).get("rule", ())
    return rules


def _is_for_same(rule: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a rule differs from ours in its age at most. Rules have no names here."""
    condition = rule.get("condition", {})
    return "age" in condition and {**rule, "condition": {**condition, "age": ours["condition"]["age"]}} == ours


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
