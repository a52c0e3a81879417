"""The requests of Cloud Storage's JSON API, all of them signed and sent by lakery-cloud.

gcsfs only finds credentials: its own requests have neither preconditions nor bounded retries.
"""

import json
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlsplit

import gcsfs
from gcsfs.core import GCSFileSystem

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.checksums import crc32c_header, header_to_hex
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.lifecycle import BucketRules, Rule
from lakery_cloud.engine.model import Body, KeyMissing, ObjectInfo, VersionChanged, without_none
from lakery_cloud.engine.requests import BodyChunks, Requests
from lakery_cloud.errors import ConfigError
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import BufferedResponse, Origin, Request, Response, UnsupportedResponse
from lakery_cloud.http.headers import byte_range, read_content_range, required, size_of
from lakery_cloud.providers.gcs.errors import Refusal
from lakery_cloud.providers.gcs.signing import Tokens
from lakery_cloud.streams.parts import Pieces

if TYPE_CHECKING:
    from lakery_cloud.providers.gcs.settings import GCSSettings

T = TypeVar("T")

TAG_PREFIX = "tag-"
"""Permanent: the names of tags in an object's metadata begin with it; no other name of ours does."""
MAX_PAGE = 64 * 1024 * 1024
"""Bytes of one page of a listing. Cloud Storage lists 1,000 objects at a time, fake-gcs-server all of them."""

_NUMBER = re.compile(r"[0-9]{1,20}")


class PaidAddress(Address):
    """An address from storage data that names the project to bill for its requests."""

    user_project: str | None = None


def payer_of(address: Address) -> str | None:
    """The project to bill for requests to an address; None if its storage data names none."""
    return address.user_project if isinstance(address, PaidAddress) else None


class StoredObject(NamedTuple):
    """An object as the API describes it.

    Attributes:
        info: Its description for the engine.
        crc32c: CRC-32C of its bytes, in base64.
        tags: Its tags.
    """

    info: ObjectInfo
    crc32c: str | None
    tags: Mapping[str, str]


class GCSRequests(Requests):
    """The requests of one storage.

    Args:
        fs: The file system, which knows where requests go and who pays.
        http: Sends the requests.
        tokens: Authenticates them.
        settings: The storage's settings.
    """

    def __init__(self, fs: GCSFileSystem, http: HTTPClient, *, tokens: Tokens, settings: "GCSSettings") -> None:
        super().__init__(endpoint=fs._location, max_attempts=settings.max_attempts)
        self._http = http
        self._tokens = tokens
        parts = urlsplit(self.endpoint)
        try:
            self._origin, self._root = Origin.of(self.endpoint), parts.path.rstrip("/")
        except ValueError:  # which repeats the endpoint, perhaps with a password
            raise ConfigError("STORAGE_EMULATOR_HOST must be a URL such as http://localhost:4443") from None
        self._payer = fs._get_params({}).get("userProject")  # counts before the project in storage data
        self._encrypted = without_none(kmsKeyName=settings.kms_key_name)
        self._stored_as = without_none(storageClass=settings.storage_class)
        self._headers = {"host": self._origin.netloc, "user-agent": f"python-gcsfs/{gcsfs.__version__}"}
        user, has_user, _ = parts.netloc.rpartition("@")  # of an emulator, in STORAGE_EMULATOR_HOST
        if has_user:
            self._headers["authorization"] = f"Basic {b64encode(unquote(user).encode()).decode()}"

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        await self.insert(address, (data,), self.resource(attributes), read=version_of)

    async def head(self, address: Address) -> ObjectInfo:
        return (await self.describe(address)).info

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        # Without `Accept-Encoding` the store decodes content that is stored as gzip.
        headers = without_none(**{"accept-encoding": "gzip", "range": byte_range(start, stop)})
        query = without_none(alt="media", generation=version, ifGenerationMatch=version)
        request = self._request("GET", _object_path(address), address, query=query, headers=headers)
        try:
            return await self.open_body("objects.get", address, request, partial(_body, address), expected=(200, 206))
        except KeyMissing as signal:
            if version is not None:
                await self.head(address)
                raise VersionChanged(str(address)) from signal
            raise

    async def describe(self, address: Address) -> StoredObject:
        """Describe an object.

        Raises:
            KeyMissing: The object does not exist.
        """
        request = self._request("GET", _object_path(address), address)
        return await self._call("objects.get", address, request, partial(stored_object, address))

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
        return await self._call("objects.insert", address, request, read)

    async def begin_resumable(self, address: Address, resource: Mapping[str, Any]) -> str:
        """Begin a resumable upload; return the URL of its session."""
        query = {"uploadType": "resumable", "name": address.key, "ifGenerationMatch": "0", **self._encrypted}
        headers = {"x-upload-content-type": resource["contentType"]}
        request = self._request("POST", _upload_path(address), address, query=query, headers=headers, content=resource)
        return await self.send("objects.insert (resumable)", address, request, _session_url, expected=(200, 201))

    async def send_chunk(
        self, address: Address, session_url: str, pieces: Pieces, *, content_range: str, content_type: str
    ) -> StoredObject | int:
        """Send a chunk of a resumable upload, or an empty one to ask for its state, in one attempt.

        Returns:
            The object if the upload is complete, else how many bytes the store has.
        """
        request = Request("PUT", session_url, {"content-range": content_range, "content-type": content_type}, pieces)
        read = partial(_stored_or_received, address)
        return await self.send("upload", address, request, read, expected=(200, 201, 308), attempts=1)

    async def cancel_resumable(self, address: Address, session_url: str) -> None:
        """Cancel a resumable upload. A missing or complete one is no error."""
        request = Request("DELETE", session_url, {})
        # The status of a cancelled upload is 499 (Cloud Storage, "Cancel an upload").
        await self.send("upload", address, request, _ignore, expected=(200, 204, 404, 410, 412, 499))

    async def compose(
        self, address: Address, resource: Mapping[str, Any], sources: Sequence[Mapping[str, str]], *, generation: str
    ) -> StoredObject:
        """Join sources, each with its `name` and `generation`, to an object that replaces a generation (0 for none)."""
        query = {"ifGenerationMatch": generation, **self._encrypted}
        content = {"destination": resource, "sourceObjects": sources}
        request = self._request("POST", f"{_object_path(address)}/compose", address, query=query, content=content)
        return await self._call("objects.compose", address, request, partial(stored_object, address))

    async def rewrite(
        self, source: ObjectInfo, address: Address, resource: Mapping[str, Any], *, token: str | None
    ) -> ObjectInfo | str:
        """Copy an object, pinned to its version; return the copy, or a token to continue with."""
        query = without_none(
            ifGenerationMatch="0",
            ifSourceGenerationMatch=source.version,
            destinationKmsKeyName=self._encrypted.get("kmsKeyName"),
            rewriteToken=token,
        )
        path = f"{_object_path(source.address)}/rewriteTo{_object_path(address).removeprefix(_API)}"
        request = self._request("POST", path, address, query=query, content=resource)
        return await self._call("objects.rewrite", address, request, partial(_copied, address))

    async def delete(self, address: Address, *, generation: str | None = None) -> bool:
        """Delete an object, or one generation of it; return whether it existed. A missing object is no error."""
        query = without_none(generation=generation)
        request = self._request("DELETE", _object_path(address), address, query=query)
        return await self.send("objects.delete", address, request, _has_existed, expected=(200, 204, 404))

    async def list_page(self, bucket: str, root: str, token: str | None) -> tuple[list[ObjectInfo], str | None]:
        """One page of the objects directly below a root, and the token of the next page."""
        fields = "items(name,size,generation,updated),nextPageToken"
        query = without_none(prefix=root, delimiter="/", fields=fields, pageToken=token)
        address = Address(bucket, root)
        request = self._request("GET", f"{_bucket_path(bucket)}/o", address, query=query)
        return await self._call("objects.list", address, request, partial(_page, bucket), max_size=MAX_PAGE)

    async def bucket(self, bucket: str, *, expected: Collection[int]) -> BufferedResponse:
        """A response about a bucket."""
        address = Address(bucket, "")
        request = self._request("GET", _bucket_path(bucket), address)
        return await self.send("buckets.get", address, request, lambda response: response, expected=expected)

    async def rules(self, address: Address) -> BucketRules:
        """The lifecycle rules of a bucket, and its metageneration as their version."""
        query = {"fields": "lifecycle,metageneration"}
        request = self._request("GET", _bucket_path(address.bucket), address, query=query)
        return await self._call("buckets.get", address, request, _rules)

    async def set_rules(self, address: Address, rules: Sequence[Rule], version: str) -> None:
        """Replace the lifecycle rules of a bucket.

        Raises:
            VersionChanged: The bucket has another metageneration.
        """
        query = {"fields": "metageneration", "ifMetagenerationMatch": version}
        content = {"lifecycle": {"rule": rules}}
        request = self._request("PATCH", _bucket_path(address.bucket), address, query=query, content=content)
        await self._call("buckets.patch", address, request, lambda bucket: _number(bucket, "metageneration"))

    def resource(self, attributes: ObjectAttributes, *, is_temporary: bool = False) -> dict[str, Any]:
        """The API's description of a new object."""
        # Names of tags are percent-encoded, since metadata is sent in headers too.
        tags = {f"{TAG_PREFIX}{_quoted(key)}": value for key, value in attributes.tags.items()}
        return without_none(
            contentType=attributes.content_type,
            contentEncoding=attributes.content_encoding,
            metadata={**attributes.metadata, **tags} or None,
            **({"storageClass": "STANDARD"} if is_temporary else self._stored_as),
        )

    async def _call(
        self, operation: str, address: Address, request: Request, read: Callable[[Any], T], **options: int
    ) -> T:
        """Send a request whose response is JSON."""
        return await self.send(operation, address, request, partial(_read_json, read), expected=(200,), **options)

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
        payer, headers = self._payer or payer_of(address), headers or {}
        query = {**(query or {}), **({"userProject": payer} if payer else {})}
        parameters = "&".join([f"{name}={_quoted(value)}" for name, value in query.items()])
        if content is not None:
            headers, body = {"content-type": "application/json", **headers}, (json.dumps(content).encode(),)
        return Request(method, f"{path}?{parameters}" if query else path, headers, body)

    async def _exchange(self, address: Address, request: Request) -> Response:
        origin, target = self._origin, self._root + request.target
        headers = {**self._headers, **request.headers, **await self._tokens.headers()}
        if not request.target.startswith("/"):  # the URL of an upload session
            origin = Origin.of(request.target)
            target, headers["host"] = request.target.removeprefix(origin.url), origin.netloc
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
    return f"{_API}/b/{_quoted(bucket)}"


def _object_path(address: Address) -> str:
    return f"{_bucket_path(address.bucket)}/o/{_quoted(address.key)}"


def _upload_path(address: Address) -> str:
    return f"/upload{_bucket_path(address.bucket)}/o"


def _quoted(text: str) -> str:
    return text if text.isalnum() and text.isascii() else quote(text, safe="")


def _ignore(response: BufferedResponse) -> None:
    """Read nothing: the status proves success."""


def _has_existed(response: BufferedResponse) -> bool:
    return response.status != 404


def _read_json(read: Callable[[Any], T], response: BufferedResponse) -> T:
    try:
        return read(json.loads(response.body.decode()))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise UnsupportedResponse("a malformed JSON response") from error


def _number(resource: Mapping[str, Any], name: str) -> str:
    """A whole number, which the API writes as text."""
    number = str(resource.get(name))
    if not _NUMBER.fullmatch(number):
        raise UnsupportedResponse(f"a response without {name}")
    return number


def version_of(resource: Mapping[str, Any]) -> str:
    """The generation of a new object. Its description has more, which would take time to read."""
    _number(resource, "size")
    return _number(resource, "generation")


def stored_object(address: Address, resource: Mapping[str, Any]) -> StoredObject:
    metadata: Mapping[str, str] = resource.get("metadata") or {}
    md5 = resource.get("md5Hash")  # a composed object has none
    info = ObjectInfo(
        address,
        int(_number(resource, "size")),
        _number(resource, "generation"),
        f"md5:{header_to_hex(md5)}" if md5 else None,
        resource.get("contentType"),
        resource.get("contentEncoding"),
        datetime.fromisoformat(resource["updated"]) if resource.get("updated") else None,
        {name: value for name, value in metadata.items() if not name.startswith(TAG_PREFIX)},
    )
    tags = {unquote(name[len(TAG_PREFIX) :]): metadata[name] for name in metadata if name.startswith(TAG_PREFIX)}
    return StoredObject(info, resource.get("crc32c"), tags)


def _body(address: Address, response: Response) -> OpenBody:
    headers = response.headers
    content_range = headers.get("content-range")
    if response.status == 206 and content_range is None:  # some stores send a range with 200
        raise UnsupportedResponse("a response 206 without Content-Range")
    stored = headers.get("x-goog-stored-content-length", "")
    size = int(stored) if _NUMBER.fullmatch(stored) else size_of(headers)
    start, size = read_content_range(content_range, size=size)
    info = ObjectInfo(address, size, headers.get("x-goog-generation"), None, headers.get("content-type"))
    return Body(info, BodyChunks(response.read), start), response.close


def _session_url(response: BufferedResponse) -> str:
    url = required(response.headers, "location")
    try:
        is_url = url.startswith(f"{Origin.of(url).url}/")
    except ValueError:
        is_url = False
    if not is_url:
        raise UnsupportedResponse("a response with a malformed Location")
    return url


def _stored_or_received(address: Address, response: BufferedResponse) -> StoredObject | int:
    if response.status != 308:
        return _read_json(partial(stored_object, address), response)
    received = response.headers.get("range")
    if received is None:
        return 0
    last = received.removeprefix("bytes=0-")
    if not _NUMBER.fullmatch(last):
        raise UnsupportedResponse("a response with a malformed Range")
    return int(last) + 1


def _copied(address: Address, progress: Mapping[str, Any]) -> ObjectInfo | str:
    return (
        stored_object(address, progress["resource"]).info if progress["done"] is True else str(progress["rewriteToken"])
    )


def _page(bucket: str, page: Mapping[str, Any]) -> tuple[list[ObjectInfo], str | None]:
    entries = [stored_object(Address(bucket, str(entry["name"])), entry).info for entry in page.get("items") or ()]
    token = page.get("nextPageToken")
    return entries, str(token) if token else None


def _rules(bucket: Mapping[str, Any]) -> BucketRules:
    rules = (bucket.get("lifecycle") or {}).get("rule") or ()
    rules = [{**rule, "condition": dict(rule["condition"])} for rule in rules]
    return BucketRules(rules, _number(bucket, "metageneration"))
