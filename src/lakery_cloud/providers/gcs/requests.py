"""The requests of Cloud Storage's JSON API, all of them authenticated and sent by lakery-cloud.

gcsfs only finds credentials: its own requests have neither preconditions nor bounded retries.
"""

import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.checksums import crc32c_header
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.lifecycle import BucketRules, Rule
from lakery_cloud.engine.model import KeptVersion, KeyMissing, ObjectInfo, Uncertain, VersionChanged, without_none
from lakery_cloud.engine.requests import Requests
from lakery_cloud.engine.transport import unasked, unconditional
from lakery_cloud.errors import AccessDenied, ConfigError
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import BufferedResponse, Origin, Request, Response
from lakery_cloud.http.headers import byte_range, quoted, time_of
from lakery_cloud.providers.gcs import answers
from lakery_cloud.providers.gcs.answers import TAG_PREFIX, BucketOptions, Progress, StoredObject
from lakery_cloud.providers.gcs.checksums import checksum_headers
from lakery_cloud.providers.gcs.credentials import Tokens
from lakery_cloud.providers.gcs.errors import Refusal
from lakery_cloud.providers.gcs.sdk import Access
from lakery_cloud.streams.parts import Pieces

if TYPE_CHECKING:
    from lakery_cloud.providers.gcs.settings import GCSSettings

T = TypeVar("T")

STANDARD = "STANDARD"
"""The storage class of temporary objects; only for it no early deletion is billed (Cloud Storage, "Storage classes")."""
MAX_PAGE = 64 * 1024 * 1024
"""Bytes of one page of a listing. Cloud Storage lists 1,000 objects at a time, fake-gcs-server all of them."""


class PaidAddress(Address):
    """An address from storage data that names the project to bill for its requests."""

    user_project: str | None = None

    def with_key(self, key: str) -> Self:
        other = super().with_key(key)
        other.user_project = self.user_project
        return other


def payer_of(address: Address) -> str | None:
    """The project to bill for requests to an address; None if its storage data names none."""
    return address.user_project if isinstance(address, PaidAddress) else None


class GCSRequests(Requests):
    """The requests of one storage.

    Args:
        access: Where requests go, and who pays.
        http: Sends the requests.
        tokens: Authenticates them.
        settings: The storage's settings.
    """

    def __init__(self, access: Access, http: HTTPClient, *, tokens: Tokens, settings: "GCSSettings") -> None:
        super().__init__(endpoint=access.endpoint, max_attempts=settings.max_attempts)
        self._http = http
        self._tokens = tokens
        parts = urlsplit(self.endpoint)
        try:
            self._origin, self._root = Origin.of(self.endpoint), parts.path.rstrip("/")
        except ValueError:  # which repeats the endpoint, perhaps with a password
            raise ConfigError("STORAGE_EMULATOR_HOST must be a URL such as http://localhost:4443") from None
        self._payer = access.payer
        self._payers: dict[str, str] = {}
        self._encrypted = without_none(kmsKeyName=settings.kms_key_name)
        self._stored_as = without_none(storageClass=settings.storage_class)
        self._standard_buckets: dict[str, bool] = {}
        self._page_size = str(settings.limits.page_size) if settings.limits.page_size else None
        self._headers = {"host": self._origin.netloc, "user-agent": "lakery-cloud"}
        user, has_user, _ = parts.netloc.rpartition("@")  # of an emulator, in STORAGE_EMULATOR_HOST
        if has_user:
            self._headers["authorization"] = f"Basic {b64encode(unquote(user).encode()).decode()}"

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        size = await self.insert(address, (data,), self.resource(attributes), read=answers.read_size)
        if size != len(data):
            raise self.failure("objects.insert", address, "a response with another size").unusable()

    async def head(self, address: Address) -> ObjectInfo:
        info, _, tags = await self.describe(address)
        return info._replace(tags=tags)

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        # Without `Accept-Encoding` the store decodes content that is stored as gzip.
        headers = without_none(**{"accept-encoding": "gzip", "range": byte_range(start, stop)})
        query = without_none(alt="media", generation=version, ifGenerationMatch=version)
        request = self._request("GET", _object_path(address), address, query=query, headers=headers)
        try:
            return await self.open_body(
                "objects.get", address, request, partial(answers.read_body, address), expected=(200, 206)
            )
        except KeyMissing as signal:
            if version is not None:
                await self.head(address)
                raise VersionChanged(str(address)) from signal
            raise
        except VersionChanged as signal:
            if version is None and not start:
                raise unasked(signal) from signal
            raise

    async def describe(self, address: Address) -> StoredObject:
        """Describe an object.

        Raises:
            KeyMissing: The object does not exist.
        """
        request = self._request("GET", _object_path(address), address)
        with unconditional():
            return await self._call("objects.get", address, request, partial(answers.read_object, address))

    async def insert(
        self,
        address: Address,
        pieces: Pieces,
        resource: Mapping[str, Any],
        *,
        crc32c: str | None = None,
        before_last: Callable[[], None] | None = None,
        read: Callable[[Mapping[str, Any]], T],
    ) -> T:
        """Create an object from pieces, and read its description. The store compares their CRC-32C."""
        boundary = secrets.token_hex(16)
        described = json.dumps({**resource, "name": address.key, "crc32c": crc32c or await crc32c_header(*pieces)})
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{described}\r\n"
            f"--{boundary}\r\nContent-Type: {resource['contentType']}\r\n\r\n"
        )
        request = self._request(
            "POST",
            _upload_path(address),
            address,
            query={"uploadType": "multipart", "ifGenerationMatch": "0", **self._encrypted},
            headers={"content-type": f"multipart/related; boundary={boundary}"},
            body=(head.encode(), *pieces, f"\r\n--{boundary}--\r\n".encode()),
        )
        request.before_last = before_last

        def read_noting(found: Mapping[str, Any]) -> T:
            self._note_class(address.bucket, resource, found)
            return read(found)

        return await self._call("objects.insert", address, request, read_noting)

    async def begin_resumable(self, address: Address, resource: Mapping[str, Any]) -> str:
        """Begin a resumable upload; return the URL of its session."""
        query = {"uploadType": "resumable", "name": address.key, "ifGenerationMatch": "0", **self._encrypted}
        headers = {"x-upload-content-type": resource["contentType"]}
        request = self._request("POST", _upload_path(address), address, query=query, headers=headers, content=resource)
        path = f"{self._root}{_upload_path(address)}"
        read = partial(answers.read_session, self._origin, path)
        return await self.send("objects.insert (resumable)", address, request, read, expected=(200, 201))

    async def send_chunk(
        self,
        address: Address,
        session_url: str,
        pieces: Pieces,
        *,
        content_range: str,
        content_type: str,
        crc32c: str | None = None,
    ) -> StoredObject | int:
        """Send a chunk of a resumable upload, or an empty one to ask for its state, in one attempt.

        Args:
            address: The object.
            session_url: The upload.
            pieces: The bytes.
            content_range: Their place.
            content_type: Media type of the object.
            crc32c: CRC-32C of the whole object, which the store compares. It must be the last chunk.

        Returns:
            The object if the upload is complete, else how many bytes the store has.
        """
        headers = {"content-range": content_range, "content-type": content_type, **checksum_headers(crc32c)}
        request = Request("PUT", session_url, headers, pieces)
        read = partial(answers.read_progress, address)
        return await self.send("upload", address, request, read, expected=(200, 201, 308), attempts=1)

    async def cancel_resumable(self, address: Address, session_url: str) -> None:
        """Cancel a resumable upload. A missing or complete one is no error."""
        request = Request("DELETE", session_url, {})
        # The status of a cancelled upload is 499 (Cloud Storage, "Cancel an upload").
        expected = (200, 204, 404, 410, 412, 499)
        await self.send("upload", address, request, answers.read_nothing, expected=expected)

    async def compose(
        self, address: Address, resource: Mapping[str, Any], sources: Sequence[Mapping[str, str | None]]
    ) -> StoredObject:
        """Create an object from others, each with its `name` and `generation`."""
        query = {"ifGenerationMatch": "0", **self._encrypted}
        content = {"destination": resource, "sourceObjects": sources}
        request = self._request("POST", f"{_object_path(address)}/compose", address, query=query, content=content)
        return await self._call("objects.compose", address, request, partial(answers.read_object, address))

    async def rewrite(
        self,
        source: ObjectInfo,
        address: Address,
        resource: Mapping[str, Any] | None,
        *,
        token: str | None,
        create_only: bool = True,
    ) -> ObjectInfo | Progress:
        """Copy an object, pinned to its version; return the copy, or what another request continues with.

        Without a resource, the copy has the source's metadata, and the bucket's default storage class.
        """
        query = without_none(
            ifGenerationMatch="0" if create_only else None,
            ifSourceGenerationMatch=source.version,
            destinationKmsKeyName=self._encrypted.get("kmsKeyName"),
            rewriteToken=token,
        )
        path = f"{_object_path(source.address)}/rewriteTo{_object_path(address).removeprefix(_API)}"
        request = self._request("POST", path, address, query=query, content=resource)

        def read(progress: Mapping[str, Any]) -> ObjectInfo | Progress:
            copied = answers.read_rewrite(address, progress)
            if isinstance(copied, ObjectInfo) and resource is not None:
                self._note_class(address.bucket, resource, progress["resource"])
            return copied

        return await self._call("objects.rewrite", address, request, read)

    async def patch(self, source: ObjectInfo, resource: Mapping[str, Any]) -> StoredObject:
        """Change fields of an object, pinned to its version."""
        address, query = source.address, without_none(ifGenerationMatch=source.version)
        request = self._request("PATCH", _object_path(address), address, query=query, content=resource)
        return await self._call("objects.patch", address, request, partial(answers.read_object, address))

    async def move(self, source: ObjectInfo, address: Address) -> ObjectInfo:
        """Rename an object within its bucket, pinned to its version. It keeps its fields and its storage class."""
        query = without_none(ifGenerationMatch="0", ifSourceGenerationMatch=source.version)
        path = f"{_object_path(source.address)}/moveTo/o/{quoted(address.key)}"
        request = self._request("POST", path, address, query=query)
        return (await self._call("objects.move", address, request, partial(answers.read_object, address))).info

    async def delete(self, address: Address, *, generation: str | None = None) -> None:
        """Delete an object. A missing object is no error.

        Args:
            address: The object.
            generation: Its generation, so that a bucket with versions keeps none of it. If the object has another one, it
                is deleted all the same.
        """
        if not await self.delete_generation(address, generation) and generation is not None:
            await self.delete(address)

    async def delete_generation(self, address: Address, generation: str | None) -> bool:
        """Delete a generation of an object, by default the current one; return whether it existed."""
        with unconditional():
            return await self._delete(address, generation, without_none(generation=generation))

    async def delete_if(self, address: Address, generation: str | None) -> None:
        """Delete an object if it has this generation; a bucket that keeps versions keeps it."""
        await self._delete(address, generation, without_none(ifGenerationMatch=generation))

    async def _delete(self, address: Address, generation: str | None, query: Mapping[str, str]) -> bool:
        request = self._request("DELETE", _object_path(address), address, query=query)
        try:
            has_existed = await self.send(
                "objects.delete", address, request, answers.read_deletion, expected=(200, 204, 404)
            )
        except Uncertain:
            if await self._is_there(address, generation):
                raise
            return True
        if has_existed is None and await self._is_there(address, generation):
            raise self.failure(
                "objects.delete", address, "a response with a body, and the object is still there"
            ).unusable()
        return has_existed is not False

    async def _is_there(self, address: Address, generation: str | None) -> bool:
        try:
            found = await self.head(address)
        except KeyMissing:
            return False
        return generation in (None, found.version)

    async def list_page(
        self, bucket: str, root: str, token: str | None, *, described: bool = False
    ) -> tuple[list[ObjectInfo], str | None]:
        """One page of the objects directly below a root, with all attributes if wanted, and the token of the next page."""
        attributes = ",contentType,contentEncoding,storageClass,metadata,crc32c,md5Hash" if described else ""
        fields = f"kind,items(name,size,generation,updated{attributes}),nextPageToken"
        query = without_none(prefix=root, delimiter="/", fields=fields, pageToken=token, maxResults=self._page_size)
        address = Address(bucket, root)
        request = self._request("GET", f"{_bucket_path(bucket)}/o", address, query=query)
        read = partial(answers.read_page, bucket, described=described)
        return await self._call("objects.list", address, request, read, max_size=MAX_PAGE)

    async def versions_page(self, bucket: str, root: str, token: str | None) -> tuple[list[KeptVersion], str | None]:
        """One page of the generations of objects directly below a root, and the token of the next page."""
        fields = "kind,items(name,size,generation,updated,timeDeleted),nextPageToken"
        query = without_none(prefix=root, delimiter="/", versions="true", fields=fields, pageToken=token)
        address = Address(bucket, root)
        request = self._request("GET", f"{_bucket_path(bucket)}/o", address, query=query)
        return await self._call(
            "objects.list", address, request, partial(answers.read_versions, bucket), max_size=MAX_PAGE
        )

    async def has_bucket(self, bucket: str) -> bool:
        """Whether a bucket exists. The last payer for it pays, also if it was named by storage data."""
        address = PaidAddress(bucket, "")
        address.user_project = self._payers.get(bucket)
        request = self._request("GET", _bucket_path(bucket), address)
        return await self.send("buckets.get", address, request, answers.read_bucket, expected=(200, 403, 404))

    async def server_time(self, bucket: str) -> datetime | None:
        """The time in any response about a bucket."""
        address = Address(bucket, "")
        request = self._request("GET", _bucket_path(bucket), address)
        date = await self.send(
            "buckets.get", address, request, lambda found: found.headers.get("date"), expected=range(600)
        )
        return time_of(date)

    async def options(self, bucket: str) -> BucketOptions | None:
        """What a bucket keeps; None without the permission to look."""
        address = Address(bucket, "")
        query = {"fields": "versioning,softDeletePolicy,retentionPolicy,defaultEventBasedHold"}
        request = self._request("GET", _bucket_path(bucket), address, query=query)
        try:
            return await self._call("buckets.get", address, request, answers.read_options)
        except AccessDenied:
            return None

    async def rules(self, address: Address) -> BucketRules:
        """The lifecycle rules of a bucket, and its metageneration as their version."""
        query = {"fields": "lifecycle,metageneration"}
        request = self._request("GET", _bucket_path(address.bucket), address, query=query)
        return await self._call("buckets.get", address, request, answers.read_rules)

    async def set_rules(self, address: Address, rules: Sequence[Rule], version: str) -> None:
        """Replace the lifecycle rules of a bucket.

        Raises:
            VersionChanged: The bucket has another metageneration.
        """
        query = {"fields": "metageneration", "ifMetagenerationMatch": version}
        content = {"lifecycle": {"rule": rules}}
        request = self._request("PATCH", _bucket_path(address.bucket), address, query=query, content=content)
        await self._call("buckets.patch", address, request, answers.read_metageneration)

    def makes_standard(self, bucket: str) -> bool:
        """Whether new content of a bucket certainly has the storage class of temporary objects.

        Without a configured class the bucket has a default one, which the responses about new content say.
        """
        configured = self._stored_as.get("storageClass")
        return configured == STANDARD if configured else self._standard_buckets.get(bucket, False)

    def _note_class(self, bucket: str, resource: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        if "storageClass" not in resource:
            self._standard_buckets[bucket] = found.get("storageClass") == STANDARD

    def resource(self, attributes: ObjectAttributes, *, is_temporary: bool = False) -> dict[str, Any]:
        """The API's description of a new object."""
        # Names of tags are percent-encoded, since metadata is sent in headers too.
        tags = {f"{TAG_PREFIX}{quoted(key)}": value for key, value in attributes.tags.items()}
        return without_none(
            contentType=attributes.content_type,
            contentEncoding=attributes.content_encoding,
            metadata={**attributes.metadata, **tags} or None,
            **({"storageClass": STANDARD} if is_temporary else self._stored_as),
        )

    async def _call(
        self, operation: str, address: Address, request: Request, read: Callable[[Any], T], **options: int
    ) -> T:
        """Send a request whose response is JSON."""
        return await self.send(
            operation, address, request, partial(answers.read_json, read), expected=(200,), **options
        )

    def _request(
        self,
        method: str,
        path: str,
        address: Address,
        *,
        query: Mapping[str, str] | None = None,
        headers: dict[str, str] | None = None,
        content: Mapping[str, Any] | None = None,
        body: Pieces = (),
    ) -> Request:
        """A request without its token, with a body or JSON content; its target lacks the root of the endpoint."""
        payer, headers = self.payer(address), headers or {}
        query = {**(query or {}), **({"userProject": payer} if payer else {})}
        parameters = "&".join([f"{name}={quoted(value)}" for name, value in query.items()])
        if content is not None:
            headers, body = {"content-type": "application/json", **headers}, (json.dumps(content).encode(),)
        return Request(method, f"{path}?{parameters}" if query else path, headers, body)

    def payer(self, address: Address) -> str | None:
        """The project to bill for requests to an address."""
        if named := payer_of(address):
            self._payers[address.bucket] = named
        return self._payer or named

    async def _exchange(self, address: Address, request: Request) -> Response:
        origin, target = self._origin, self._root + request.target
        headers = {**self._headers, **request.headers, **await self._tokens.headers()}
        if not request.target.startswith("/"):  # the URL of an upload session, at our origin
            target = request.target.removeprefix(origin.url)
        return await self._http.send(
            origin, Request(request.method, target, headers, request.body, request.before_last)
        )

    async def _renew_credentials(self) -> bool:
        return await self._tokens.renew()

    def _refused(self, response: BufferedResponse, operation: str, address: Address) -> Exception:
        refusal, is_anonymous = Refusal.of_response(response), self._tokens.credentials is None
        return refusal.error(operation, address, endpoint=self.endpoint, is_anonymous=is_anonymous)


_API = "/storage/v1"


def _bucket_path(bucket: str) -> str:
    return f"{_API}/b/{quoted(bucket)}"


def _object_path(address: Address) -> str:
    return f"{_bucket_path(address.bucket)}/o/{quoted(address.key)}"


def _upload_path(address: Address) -> str:
    return f"/upload{_bucket_path(address.bucket)}/o"
