"""Requests of Cloud Storage's JSON API, on the credentials, addresses and connections of gcsfs.

gcsfs' own requests know neither preconditions nor bounded retries, so all of ours pass through `JSONAPI`.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from asyncio import Semaphore
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote, urlencode

import aiohttp
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError
from google.auth import exceptions as auth_errors
from google.auth.credentials import Signing
from google.cloud.storage import Client
from yarl import URL

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.bodies import SLICE_SIZE, Slices
from lakery_cloud.engine.checksums import crc32c_header
from lakery_cloud.engine.error_messages import Failure, redact_error, redacted
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    KeyExists,
    KeyMissing,
    Signal,
    UploadGone,
    VersionChanged,
    WriteConflict,
    without_none,
)
from lakery_cloud.engine.retries import backoff
from lakery_cloud.errors import CredentialsError, StorageUnavailable
from lakery_cloud.http.connection import HTTPError, UnsupportedResponse, write_head
from lakery_cloud.http.pool import ConnectFailed, ConnectionPool, TLSFailed
from lakery_cloud.streams.parts import Pieces

logger = logging.getLogger("lakery_cloud")

REFRESH_AHEAD = timedelta(minutes=5, seconds=10)
"""gcsfs itself renews a token 5 minutes before its end, on the event loop: we do it earlier, in a thread."""
TAG_PREFIX = "tag-"
"""Permanent: what the names of tags start with in an object's metadata; none of our own names does."""
MAX_RESOURCE = 1024 * 1024
"""Bytes of what is said about an object; its metadata has at most 8 KiB (Cloud Storage, "Quotas and limits")."""
MAX_MESSAGE = 500
"""Most characters of what a server says that an error repeats."""


class PaidAddress(Address):
    """An address out of storage data that names the project to pay for requests to it."""

    user_project: str | None = None


def payer_of(address: Address) -> str | None:
    return address.user_project if isinstance(address, PaidAddress) else None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API.

    Attributes:
        status: Status code.
        headers: Its headers.
        content: Its body; empty while a body is streamed.
        read: Reads at most so many bytes of a body that is streamed.
        close: Ends a body that is streamed.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    read: Callable[[int], Awaitable[bytes]]
    close: Callable[[], None]

    @property
    def is_success(self) -> bool:
        """Whether it is what was asked for; 308 is how an upload goes on."""
        return self.status < 300 or self.status == 308

    def json(self) -> dict[str, Any]:
        """The body.

        Raises:
            StorageUnavailable: It is no JSON.
        """
        try:
            return dict(json.loads(self.content))
        except ValueError as error:
            raise StorageUnavailable(f"Cloud Storage's answer can't be read: {error}. Try again later") from error


class JSONAPI:
    """The API, for one open `GCSFileSystem`.

    Args:
        fs: It has a session.
        timeout: Of each request.
        max_attempts: Attempts for one request.
        requests: Every request waits for it but one whose answer is streamed.
        lane: What the requests that come most often are sent over, if there is one.
    """

    def __init__(
        self,
        fs: GCSFileSystem,
        *,
        timeout: aiohttp.ClientTimeout,
        max_attempts: int,
        requests: Semaphore,
        lane: ConnectionPool | None,
    ) -> None:
        self._lane = lane
        self.max_attempts = max_attempts
        self._fs = fs
        self._timeout = timeout
        self._requests = requests
        self._refreshing = asyncio.Lock()
        self._host = fs._location.partition("://")[2]

    def bucket_url(self, bucket: str) -> str:
        return f"{self._fs.base}b/{quoted(bucket)}"

    def object_url(self, address: Address) -> str:
        return f"{self.bucket_url(address.bucket)}/o/{quoted(address.key)}"

    def upload_url(self, address: Address) -> str:
        return f"{self._fs._location}/upload/storage/v1/b/{quoted(address.bucket)}/o"

    async def resource(self, address: Address) -> dict[str, Any]:
        """What the store says about an object."""
        return (await self.call("objects.get", address, "GET", self.object_url(address))).json()

    async def insert(
        self,
        address: Address,
        pieces: Pieces,
        resource: Mapping[str, Any],
        *,
        kms_key_name: str | None,
        on_given_out: Callable[[], None] | None = None,
        crc32c: str | None = None,
    ) -> dict[str, Any]:
        """Create an object whose bytes must have the CRC-32C that goes along; what the store says about it."""
        boundary = secrets.token_hex(16)
        described = json.dumps({**resource, "name": address.key, "crc32c": crc32c or await crc32c_header(*pieces)})
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{described}\r\n"
            f"--{boundary}\r\nContent-Type: {resource['contentType']}\r\n\r\n"
        )
        answer = await self.call(
            "objects.insert",
            address,
            "POST",
            self.upload_url(address),
            query=without_none(uploadType="multipart", ifGenerationMatch="0", kmsKeyName=kms_key_name),
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            body=(head.encode(), *pieces, f"\r\n--{boundary}--\r\n".encode()),
            on_given_out=on_given_out,
        )
        return answer.json()

    async def date(self, bucket: str) -> str | None:
        """The header `Date` of an answer about a bucket, whatever it says."""
        try:
            await self._refresh_token()
            async with self._requests:
                answer = await self._exchange("GET", self.bucket_url(bucket), {}, Slices(), is_streamed=False)
        except INTERRUPTIONS as error:
            failure = self._failure("buckets.get", Address(bucket, ""), redact_error(error))
            raise _translate_no_answer(error, failure) from error
        return answer.headers.get("Date")

    async def sign(
        self, address: Address, method: str, *, expires: timedelta, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> str:
        """A signed URL (Cloud Storage, "V4 signing process with your own program"), on the XML API.

        Raises:
            CredentialsError: The credentials can't sign.
        """
        credentials = self._fs.credentials.credentials
        signer: dict[str, Any] = {}
        if not isinstance(credentials, Signing):
            # Those of a machine in Google's cloud have no key; the library asks Google to sign with that of their account.
            if not hasattr(credentials, "service_account_email"):
                raise CredentialsError(f"the credentials for {address} can't sign a URL. {_SIGN_IN}")
            await self._refresh_token()  # which tells whose they are, too
            signer = {"service_account_email": credentials.service_account_email, "access_token": credentials.token}

        def generate() -> str:
            with contextlib.closing(Client(project="any", credentials=credentials)) as client:
                url: str = (
                    client.bucket(address.bucket)
                    .blob(address.key)
                    .generate_signed_url(
                        version="v4",
                        expiration=expires,
                        method=method,
                        headers=dict(headers),
                        query_parameters=dict(query),
                        credentials=credentials,
                        api_access_endpoint=self._fs._location,
                        **signer,
                    )
                )
                return url

        try:
            return await asyncio.to_thread(generate)
        except auth_errors.GoogleAuthError as error:
            raise CredentialsError(
                f"no URL could be signed for {address}: {redact_error(error)}. {_SIGN_IN}"
            ) from error

    def credential_kind(self) -> str | None:
        """The kind of credentials that gcsfs has found."""
        found = self._fs.credentials.credentials
        return f"{type(found).__module__.rpartition('.')[2]}.{type(found).__name__}" if found else None

    async def delete(self, address: Address) -> None:
        """Delete an object, if it is there."""
        with contextlib.suppress(KeyMissing):
            await self.call("objects.delete", address, "DELETE", self.object_url(address))

    async def call(self, operation: str, address: Address, method: str, url: str, **parameters: Any) -> Answer:
        async with self._requests:
            return await self.request(operation, address, method, url, **parameters)

    async def request(
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
        on_given_out: Callable[[], None] | None = None,
    ) -> Answer:
        """One request, tried again where that may help, its errors translated.

        Args:
            operation: Its name in the API's reference.
            address: On which object.
            method: HTTP method.
            url: Where.
            query: Parameters in the URL.
            headers: Headers beyond those of every request.
            body: Its pieces.
            is_streamed: Whether the answer's body is left for the caller to read.
            attempts: How many; by default those of the storage.
            on_given_out: Called when all of the body was handed to the connection.
        """
        attempts = attempts or self.max_attempts
        if operation != "upload":  # the address of an upload is the store's own, and stays as it is
            paid = without_none(userProject=payer_of(address))  # where the fs names a project itself, that one counts
            url = f"{url}?{urlencode(self._fs._get_params({**paid, **(query or {})}), quote_via=quote)}"
        lane = self._lane if operation in _HOT and on_given_out is None else None
        for attempt in range(1, attempts + 1):
            try:
                await self._refresh_token()
                answer = lane and await self._send_fast(lane, method, url, headers or {}, body, is_streamed=is_streamed)
                answer = answer or await self._exchange(
                    method, url, headers or {}, Slices(*body, on_end=on_given_out), is_streamed=is_streamed
                )
            except INTERRUPTIONS as error:
                if attempt == attempts or isinstance(error, aiohttp.InvalidURL):
                    raise _translate_no_answer(error, self._failure(operation, address, redact_error(error))) from error
            else:
                if answer.is_success:
                    return answer
                failure = self._translate(answer, operation, address)
                if attempt == attempts or not isinstance(failure, StorageUnavailable):
                    message = redacted(answer.content[:MAX_MESSAGE].decode(errors="replace"))
                    raise failure from HttpError({"code": answer.status, "message": message})
            await asyncio.sleep(backoff(attempt))
        raise AssertionError("the last attempt returns or raises")

    async def _send_fast(
        self,
        lane: ConnectionPool,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Sequence[bytes],
        *,
        is_streamed: bool,
    ) -> Answer | None:
        """One request over the fast lane; None where it can't be sent, or its answer not be read there."""
        length = {"Content-Length": str(sum(map(len, body)))} if body else {}
        target = url.removeprefix(self._fs._location)
        head = write_head(method, target, {"Host": self._host, **self._fs._get_headers({**headers, **length})})
        if head is None:
            return None
        try:
            answer = await lane.send(method, head, body)
            if is_streamed and answer.status < 300:
                return Answer(answer.status, answer.headers, b"", answer.read, answer.close)
            try:
                content = await answer.read_all(MAX_RESOURCE)
            finally:
                answer.close()
        except UnsupportedResponse as odd:
            logger.info("requests to Cloud Storage go without the fast lane: %s", odd)
            self._lane = None
            return None
        return Answer(answer.status, answer.headers, content, answer.read, answer.close)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Slices, *, is_streamed: bool
    ) -> Answer:
        data: Any = body if body.size > SLICE_SIZE else body.joined() or None
        # Every request but a GET or a DELETE has a length, and be it 0.
        length = {} if method in ("GET", "DELETE") else {"Content-Length": str(body.size)}
        response = await self._fs.session.request(
            method,
            URL(url, encoded=True),
            data=data,
            headers=self._fs._get_headers({**headers, **length}),
            timeout=self._timeout,
            allow_redirects=False,  # 308 means something else here
            auto_decompress=not is_streamed,
        )
        if is_streamed and response.status < 300:
            return Answer(response.status, response.headers, b"", response.content.read, response.close)
        async with response:
            content = await response.read()
        return Answer(response.status, response.headers, content, response.content.read, response.close)

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
                raise StorageUnavailable(
                    f"the token could not be renewed: {redact_error(error)}. Try again later"
                ) from error
            except Exception as error:
                raise CredentialsError(f"the token could not be renewed: {redact_error(error)}. {LOG_IN}") from error

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
            return failure.no_credentials(LOG_IN)
        if status == 401:
            return failure.credentials_refused(LOG_IN)
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


INTERRUPTIONS = (aiohttp.ClientError, TimeoutError, HTTPError, UnsupportedResponse)

# What a put, a get or a head is; a second one does no more than a first, so that an idle connection may be tried.
_HOT = frozenset({"objects.insert", "objects.get"})

# (operation, status) -> what it tells the engine.
_SIGNALS: Mapping[tuple[str, int], type[Signal]] = {
    ("objects.insert", 409): WriteConflict,
    ("objects.insert", 412): KeyExists,
    ("objects.get", 404): KeyMissing,
    ("objects.get", 412): VersionChanged,
    ("objects.get", 416): VersionChanged,
    ("objects.compose", 404): UploadGone,
    ("objects.compose", 412): KeyExists,
    ("objects.delete", 404): KeyMissing,
    ("objects.rewrite", 404): VersionChanged,
    ("objects.rewrite", 409): WriteConflict,
    ("objects.rewrite", 412): KeyExists,
    ("buckets.get", 404): KeyMissing,
    ("buckets.patch", 412): VersionChanged,
    ("upload", 404): UploadGone,
    ("upload", 410): UploadGone,
    ("upload", 412): UploadGone,
    ("upload", 499): UploadGone,
}

# Cloud Storage, "HTTP status and error codes for JSON".
_SLOW_DOWN = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
_DAMAGED = ("crc32c", "md5")

_SIGN_IN = (
    "Set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or impersonate one: "
    "`gcloud auth application-default login --impersonate-service-account=<account>`"
)
LOG_IN = "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"


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
    if operation == "buckets.patch":
        return "Grant storage.buckets.update"
    return "Grant storage.objects.create, storage.objects.get and storage.objects.delete"


def _translate_no_answer(error: Exception, failure: Failure) -> Exception:
    """The engine's word for a request that got no answer, or was never sent."""
    if isinstance(error, aiohttp.InvalidURL):
        return failure.misconfigured("Check endpoint_url")
    if isinstance(error, aiohttp.ClientSSLError | TLSFailed):
        return failure.no_tls()
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | ConnectFailed):
        return failure.unreachable()
    return failure.no_answer()


def resource_of(attributes: ObjectAttributes) -> dict[str, Any]:
    """Attributes in the API's words."""
    tags = {f"{TAG_PREFIX}{quoted(key)}": value for key, value in attributes.tags.items()}
    return without_none(
        contentType=attributes.content_type,
        contentEncoding=attributes.content_encoding,
        metadata={**attributes.metadata, **tags} or None,
    )


def tags_of(resource: Mapping[str, Any]) -> dict[str, str]:
    """The tags in an object's metadata. Their names are percent-encoded, since they travel in headers too."""
    return {
        unquote(name.removeprefix(TAG_PREFIX)): value
        for name, value in resource.get("metadata", {}).items()
        if name.startswith(TAG_PREFIX)
    }


def quoted(text: str) -> str:
    return quote(text, safe="")


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
