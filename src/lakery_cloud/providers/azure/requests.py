"""Azure's hot requests: put, get, head, list and part, signed and sent by lakery-cloud."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud.engine.attributes import METADATA_ALGORITHM, METADATA_HASH, METADATA_SIZE, ObjectAttributes
from lakery_cloud.engine.checksums import reported_checksum
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, ObjectInfo, Receipt, Upload, without_none
from lakery_cloud.engine.requests import BodyChunks, Requests
from lakery_cloud.engine.secret_key import SecretKey
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import (
    MAX_BUFFERED,
    BufferedResponse,
    ConnectFailed,
    HTTPError,
    Origin,
    ProxyFailed,
    Request,
    Response,
    TLSFailed,
    UnsupportedResponse,
)
from lakery_cloud.http.headers import (
    SIZE,
    Clock,
    byte_range,
    count_of,
    http_date,
    quoted,
    read_content_range,
    required,
    size_of,
    strong,
    time_of,
)
from lakery_cloud.http.xml import fields_of, parse
from lakery_cloud.providers.azure.answers import ANSWERS, check_answer
from lakery_cloud.providers.azure.checksums import OPTIONAL, Supported, checksum_headers
from lakery_cloud.providers.azure.credentials import Tokens
from lakery_cloud.providers.azure.errors import CHECK_ACCOUNT, Refusal
from lakery_cloud.providers.azure.refusals import SET_CREDENTIALS
from lakery_cloud.providers.azure.signing import authorization, string_to_sign
from lakery_cloud.redaction import redact_error
from lakery_cloud.streams.parts import Part

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings

T = TypeVar("T")

METADATA_TAGS = "content_tags"
"""Where tags are kept as JSON if they are not index tags. The name is permanent."""
TAG_COUNT = "x-ms-tag-count"
"""The header with the number of index tags."""
MAX_PAGE = 64 * 1024 * 1024
"""Bytes of a page of a listing: 5,000 blobs, each with up to 8 KiB of metadata (Microsoft Learn, "List Blobs")."""

_METADATA = "x-ms-meta-"
# Azure's names of metadata are C# identifiers.
_NAMES = {name.replace("-", "_"): name for name in (METADATA_HASH, METADATA_ALGORITHM, METADATA_SIZE)}


class AzureRequests(Requests):
    """Hot requests that lakery-cloud signs and sends itself.

    Args:
        client: The SDK's client, which knows where requests go and what authorizes them.
        http: Sends the requests.
        settings: The storage's settings.
    """

    def __init__(self, client: BlobServiceClient, http: HTTPClient, *, settings: "AzureSettings") -> None:
        url, _, signature = client.url.partition("?")
        super().__init__(endpoint=url, max_attempts=settings.max_attempts)
        self._http = http
        self._origin = Origin.of(url)
        self._root = url.removeprefix(self._origin.url).rstrip("/")
        self._version = client.api_version
        self._credential = client.credential
        self._signature = signature
        self._tokens = client.credential if isinstance(client.credential, Tokens) else None
        self._challenge = ""
        self._settings = settings
        self._clock = Clock(http_date)
        self._secret: tuple[str, SecretKey] | None = None

    async def put(
        self, address: Address, data: bytes, attributes: ObjectAttributes, supported: Supported = OPTIONAL
    ) -> None:
        headers = {
            **described(attributes, self._settings),
            **await checksum_headers(supported, data),
            "if-none-match": "*",
            "x-ms-blob-type": "BlockBlob",
        }
        request = self._request("PUT", address, headers, body=(data,))
        await self._ask("upload_blob", address, request, partial(check_answer, "upload_blob"))

    async def head(self, address: Address) -> ObjectInfo:
        request = self._request("HEAD", address, {})
        return await self._ask("get_blob_properties", address, request, partial(_described, address))

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        headers = without_none(**{"x-ms-range": byte_range(start, stop), "if-match": strong(version)})
        request = self._request("GET", address, headers)
        expected = ANSWERS["download_blob"].statuses
        return await self.open_body("download_blob", address, request, partial(_body, address), expected=expected)

    async def part(self, upload: Upload, part: Part, supported: Supported = OPTIONAL) -> Receipt:
        block = block_id(upload, part.number)
        request = self._request(
            "PUT",
            upload.address,
            await checksum_headers(supported, *part.pieces),
            query=f"comp=block&blockid={quoted(base64.b64encode(block.encode()).decode())}",
            body=part.pieces,
        )
        await self._ask("stage_block", upload.address, request, partial(check_answer, "stage_block"))
        return Receipt(part.number, block)

    async def page(
        self, bucket: str, root: str, token: str | None, *, include: Sequence[str] = (), has_tags: bool = False
    ) -> tuple[list[ObjectInfo], str | None]:
        """Blobs whose names begin with the root and have no `/` after it, and the token of the next page.

        Args:
            bucket: Their container.
            root: How their names begin.
            token: The token of the page.
            include: What the listing tells of a blob beside its properties.
            has_tags: Whether that has all tags of a blob.
        """
        size = self._settings.limits.page_size
        wanted = without_none(
            restype="container",
            comp="list",
            prefix=root or None,
            delimiter="/",
            include=",".join(include) or None,
            marker=token,
            maxresults=None if size is None else str(size),
        )
        query = "&".join([f"{name}={quoted(value)}" for name, value in wanted.items()])
        request = Request("GET", f"{self._root}/{quoted(bucket)}?{query}", {})
        read = partial(listed_page, bucket, has_tags=has_tags)
        return await self._ask("list_blobs", Address(bucket, root), request, read, max_size=MAX_PAGE)

    async def _ask(
        self,
        operation: str,
        address: Address,
        request: Request,
        read: Callable[[BufferedResponse], T],
        *,
        max_size: int = MAX_BUFFERED,
    ) -> T:
        return await self.send(
            operation, address, request, read, expected=ANSWERS[operation].statuses, max_size=max_size
        )

    def _request(
        self, method: str, address: Address, headers: dict[str, str], *, query: str = "", body: tuple[bytes, ...] = ()
    ) -> Request:
        """A request without its signature."""
        path = f"{self._root}/{quoted(address.bucket)}/{quoted(address.key, safe='/')}"
        return Request(method, f"{path}?{query}" if query else path, headers, body)

    async def _exchange(self, address: Address, request: Request) -> Response:
        headers = {
            **request.headers,
            "host": self._origin.netloc,
            "x-ms-date": self._clock.now(),
            "x-ms-version": self._version,
        }
        if request.method == "PUT":
            headers["content-length"] = str(request.size)
        signature = getattr(self._credential, "signature", self._signature).removeprefix("?")
        target = request.target
        if signature:
            target += f"{'&' if '?' in target else '?'}{signature}"
        headers |= await self._authorization(address, request.method, target, headers)
        return await self._http.send(self._origin, Request(request.method, target, headers, request.body))

    async def _authorization(
        self, address: Address, method: str, target: str, headers: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The header that authorizes a request; none where a signature in its URL does."""
        if key := getattr(self._credential, "account_key", None):
            account, (path, _, query) = self._credential.account_name, target.partition("?")
            text = string_to_sign(account, method, path, query=query, headers=headers)
            try:
                return {"authorization": authorization(account, self._secret_key(key), text)}
            except ValueError:
                failure = self.failure("signing", address, "the account's key is not base64")
            raise failure.credentials_refused(SET_CREDENTIALS)
        if self._tokens is None:
            return {}
        return await self._tokens.headers()  # a client with a token uses TLS, which the SDK checks

    def _secret_key(self, key: str) -> SecretKey:
        if self._secret is None or self._secret[0] != key:
            self._secret = key, SecretKey(base64.b64decode(key))
        return self._secret[1]

    async def _renew_credentials(self) -> bool:
        return self._tokens is not None and await self._tokens.renew(self._challenge)

    def _refused(self, response: BufferedResponse, operation: str, address: Address) -> Exception:
        if response.status == 401:
            self._challenge = response.headers.get("www-authenticate", "")
        return Refusal.of_response(response).error(operation, address, endpoint=self.endpoint)

    def _failed(self, error: HTTPError, operation: str, address: Address) -> Exception:
        if isinstance(error, ConnectFailed) and not isinstance(error, TLSFailed | ProxyFailed):
            return self.failure(operation, address, redact_error(error)).unreachable(CHECK_ACCOUNT)
        return super()._failed(error, operation, address)


def block_id(upload: Upload, number: int) -> str:
    """The name of a block; those of one blob must have the same length."""
    return f"{upload.id}{number:06d}"


def described(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, str]:
    """The headers of a blob's attributes and tier."""
    headers = {_METADATA + name: value for name, value in metadata_of(attributes, settings).items()}
    headers["x-ms-blob-content-type"] = attributes.content_type
    if attributes.content_encoding is not None:
        headers["x-ms-blob-content-encoding"] = attributes.content_encoding
    if settings.access_tier is not None:
        headers["x-ms-access-tier"] = settings.access_tier
    if tags := index_tags_of(attributes, settings):
        headers["x-ms-tags"] = "&".join([f"{quoted(key)}={quoted(value)}" for key, value in tags.items()])
    return headers


def index_tags_of(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, str]:
    """The tags that are index tags of a blob."""
    return dict(attributes.tags) if settings.blob_tags else {}


def metadata_of(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, str]:
    """The metadata of a blob, with tags that are no index tags."""
    metadata = {name.replace("-", "_"): value for name, value in attributes.metadata.items()}
    if attributes.tags and not settings.blob_tags:
        metadata[METADATA_TAGS] = json.dumps(dict(attributes.tags), separators=(",", ":"))
    return metadata


def tags_in_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The tags in a blob's metadata; none if another program wrote them."""
    try:
        tags = json.loads(metadata.get(METADATA_TAGS, "{}"))
    except ValueError:
        return {}
    return tags if isinstance(tags, dict) else {}


def known_tags(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """The tags in a blob's metadata, or None if it has no place for them."""
    return tags_in_metadata(metadata) if METADATA_TAGS in metadata else None


def our_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a blob by the names of `ObjectAttributes`, without tags."""
    return {_NAMES.get(name.lower(), name): value for name, value in metadata.items() if name != METADATA_TAGS}


def _described(address: Address, response: BufferedResponse) -> ObjectInfo:
    check_answer("get_blob_properties", response)
    return _info(address, response)._replace(checksums=reported_checksum("md5", response.headers.get("content-md5")))


def _info(address: Address, response: Response | BufferedResponse) -> ObjectInfo:
    headers = response.headers
    _, size = read_content_range(headers.get("content-range"), size=size_of(headers))
    metadata = {name.removeprefix(_METADATA): value for name, value in headers.items() if name.startswith(_METADATA)}
    return ObjectInfo(
        address,
        size,
        required(headers, "etag"),
        None,
        headers.get("content-type"),
        headers.get("content-encoding"),
        time_of(headers.get("last-modified")),
        our_metadata(metadata),
        headers.get("x-ms-version-id"),
        known_tags(metadata),
        count_of(headers, TAG_COUNT),
    )


_READ = (
    *("Blobs", "NextMarker", "Name", "VersionId", "Properties", "Metadata", "Tags"),
    *("Etag", "Last-Modified", "Content-Length", "Content-Type", "Content-Encoding", "Content-MD5"),
    *("AccessTier", "TagCount"),
)
"""The elements of a listing that are read."""


def listed_page(bucket: str, response: BufferedResponse, *, has_tags: bool) -> tuple[list[ObjectInfo], str | None]:
    """A page of blobs, and the token of the next page.

    Args:
        bucket: Their container.
        response: The response to a listing.
        has_tags: Whether that has all tags of a blob.

    Raises:
        UnsupportedResponse: It is no listing.
    """
    check_answer("list_blobs", response)
    page = parse(response.body, ANSWERS["list_blobs"].root)
    fields = fields_of(page, _READ)
    if not {"Blobs", "NextMarker"} <= fields.keys():
        raise UnsupportedResponse("a listing without Blobs or NextMarker")
    return [_listed(bucket, entry, has_tags=has_tags) for entry in page.iterfind("Blobs/Blob")], fields["NextMarker"]


def _listed(bucket: str, entry: Element, *, has_tags: bool) -> ObjectInfo:
    fields, properties = fields_of(entry, _READ), entry.find("Properties")
    found = {} if properties is None else fields_of(properties, _READ)
    name, size = entry.find("Name"), found.get("Content-Length") or ""
    etag, modified = found.get("Etag"), found.get("Last-Modified")
    if name is None or not name.text or not etag or not SIZE.fullmatch(size):
        raise UnsupportedResponse("a listing without the name, the ETag or the size of a blob")
    if (last_modified := time_of(modified)) is None:
        raise UnsupportedResponse("a listing without the time of a blob")
    metadata = {child.tag: child.text or "" for child in entry.iterfind("Metadata/*")}
    tags = known_tags(metadata)
    if tags is None and has_tags:
        tags = {tag.findtext("Key", ""): tag.findtext("Value", "") for tag in entry.iterfind("Tags/TagSet/Tag")}
    return ObjectInfo(
        Address(bucket, unquote(name.text) if name.get("Encoded") == "true" else name.text),
        int(size),
        etag if etag.endswith('"') else f'"{etag}"',
        None,
        found.get("Content-Type"),
        found.get("Content-Encoding"),
        last_modified,
        our_metadata(metadata),
        fields.get("VersionId"),
        tags,
        count_of({TAG_COUNT: found.get("TagCount") or "0"}, TAG_COUNT),
        found.get("AccessTier"),
        reported_checksum("md5", found.get("Content-MD5")),
    )


def _body(address: Address, response: Response) -> OpenBody:
    check_answer("download_blob", response)
    content_range = response.headers.get("content-range")
    if response.status == 206 and content_range is None:  # some stores send a range with 200
        raise UnsupportedResponse("a response 206 without Content-Range")
    start, _ = read_content_range(content_range, size=0)
    return Body(_info(address, response), BodyChunks(response.read), start), response.close
