"""Azure's hot requests: put, get, head, list, copy, delete, and those of blocks, signed and sent by lakery-cloud."""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud.engine.attributes import ObjectAttributes
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
from lakery_cloud.http.headers import Clock, byte_range, http_date, quoted, read_content_range, strong
from lakery_cloud.providers.azure.answers import (
    ANSWERS,
    CopyAnswer,
    blob_of,
    check_answer,
    completed_blob,
    copied_blob,
    deleted_blob,
    described_blob,
    listed_page,
)
from lakery_cloud.providers.azure.checksums import OPTIONAL, Supported, checksum_headers
from lakery_cloud.providers.azure.copies import COPY_BLOB, PUT_FROM_URL, BlobCopy
from lakery_cloud.providers.azure.credentials import Tokens
from lakery_cloud.providers.azure.errors import CHECK_ACCOUNT, Refusal
from lakery_cloud.providers.azure.metadata import METADATA, described, tagged
from lakery_cloud.providers.azure.refusals import SET_CREDENTIALS
from lakery_cloud.providers.azure.signing import authorization, string_to_sign
from lakery_cloud.redaction import redact_error
from lakery_cloud.streams.parts import Part

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings

T = TypeVar("T")

SOURCE_AUTHORIZATION = "x-ms-copy-source-authorization"
"""The header with a token for the source of a copy."""
MAX_PAGE = 64 * 1024 * 1024
"""Bytes of a page of a listing: 5,000 blobs, each with up to 8 KiB of metadata (Microsoft Learn, "List Blobs")."""


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
        return await self._ask("get_blob_properties", address, request, partial(described_blob, address))

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        headers = without_none(**{"x-ms-range": byte_range(start, stop), "if-match": strong(version)})
        request = self._request("GET", address, headers)
        expected = ANSWERS["download_blob"].statuses
        return await self.open_body("download_blob", address, request, partial(_body, address), expected=expected)

    async def part(self, upload: Upload, part: Part, supported: Supported = OPTIONAL) -> Receipt:
        block = block_id(upload, part.number)
        headers = await checksum_headers(supported, *part.pieces)
        request = self._request("PUT", upload.address, headers, query=_query_of_block(block), body=part.pieces)
        await self._ask("stage_block", upload.address, request, partial(check_answer, "stage_block"))
        return Receipt(part.number, block)

    async def copy_part(
        self,
        upload: Upload,
        number: int,
        source: ObjectInfo,
        start: int,
        stop: int,
        *,
        grant: Mapping[str, str],
        seconds: float,
    ) -> Receipt:
        """Copy bytes `start` to `stop` of a blob as a block of another one. The response may take so many seconds.

        Args:
            upload: The blob with the new block.
            number: Number of the block.
            source: The blob to copy from.
            start: First byte.
            stop: The byte after the last one.
            grant: The permission to read the source, see `Grants.source`.
            seconds: Time limit of the response.
        """
        block = block_id(upload, number)
        headers = {**_source(source, grant), "x-ms-source-range": f"bytes={start}-{stop - 1}"}
        request = self._request("PUT", upload.address, headers, query=_query_of_block(block))
        request.read_timeout = seconds
        await self._ask("stage_block_from_url", upload.address, request, partial(check_answer, "stage_block_from_url"))
        return Receipt(number, block)

    async def complete(self, upload: Upload, receipts: Sequence[Receipt]) -> str | None:
        """Make a blob of its blocks, unless there is one, and return its version id in an account with versions.

        The condition is for uploads to temporary keys, too: a retry after a lost response makes no second version.
        """
        headers = {
            **described(upload.attributes, self._settings, is_temporary=upload.is_temporary),
            "content-type": "application/xml",
            "if-none-match": "*",
        }
        body = _list_of_blocks(receipts)
        request = self._request("PUT", upload.address, headers, query="comp=blocklist", body=(body,))
        return await self._ask("commit_block_list", upload.address, request, completed_blob)

    async def copy(self, copy: BlobCopy, *, grant: Mapping[str, str], seconds: float) -> CopyAnswer:
        """Copy a whole blob. The response may take so many seconds, and is waited for once, see `copy_once`."""
        headers = {
            **_source(copy.source, grant),
            **{METADATA + name: value for name, value in copy.metadata.items()},
            **tagged(copy.tags),
            **({"x-ms-copy-source-tag-option": "COPY"} if copy.has_tags_of_source else {}),
            **without_none(**{"x-ms-access-tier": self._settings.access_tier}),
            **({} if copy.replaces else {"if-none-match": "*"}),
            **_KINDS_OF_COPY[copy.operation],
        }
        request, read = self._request("PUT", copy.address, headers), partial(copied_blob, copy.operation)
        request.read_timeout, request.is_repeatable = seconds, False
        return await self._ask(copy.operation, copy.address, request, read)

    async def delete(
        self, address: Address, *, etag: str | None = None, version_id: str | None = None, is_permanent: bool = False
    ) -> bool:
        """Delete a blob, or a version of it; only the one with an ETag, if one is given.

        Args:
            address: Container and blob.
            etag: ETag of the blob, a strong one.
            version_id: The version.
            is_permanent: Whether to delete a version that is deleted softly.

        Returns:
            Whether the account keeps it for the days of its soft delete.
        """
        wanted = without_none(versionid=version_id, deletetype="Permanent" if is_permanent else None)
        request = self._request("DELETE", address, without_none(**{"if-match": etag}), query=_query(wanted))
        return await self._ask("delete_blob", address, request, deleted_blob)

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
        request = Request("GET", f"{self._root}/{quoted(bucket)}?{_query(wanted)}", {})
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
        if SOURCE_AUTHORIZATION in headers:
            headers[SOURCE_AUTHORIZATION] = headers["authorization"]  # after a refusal, with another token
        signed = Request(request.method, target, headers, request.body)
        signed.read_timeout = request.read_timeout
        return await self._http.send(self._origin, signed)

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


def _source(source: ObjectInfo, grant: Mapping[str, str]) -> dict[str, str]:
    """The headers that name the source of a copy."""
    return without_none(
        **{
            "x-ms-copy-source": grant["source_url"],
            SOURCE_AUTHORIZATION: grant.get("source_authorization"),
            "x-ms-source-if-match": strong(source.version),
        }
    )


_KINDS_OF_COPY = {
    COPY_BLOB: {"x-ms-requires-sync": "true"},  # an asynchronous copy would show a partial blob
    PUT_FROM_URL: {"x-ms-blob-type": "BlockBlob", "x-ms-copy-source-blob-properties": "true"},
}


def _query_of_block(block: str) -> str:
    return _query({"comp": "block", "blockid": _base64(block)})


def _query(parameters: Mapping[str, str]) -> str:
    return "&".join([f"{name}={quoted(value)}" for name, value in parameters.items()])


def _list_of_blocks(receipts: Sequence[Receipt]) -> bytes:
    """The body of Put Block List."""
    blocks = "".join([f"<Latest>{_base64(receipt.etag)}</Latest>" for receipt in receipts])
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _body(address: Address, response: Response) -> OpenBody:
    check_answer("download_blob", response)
    content_range = response.headers.get("content-range")
    if response.status == 206 and content_range is None:  # some stores send a range with 200
        raise UnsupportedResponse("a response 206 without Content-Range")
    start, _ = read_content_range(content_range, size=0)
    return Body(blob_of(address, response), BodyChunks(response.read), start), response.close
