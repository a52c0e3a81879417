"""Azure's hot requests: put, get, head and part, signed and sent by lakery-cloud, or called from the SDK."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core import MatchConditions
from azure.storage.blob import BlobProperties, ContentSettings, StandardBlobTier
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud.engine.attributes import METADATA_ALGORITHM, METADATA_HASH, METADATA_SIZE, ObjectAttributes
from lakery_cloud.engine.checksums import reported_checksum
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, BodyTooSlow, KeptVersion, ObjectInfo, Receipt, Upload, without_none
from lakery_cloud.engine.requests import BodyChunks, Requests
from lakery_cloud.engine.secret_key import SecretKey
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import (
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
from lakery_cloud.http.session import SLICE_SIZE
from lakery_cloud.providers.azure.answers import ANSWERS, check_answer, check_sdk_answer
from lakery_cloud.providers.azure.checksums import OPTIONAL, Supported, checksum_headers
from lakery_cloud.providers.azure.credentials import Tokens
from lakery_cloud.providers.azure.errors import CHECK_ACCOUNT, SDK_ERRORS, Refusal
from lakery_cloud.providers.azure.refusals import SET_CREDENTIALS
from lakery_cloud.providers.azure.signing import authorization, string_to_sign
from lakery_cloud.redaction import redact_error
from lakery_cloud.streams.parts import Part

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings

T = TypeVar("T")

METADATA_TAGS = "content_tags"
"""Where tags are kept as JSON if they are not index tags. The name is permanent."""
_TAG_COUNT = "x-ms-tag-count"

MAX_READ = 4 * 1024**2
"""Most bytes of one ranged read of the SDK, which holds a response in memory."""

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

    async def _ask(
        self, operation: str, address: Address, request: Request, read: Callable[[BufferedResponse], T]
    ) -> T:
        return await self.send(operation, address, request, read, expected=ANSWERS[operation].statuses)

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


class SDKRequests:
    """Hot requests as calls of the SDK, with its retries.

    Args:
        client: The SDK's client.
        settings: The storage's settings.
        translate: Makes the engine's error for an error of the SDK.
    """

    def __init__(
        self,
        client: BlobServiceClient,
        *,
        settings: "AzureSettings",
        translate: Callable[[Exception, str, Address], Exception],
    ) -> None:
        self._client = client
        self._settings = settings
        self._translate = translate
        attempts = settings.max_attempts * (settings.connect_timeout + settings.read_timeout)
        self._patience = attempts + MAX_READ / settings.min_rate if settings.min_rate else None

    async def put(
        self, address: Address, data: bytes, attributes: ObjectAttributes, supported: Supported = OPTIONAL
    ) -> None:
        await self._call(
            "upload_blob",
            address,
            data=data,
            length=len(data),
            headers=await checksum_headers(supported, data),
            raw_request_hook=_in_slices(data),
            match_condition=MatchConditions.IfMissing,
            **sdk_described(attributes, self._settings),
            **sdk_tier(self._settings),
        )

    async def head(self, address: Address) -> ObjectInfo:
        info: ObjectInfo = await self._call("get_blob_properties", address, read=partial(info_of_sdk, address))
        return info

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        # Azure refuses any range of an empty blob; if no range is given, the SDK knows that.
        part = {"offset": start, "length": stop and stop - start} if start or stop else {}
        pinned = strong(version)
        responses = _Responses()
        try:
            async with asyncio.timeout(self._patience):  # the call reads the first content too
                info, chunks = await self._call(
                    "download_blob",
                    address,
                    read=lambda download: (info_of_sdk(address, download.properties), download.chunks()),
                    **part,
                    max_concurrency=1,
                    decompress=False,
                    raw_response_hook=responses.note,
                    **without_none(etag=pinned, match_condition=pinned and MatchConditions.IfNotModified),
                )
        except TimeoutError as error:
            responses.close()
            raise BodyTooSlow(f"fewer than {self._settings.min_rate} bytes a second arrived") from error
        except BaseException:
            responses.close()
            raise

        async def read_chunk() -> bytes:
            try:
                return await anext(chunks, b"")
            except SDK_ERRORS as error:
                raise self._translate(error, "download_blob", address) from error

        return Body(info, BodyChunks(read_chunk), start), responses.close

    async def part(self, upload: Upload, part: Part, supported: Supported = OPTIONAL) -> Receipt:
        block = block_id(upload, part.number)
        await self._call(
            "stage_block",
            upload.address,
            block_id=block,
            data=b"".join(part.pieces),
            length=part.size,
            headers=await checksum_headers(supported, *part.pieces),
            raw_request_hook=_in_slices(*part.pieces),
        )
        return Receipt(part.number, block)

    async def _call(
        self, operation: str, address: Address, *, read: Callable[[Any], Any] | None = None, **parameters: Any
    ) -> Any:
        blob = self._client.get_blob_client(address.bucket, address.key)
        parameters.setdefault("raw_response_hook", check_sdk_answer)  # the client of a user has none
        try:
            answer = await getattr(blob, operation)(**parameters)
            return answer if read is None else read(answer)
        except LakeryCloudError:
            raise
        except SDK_ERRORS as error:
            raise self._translate(error, operation, address) from error


class _Responses:
    """Closes the responses of one read: the SDK keeps the connection of a stalled one until garbage collection."""

    def __init__(self) -> None:
        self._last: Any = None

    def note(self, response: Any) -> None:
        """A hook for the SDK: called with each response, of which the last one alone is in use."""
        self.close()
        self._last = response.http_response.internal_response
        check_sdk_answer(response)  # this hook replaces the client's

    def close(self) -> None:
        if self._last is not None:
            self._last.close()


def _in_slices(*pieces: bytes) -> Callable[[Any], None]:
    """A hook for the SDK: lets a large body be sent in slices, since TLS encrypts what it receives in one step."""

    def replace_body(request: Any) -> None:
        if sum(map(len, pieces)) > SLICE_SIZE:
            request.http_request.data = _Slices(*pieces)

    return replace_body


class _Slices:
    """A body in slices, which can be sent again."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for piece in self._pieces:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE_SIZE):
                yield view[start : start + SLICE_SIZE]


def block_id(upload: Upload, number: int) -> str:
    """The name of a block; those of one blob must have the same length."""
    return f"{upload.id}{number:06d}"


def described(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, str]:
    """The headers of a blob's attributes and tier."""
    headers = {_METADATA + name: value for name, value in _metadata(attributes, settings).items()}
    headers["x-ms-blob-content-type"] = attributes.content_type
    if attributes.content_encoding is not None:
        headers["x-ms-blob-content-encoding"] = attributes.content_encoding
    if settings.access_tier is not None:
        headers["x-ms-access-tier"] = settings.access_tier
    if tags := _index_tags(attributes, settings):
        headers["x-ms-tags"] = "&".join([f"{quoted(key)}={quoted(value)}" for key, value in tags.items()])
    return headers


def sdk_described(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, Any]:
    """A blob's attributes as parameters of a call."""
    return {
        "content_settings": ContentSettings(
            content_type=attributes.content_type, content_encoding=attributes.content_encoding
        ),
        "metadata": _metadata(attributes, settings),
        **without_none(tags=_index_tags(attributes, settings) or None),
    }


def sdk_tier(settings: "AzureSettings") -> dict[str, Any]:
    """The access tier of content as a parameter of a call."""
    return {"standard_blob_tier": StandardBlobTier(settings.access_tier)} if settings.access_tier else {}


def _index_tags(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, str]:
    return dict(attributes.tags) if settings.blob_tags else {}


def _metadata(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, str]:
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


def _known_tags(metadata: Mapping[str, str]) -> dict[str, str] | None:
    return tags_in_metadata(metadata) if METADATA_TAGS in metadata else None


def _our_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    return {_NAMES.get(name.lower(), name): value for name, value in metadata.items() if name != METADATA_TAGS}


def info_of_sdk(address: Address, properties: BlobProperties) -> ObjectInfo:
    """A blob by the SDK's description, of which a listing's has no quotes around the ETag.

    Raises:
        UnsupportedResponse: It has no ETag or size.
    """
    # Of an empty blob, the SDK makes up the range 0-0/0.
    _, _, size = (properties.content_range or f"/{properties.size}").rpartition("/")
    if not properties.etag or not SIZE.fullmatch(size):
        raise UnsupportedResponse("a response without an ETag or a size")
    return ObjectInfo(
        address,
        int(size),
        etag if (etag := properties.etag).endswith('"') else f'"{etag}"',
        None,
        properties.content_settings.content_type,
        properties.content_settings.content_encoding,
        properties.last_modified,
        _our_metadata(properties.metadata or {}),
        properties.version_id,
        _known_tags(properties.metadata or {}),
        count_of({_TAG_COUNT: str(properties.tag_count or 0)}, _TAG_COUNT),
        _tier(properties),
        reported_checksum("md5", base64.b64encode(properties.content_settings.content_md5 or b"")),
    )


def described_of_sdk(bucket: str, properties: BlobProperties, *, has_tags: bool) -> ObjectInfo:
    """A blob in a listing with metadata.

    Args:
        bucket: Its container.
        properties: The SDK's description.
        has_tags: Whether that has all tags of the blob.
    """
    info = info_of_sdk(Address(bucket, properties.name), properties)
    return info._replace(tags=dict(properties.tags or {})) if has_tags and info.tags is None else info


def _tier(properties: BlobProperties) -> str | None:
    tier = properties.blob_tier
    return tier if isinstance(tier, str) else None


def version_of_sdk(bucket: str, properties: BlobProperties) -> KeptVersion | None:
    """A version of a blob by the SDK's description; None if the account keeps no versions."""
    if not properties.version_id:
        return None
    is_current = bool(properties.is_current_version)
    return KeptVersion(Address(bucket, properties.name), properties.size or 0, properties.version_id, is_current)


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
        _our_metadata(metadata),
        headers.get("x-ms-version-id"),
        _known_tags(metadata),
        count_of(headers, _TAG_COUNT),
    )


def _body(address: Address, response: Response) -> OpenBody:
    check_answer("download_blob", response)
    content_range = response.headers.get("content-range")
    if response.status == 206 and content_range is None:  # some stores send a range with 200
        raise UnsupportedResponse("a response 206 without Content-Range")
    start, _ = read_content_range(content_range, size=0)
    return Body(_info(address, response), BodyChunks(response.read), start), response.close
