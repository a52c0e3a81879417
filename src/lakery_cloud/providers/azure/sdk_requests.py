"""Azure's requests as calls of the SDK: the hot ones, and the shapes of all others."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core import MatchConditions
from azure.storage.blob import BlobBlock, BlobProperties, ContentSettings, StandardBlobTier
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.checksums import reported_checksum
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, BodyTooSlow, KeptVersion, ObjectInfo, Receipt, Upload, without_none
from lakery_cloud.engine.requests import BodyChunks
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.http.exchange import UnsupportedResponse
from lakery_cloud.http.headers import SIZE, count_of, strong
from lakery_cloud.http.session import SLICE_SIZE
from lakery_cloud.providers.azure.answers import CopyAnswer, check_sdk_answer
from lakery_cloud.providers.azure.checksums import OPTIONAL, Supported, checksum_headers
from lakery_cloud.providers.azure.copies import COPY_BLOB, BlobCopy
from lakery_cloud.providers.azure.errors import SDK_ERRORS
from lakery_cloud.providers.azure.metadata import TAG_COUNT, index_tags_of, known_tags, metadata_of, our_metadata
from lakery_cloud.providers.azure.requests import block_id
from lakery_cloud.streams.parts import Part

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings

T = TypeVar("T")

MAX_READ = 4 * 1024**2
"""Most bytes of one ranged read of the SDK, which holds a response in memory."""


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

    async def copy_part(
        self,
        upload: Upload,
        number: int,
        source: ObjectInfo,
        start: int,
        stop: int,
        *,
        grant: Mapping[str, Any],
        seconds: float,
    ) -> Receipt:
        block = block_id(upload, number)
        await self._call(
            "stage_block_from_url",
            upload.address,
            block_id=block,
            source_offset=start,
            source_length=stop - start,
            read_timeout=seconds,
            headers=without_none(**{"x-ms-source-if-match": strong(source.version)}),
            **grant,
        )
        return Receipt(number, block)

    async def complete(self, upload: Upload, receipts: Sequence[Receipt]) -> str | None:
        made = await self._call(
            "commit_block_list",
            upload.address,
            block_list=[BlobBlock(block_id=receipt.etag) for receipt in receipts],
            match_condition=MatchConditions.IfMissing,
            **sdk_described(upload.attributes, self._settings),
            **({} if upload.is_temporary else sdk_tier(self._settings)),
        )
        version_id: str | None = made.get("version_id")
        return version_id

    async def copy(self, copy: BlobCopy, *, grant: Mapping[str, Any], seconds: float) -> CopyAnswer:
        version = strong(copy.source.version)
        options: dict[str, Any] = {
            "metadata": dict(copy.metadata) or None,
            **without_none(tags="COPY" if copy.has_tags_of_source else dict(copy.tags) or None),
            **({"source_etag": version, "source_match_condition": MatchConditions.IfNotModified} if version else {}),
            **({} if copy.replaces else {"match_condition": MatchConditions.IfMissing}),
            # An asynchronous copy would show a partial blob.
            **({"requires_sync": True} if copy.operation == COPY_BLOB else {"overwrite": copy.replaces}),
            **sdk_tier(self._settings),
            **grant,
        }
        # A copy is waited for once, see `copy_once`.
        answer = await self._call(copy.operation, copy.address, read_timeout=seconds, retry_read=0, **options)
        return CopyAnswer(*map(answer.get, ("copy_status", "copy_id", "version_id")))

    async def delete(
        self, address: Address, *, etag: str | None = None, version_id: str | None = None, is_permanent: bool = False
    ) -> bool:
        responses: list[Any] = []

        def note(response: Any) -> None:
            responses.append(response.http_response)
            check_sdk_answer(response)

        await self._call(
            "delete_blob",
            address,
            raw_response_hook=note,
            **without_none(
                etag=etag,
                match_condition=etag and MatchConditions.IfNotModified,
                version_id=version_id,
                blob_delete_type="Permanent" if is_permanent else None,
            ),
        )
        # The SDK forgets the hook when a connection breaks; then the version stays for the days of its soft delete.
        return bool(responses) and responses[-1].headers.get("x-ms-delete-type-permanent") == "false"

    async def page(
        self, bucket: str, root: str, token: str | None, *, include: Sequence[str] = (), has_tags: bool = False
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        read, options = partial(described_of_sdk, bucket, has_tags=has_tags), {"include": [*include]} if include else {}
        try:
            return await page_of_sdk(self._client, bucket, root, token, self._settings, read, **options)
        except LakeryCloudError:
            raise
        except SDK_ERRORS as error:
            raise self._translate(error, "list_blobs", Address(bucket, root)) from error

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


async def page_of_sdk(
    client: BlobServiceClient,
    bucket: str,
    root: str,
    token: str | None,
    settings: "AzureSettings",
    read: Callable[[BlobProperties], T],
    **options: Any,
) -> tuple[Sequence[T], str | None]:
    """A page of a listing, and the token of the next one.

    Args:
        client: The SDK's client.
        bucket: The container.
        root: How the names begin; none has a `/` after it.
        token: The token of the page.
        settings: The storage's settings.
        read: Reads the SDK's description of a blob.
        options: What else to tell the SDK.
    """
    pages: Any = (
        client.get_container_client(bucket)
        .walk_blobs(
            name_starts_with=root,
            delimiter="/",
            results_per_page=settings.limits.page_size,
            raw_response_hook=check_sdk_answer,
            **options,
        )
        .by_page(token)
    )
    page = await anext(pages)
    # The other entries are folders.
    entries = [read(entry) async for entry in page if isinstance(entry, BlobProperties)]
    return entries, pages.continuation_token or None


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


def sdk_described(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, Any]:
    """A blob's attributes as parameters of a call."""
    return {
        "content_settings": ContentSettings(
            content_type=attributes.content_type, content_encoding=attributes.content_encoding
        ),
        "metadata": metadata_of(attributes, settings),
        **without_none(tags=index_tags_of(attributes, settings) or None),
    }


def sdk_tier(settings: "AzureSettings") -> dict[str, Any]:
    """The access tier of content as a parameter of a call."""
    return {"standard_blob_tier": StandardBlobTier(settings.access_tier)} if settings.access_tier else {}


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
        our_metadata(properties.metadata or {}),
        properties.version_id,
        known_tags(properties.metadata or {}),
        count_of({TAG_COUNT: str(properties.tag_count or 0)}, TAG_COUNT),
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
