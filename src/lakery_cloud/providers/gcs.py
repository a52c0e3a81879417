"""`GCSStorage`: Google Cloud Storage, on gcsfs. The algorithm is the engine's."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NotRequired, TypedDict, Unpack
from urllib.parse import quote, unquote

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.bodies import SLICE_SIZE, Slices, arriving, byte_range, read_content_range
from lakery_cloud.engine.checksums import as_header, crc32c, crc32c_header, header_to_hex
from lakery_cloud.engine.cloud_storage import CloudOptions, CloudStorage
from lakery_cloud.engine.failures import Failure
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.parts import Part
from lakery_cloud.engine.retries import pause_after
from lakery_cloud.engine.transport import (
    Body,
    KeyExists,
    KeyMissing,
    Limits,
    ObjectInfo,
    Receipt,
    Signal,
    Transport,
    Upload,
    UploadGone,
    VersionChanged,
    WriteConflict,
    present,
)
from lakery_cloud.errors import (
    AccessDenied,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidRecord,
    MissingDependency,
    StorageUnavailable,
)

try:
    import aiohttp
    from gcsfs.core import GCSFileSystem
    from gcsfs.retry import HttpError
    from google.auth import exceptions as auth_errors
    from yarl import URL
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

TAG_PREFIX = "tag-"
"""Permanent: what the names of tags start with in an object's metadata; none of our own names does."""
REFRESH_AHEAD = timedelta(minutes=5, seconds=10)
"""gcsfs itself renews a token 5 minutes before its end, on the event loop: we do it earlier, in a thread."""
MAX_MESSAGE = 500
"""Most characters of what a server says that an error repeats."""
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
        options: See `CloudStorage` and `EngineSettings`. `part_size` must be a multiple of 256 KiB.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    name = "lakery_cloud.gcs@v1"
    aliases = ("labox.google.blob@v1",)
    default_limits = GCS_LIMITS
    url_scheme = "gs"
    place_names = ("bucket", "blob")
    url_options: ClassVar = {
        **CloudStorage.cloud_url_options,
        "project": str,
        "user_project": str,
        "kms_key_name": str,
        "storage_class": str,
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
        **options: Unpack[CloudOptions],
    ) -> None:
        super().__init__(bucket, prefix=prefix, endpoint_url=endpoint_url, **options)
        if fs is not None and (project or token is not None or endpoint_url or user_project):
            raise ConfigError("an fs has its own project, token, endpoint_url and user_project; leave these out")
        if fs is not None and not fs.asynchronous:
            raise ConfigError("an fs must be made with asynchronous=True, or it runs on an event loop of its own")
        self._own_fs = fs
        self._project = project
        self._token = token
        self._user_project = user_project
        self._kms_key_name = kms_key_name
        self._storage_class = storage_class

    def _has_secrets(self) -> bool:
        return self._own_fs is not None or not _is_no_secret(self._token)

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        if self._own_fs is not None:
            await self._own_fs._set_session()
            yield GCSTransport(self._own_fs, self)
            return
        # In a thread, since it looks for credentials in files and on the network.
        fs = await asyncio.to_thread(self._new_fs)
        if not getattr(fs, "_use_client_cert", False):  # else gcsfs makes a connector with the certificate
            fs.session_kwargs["connector"] = aiohttp.TCPConnector(limit=self.settings.connections)
        await fs._set_session()
        try:
            yield GCSTransport(fs, self)
        finally:
            await fs._session.close()
            fs._session = None

    def _new_fs(self) -> GCSFileSystem:
        endpoint = self.endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
        is_plain = endpoint not in ("", "default") and not endpoint.startswith("https://")
        try:
            return GCSFileSystem(
                token="anon" if self._token is None and is_plain else self._token,
                endpoint_url=self.endpoint_url,
                requester_pays=self._user_project or False,
                requests_timeout=self._timeout(),
                asynchronous=True,
                skip_instance_cache=True,
                **present(project=self._project),
            )
        except auth_errors.DefaultCredentialsError as error:
            raise CredentialsError(f"no credentials for {self.keys.bucket!r}: {error}. {_LOG_IN}") from error
        except Exception as error:  # noqa: BLE001, gcsfs lets out whatever it meets
            # Its text, or that of its cause, may hold the token.
            raise CredentialsError(
                f"the credentials for bucket {self.keys.bucket!r} could not be loaded ({type(error).__name__}). Check "
                f"token and project, or: {_LOG_IN}"
            ) from None

    def _timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self.connect_timeout, sock_read=self.read_timeout)

    def _storage_data(self, address: Address, content_hash: str, size: int) -> GCSStorageData:
        data = super()._storage_data(address, content_hash, size)
        user_project = self._user_project or _payer(address)
        return {**data, "user_project": user_project} if user_project else data

    def _address(self, storage_data: GCSStorageData) -> Address:
        address = PaidAddress(*super()._address(storage_data))
        user_project = storage_data.get("user_project")
        if user_project is not None and not isinstance(user_project, str):
            raise InvalidRecord(f"the user_project in storage data must be the name of one, not {user_project!r}")
        address.user_project = user_project
        return address


class PaidAddress(Address):
    """An address out of storage data that names the project to pay for requests to it."""

    user_project: str | None = None


def _payer(address: Address) -> str | None:
    return address.user_project if isinstance(address, PaidAddress) else None


def _is_no_secret(token: Any) -> bool:
    """Whether a token says where credentials are, and is none itself."""
    return token is None or (isinstance(token, str) and (token in TOKEN_METHODS or os.path.exists(token)))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API.

    Attributes:
        status: Status code.
        headers: Its headers.
        content: Its body; empty while a body is streamed.
        response: The open answer, if its body is streamed.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    response: aiohttp.ClientResponse

    @property
    def is_success(self) -> bool:
        """Whether it is what was asked for; 308 is how an upload goes on."""
        return self.status < 300 or self.status == 308

    def json(self) -> dict[str, Any]:
        """The body."""
        return dict(json.loads(self.content))


@dataclass(slots=True)
class Sending:
    """How far an upload is.

    Attributes:
        checksum: CRC32C of all parts so far.
        last: The last part on its way: it makes the object.
    """

    checksum: int = 0
    last: asyncio.Task[Answer | None] | None = None


class GCSTransport(Transport):
    """The requests of Cloud Storage's JSON API. Each docstring of the base class says what a method promises.

    gcsfs gives credentials, addresses and connections. Its own requests know neither preconditions nor bounded retries, so
    all of ours pass through `_request`.
    """

    def __init__(self, fs: GCSFileSystem, storage: GCSStorage) -> None:
        settings = storage.settings
        super().__init__(**settings.share(fs.session.connector.limit or settings.connections))
        self._fs = fs
        self._timeout = fs.requests_timeout or storage._timeout()
        self._max_attempts = storage.max_attempts
        self._kms_key_name = storage._kms_key_name
        self._storage_class = present(storageClass=storage._storage_class)
        self._refreshing = asyncio.Lock()
        self._sending: dict[str, Sending] = {}

    def checks_hash(self, algorithm: str) -> bool:
        return False

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        resource = {
            "name": address.key,
            "crc32c": await crc32c_header(data),
            **_resource(attributes),
            **self._storage_class,
        }
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: {attributes.content_type}\r\n\r\n"
        )
        await self._call(
            "objects.insert",
            address,
            "POST",
            self._upload_url(address),
            query=present(uploadType="multipart", ifGenerationMatch="0", kmsKeyName=self._kms_key_name),
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            body=(head.encode(), data, f"\r\n--{boundary}--\r\n".encode()),
        )

    async def head(self, address: Address) -> ObjectInfo | None:
        try:
            return _info(address, await self._get_resource(address))
        except KeyMissing:
            return None

    async def has_bucket(self, bucket: str) -> bool:
        try:
            await self._call("buckets.get", Address(bucket, ""), "GET", self._bucket_url(bucket))
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
                answer = await self._request(
                    "objects.get",
                    address,
                    "GET",
                    self._object_url(address),
                    query=present(alt="media", generation=version, ifGenerationMatch=version),
                    # Without the first, what is stored as gzip comes decoded.
                    headers=present(**{"Accept-Encoding": "gzip", "Range": byte_range(start, stop)}),
                    is_streamed=True,
                )
            except KeyMissing as signal:
                if version is not None and await self.head(address) is not None:
                    raise VersionChanged(str(address)) from signal
                raise
            read = answer.response.content.read
            try:
                yield _body(address, answer.headers, arriving(read, interruptions=_INTERRUPTIONS))
            finally:
                # A body that is not closed keeps its connection out of the pool.
                answer.response.close()

    async def delete(self, address: Address) -> None:
        with suppress(KeyMissing):
            await self._call("objects.delete", address, "DELETE", self._object_url(address))

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        fields = "items(name,size,generation,updated),nextPageToken"
        token: dict[str, str] = {}
        while True:
            answer = await self._call(
                "objects.list",
                Address(bucket, root),
                "GET",
                f"{self._bucket_url(bucket)}/o",
                query={"prefix": root, "delimiter": "/", "fields": fields, **token},
            )
            page = answer.json()
            for entry in page.get("items", ()):
                yield _info(Address(bucket, entry["name"]), entry)
            if not page.get("nextPageToken"):
                return
            token = {"pageToken": page["nextPageToken"]}

    async def tags(self, address: Address) -> Mapping[str, str]:
        return _tags(await self._get_resource(address))

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        storage_class = {"storageClass": "STANDARD"} if is_temporary else self._storage_class
        answer = await self._call(
            "objects.insert (resumable)",
            address,
            "POST",
            self._upload_url(address),
            query=present(
                uploadType="resumable", name=address.key, ifGenerationMatch="0", kmsKeyName=self._kms_key_name
            ),
            headers={"Content-Type": "application/json", "X-Upload-Content-Type": attributes.content_type},
            body=(json.dumps({**_resource(attributes), **storage_class}).encode(),),
        )
        upload = Upload(address, answer.headers["Location"], attributes, is_temporary)
        self._sending[upload.id] = Sending()
        return upload

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        sending = self._state(upload)
        sending.checksum = await crc32c(part.data, before=sending.checksum)
        if not part.is_last:
            await self._send(upload, part)
        else:
            # Shielded: a store that is completing goes on when its client leaves. The clean-up waits for it.
            sending.last = asyncio.create_task(self._send(upload, part))
            _check_made(upload, await asyncio.shield(sending.last), part.offset + len(part.data), sending.checksum)
        return Receipt(part.number, "", as_header(sending.checksum))

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        raise ConfigError("Cloud Storage copies objects of any size by rewriting; leave limits.max_copy_size at None")

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        # The last part has made the object, and its answer was checked.
        last = self._state(upload).last
        if last is None or not last.done():
            raise UploadGone(f"the last part of the upload to {upload.address} was never sent")
        del self._sending[upload.id]

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        if upload is None:
            return  # a session whose address never arrived can't be found; it holds nothing and ends after a week
        last = self._sending.pop(upload.id, Sending()).last
        try:
            if last is None or not await _succeeds(last):
                with suppress(UploadGone):
                    await self._call("upload", address, "DELETE", upload.id)
        finally:
            if last is not None:
                # It may have made the object, whatever the session says.
                await self.delete(address)

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        query = present(
            ifGenerationMatch="0",
            ifSourceGenerationMatch=source.version,
            destinationKmsKeyName=self._kms_key_name,
        )
        while True:
            try:
                answer = await self._call(
                    "objects.rewrite",
                    address,
                    "POST",
                    f"{self._object_url(source.address)}/rewriteTo/b/{_quote(address.bucket)}/o/{_quote(address.key)}",
                    query=query,
                    headers={"Content-Type": "application/json"},
                    body=(json.dumps({**_resource(attributes), **self._storage_class}).encode(),),
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

    def _state(self, upload: Upload) -> Sending:
        try:
            return self._sending[upload.id]
        except KeyError:
            raise UploadGone(f"the upload to {upload.address} was ended") from None

    async def _send(self, upload: Upload, part: Part) -> Answer | None:
        """Send one part, as often as it takes until the store has all of it; the answer to the last one."""
        start, stop = part.offset, part.offset + len(part.data)
        failures, is_lost = 0, False
        while failures < self._max_attempts:
            if failures:
                await asyncio.sleep(pause_after(failures))
            try:
                answer = await self._send_from(start, upload, part, is_question=is_lost)
            except StorageUnavailable:
                failures, is_lost = failures + 1, True
                if failures == self._max_attempts:
                    raise
                continue
            if answer.status != 308:
                return answer
            received = _received(answer.headers)
            if not start <= received <= stop:
                raise StorageUnavailable(
                    f"the store has {received} bytes of the upload to {upload.address}, where {start} to {stop} were "
                    "expected; nothing was stored, write the stream again"
                )
            if received == stop and not part.is_last:
                return None
            if received > start:
                failures = 0
            elif not is_lost:
                failures += 1
            start, is_lost = received, False
        raise StorageUnavailable(
            f"the upload to {upload.address} stays at byte {start}; nothing was stored, write the stream again"
        )

    async def _send_from(self, start: int, upload: Upload, part: Part, *, is_question: bool) -> Answer:
        """Send a part from byte `start` of the stream on; or ask where the store is, after an answer was lost."""
        rest = b"" if is_question else part.data[start - part.offset :]
        stop = part.offset + len(part.data)
        total = str(stop) if part.is_last else "*"  # with the total, the question also ends an upload that is whole
        return await self._call(
            "upload",
            upload.address,
            "PUT",
            upload.id,
            headers={
                "Content-Range": f"bytes {start}-{stop - 1}/{total}" if rest else f"bytes */{total}",
                "Content-Type": upload.attributes.content_type,
            },
            body=(rest,),
            attempts=1,
        )

    async def _get_resource(self, address: Address) -> dict[str, Any]:
        return (await self._call("objects.get", address, "GET", self._object_url(address))).json()

    def _bucket_url(self, bucket: str) -> str:
        return f"{self._fs.base}b/{_quote(bucket)}"

    def _object_url(self, address: Address) -> str:
        return f"{self._bucket_url(address.bucket)}/o/{_quote(address.key)}"

    def _upload_url(self, address: Address) -> str:
        return f"{self._fs._location}/upload/storage/v1/b/{_quote(address.bucket)}/o"

    async def _call(self, operation: str, address: Address, method: str, url: str, **parameters: Any) -> Answer:
        async with self.requests:
            return await self._request(operation, address, method, url, **parameters)

    async def _request(
        self,
        operation: str,
        address: Address,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Sequence[bytes] = (),
        is_streamed: bool = False,
        attempts: int | None = None,
    ) -> Answer:
        """One request, tried again where that may help, its errors translated."""
        attempts = attempts or self._max_attempts
        target = URL(url, encoded=True)
        if operation != "upload":  # the address of an upload is the store's own, and stays as it is
            paid = present(userProject=_payer(address))  # where the fs names a project itself, that one counts
            target = target.update_query(self._fs._get_params({**paid, **(query or {})}))
        for attempt in range(1, attempts + 1):
            try:
                await self._refresh_token()
                answer = await self._exchange(method, target, headers or {}, body, is_streamed=is_streamed)
            except _INTERRUPTIONS as error:
                if attempt == attempts or isinstance(error, aiohttp.InvalidURL):
                    said = str(error) or type(error).__name__
                    raise _translate_no_answer(error, self._failure(operation, address, said)) from error
            else:
                if answer.is_success:
                    return answer
                failure = self._translate(answer, operation, address)
                if attempt == attempts or not isinstance(failure, StorageUnavailable):
                    raise failure from HttpError({"code": answer.status, "message": answer.content[:MAX_MESSAGE]})
            await asyncio.sleep(pause_after(attempt))
        raise AssertionError("the last attempt returns or raises")

    async def _exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: Sequence[bytes], *, is_streamed: bool
    ) -> Answer:
        size = sum(map(len, body))
        data: Any = Slices(*body) if size > SLICE_SIZE else b"".join(body) if body else None
        length = {"Content-Length": str(size)} if body else {}
        response = await self._fs.session.request(
            method,
            url,
            data=data,
            headers=self._fs._get_headers({**headers, **length}),
            timeout=self._timeout,
            allow_redirects=False,  # 308 means something else here
            auto_decompress=not is_streamed,
        )
        if is_streamed and response.status < 300:
            return Answer(response.status, response.headers, b"", response)
        async with response:
            return Answer(response.status, response.headers, await response.read(), response)

    async def _refresh_token(self) -> None:
        """Renew the token in a thread, so that gcsfs never does it on the event loop."""
        if _is_fresh(self._fs.credentials.credentials):
            return
        async with self._refreshing:
            if _is_fresh(self._fs.credentials.credentials):
                return
            try:
                await asyncio.to_thread(self._fs.credentials.maybe_refresh, REFRESH_AHEAD.total_seconds())
            except auth_errors.TransportError as error:
                raise StorageUnavailable(f"the token could not be renewed: {error}. Try again later") from error
            except Exception as error:
                raise CredentialsError(f"the token could not be renewed: {error}. {_LOG_IN}") from error

    def _translate(self, answer: Answer, operation: str, address: Address) -> Exception:
        """The engine's word for an error answer."""
        status, (reason, message) = answer.status, _error(answer.content)
        failure = self._failure(operation, address, f"Cloud Storage answered {status} {reason}: {message}")
        signal = _SIGNALS.get((operation, status))
        if signal is not None:
            return failure.signal(signal)
        if status == 404:
            return failure.no_bucket()
        if status == 401 and self._fs.credentials.credentials is None:
            return failure.no_credentials(_LOG_IN)
        if status == 401:
            return failure.credentials_refused(_LOG_IN)
        if status == 400 and any(word in message.lower() for word in _DAMAGED):
            return failure.damaged()
        if status == 400 and "requester pays" in message.lower():
            return failure.misconfigured("Set user_project")
        if status >= 500 or status in (408, 429) or reason in _SLOW_DOWN:
            return failure.unavailable()
        if status == 403:
            return failure.denied(_grant(operation))
        return failure.refused()

    def _failure(self, operation: str, address: Address, said: str) -> Failure:
        return Failure(operation, address, self._fs._location, said)


_INTERRUPTIONS = (aiohttp.ClientError, TimeoutError)

# (operation, status) -> what it tells the engine.
_SIGNALS: Mapping[tuple[str, int], type[Signal]] = {
    ("objects.insert", 409): WriteConflict,
    ("objects.insert", 412): KeyExists,
    ("objects.get", 404): KeyMissing,
    ("objects.get", 412): VersionChanged,
    ("objects.get", 416): VersionChanged,
    ("objects.delete", 404): KeyMissing,
    ("objects.rewrite", 404): VersionChanged,
    ("objects.rewrite", 409): WriteConflict,
    ("objects.rewrite", 412): KeyExists,
    ("buckets.get", 404): KeyMissing,
    ("upload", 404): UploadGone,
    ("upload", 410): UploadGone,
    ("upload", 412): UploadGone,
    ("upload", 499): UploadGone,
}

# Cloud Storage, "HTTP status and error codes for JSON".
_SLOW_DOWN = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
_DAMAGED = ("crc32c", "md5")

_LOG_IN = "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"


def _grant(operation: str) -> str:
    """What to allow, for an operation that was denied."""
    if operation == "objects.get":
        return "Grant storage.objects.get; without storage.objects.list a missing object is answered like this too"
    if operation == "objects.delete":
        return "Grant storage.objects.delete"
    if operation == "objects.list":
        return "Grant storage.objects.list"
    if operation == "buckets.get":
        return "Grant storage.buckets.get"
    return "Grant storage.objects.create, storage.objects.get and storage.objects.delete"


def _translate_no_answer(error: Exception, failure: Failure) -> Exception:
    """The engine's word for a request that got no answer, or was never sent."""
    if isinstance(error, aiohttp.InvalidURL):
        return failure.misconfigured("Check endpoint_url")
    if isinstance(error, aiohttp.ClientSSLError):
        return failure.no_tls()
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return failure.unreachable()
    return failure.no_answer()


def _resource(attributes: ObjectAttributes) -> dict[str, Any]:
    tags = {f"{TAG_PREFIX}{_quote(key)}": value for key, value in attributes.tags.items()}
    return present(
        contentType=attributes.content_type,
        contentEncoding=attributes.content_encoding,
        metadata={**attributes.metadata, **tags} or None,
    )


def _tags(resource: Mapping[str, Any]) -> dict[str, str]:
    """The tags in an object's metadata. Their names are percent-encoded, since they travel in headers too."""
    return {
        unquote(name.removeprefix(TAG_PREFIX)): value
        for name, value in resource.get("metadata", {}).items()
        if name.startswith(TAG_PREFIX)
    }


def _quote(text: str) -> str:
    return quote(text, safe="")


async def _succeeds(task: asyncio.Task[Any]) -> bool:
    """Wait for the end of a task; whoever is cancelled in the meantime ends it."""
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
    return not task.cancelled() and task.exception() is None


def _received(headers: Mapping[str, str]) -> int:
    """How many bytes an upload has: `bytes=0-41` are 42, and no range is none."""
    return int(headers["Range"].rpartition("-")[2]) + 1 if "Range" in headers else 0


def _check_made(upload: Upload, answer: Answer | None, size: int, checksum: int) -> None:
    """Compare what the store made of an upload with what was sent."""
    made = answer.json() if answer is not None else {}
    if (made.get("size"), made.get("crc32c")) != (str(size), as_header(checksum)):
        raise IntegrityError(
            f"{size} bytes with the CRC32C {as_header(checksum)} were sent to {upload.address}, which now holds "
            f"{made.get('size')} with {made.get('crc32c')}; nothing was stored, write the stream again"
        )


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
    size = int(headers.get("X-Goog-Stored-Content-Length") or headers["Content-Length"])
    start, size = read_content_range(headers.get("Content-Range"), size=size)
    info = ObjectInfo(address, size, headers.get("X-Goog-Generation"), None, headers.get("Content-Type"))
    return Body(info, chunks, start)


def _content_hash(resource: Mapping[str, Any]) -> str | None:
    """The MD5 of a whole object, which a composed one doesn't have."""
    md5 = resource.get("md5Hash")
    return f"md5:{header_to_hex(md5)}" if md5 else None


def _error(content: bytes) -> tuple[str, str]:
    """Reason and message of an error answer, which is JSON or text."""
    text = content.decode(errors="replace")
    try:
        error = json.loads(text)["error"]
        return str(error["errors"][0].get("reason", "")), str(error.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", text[:MAX_MESSAGE]


def _is_fresh(credentials: Any) -> bool:
    """Whether credentials, if there are any, need no renewal yet. Google's own libraries keep UTC without a zone."""
    if credentials is None:
        return True
    now = datetime.now(UTC).replace(tzinfo=None)
    return bool(credentials.valid and (credentials.expiry is None or credentials.expiry - now > REFRESH_AHEAD))
