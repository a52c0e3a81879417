"""What Azure promises for each operation, the check that a response is that, and what it says of blobs.

Nothing else counts as success.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree.ElementTree import Element

from azure.core import exceptions as azure_errors

from lakery_cloud.engine.checksums import reported_checksum
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.engine.requests import THROTTLES
from lakery_cloud.http.exchange import BufferedResponse, Response, UnsupportedResponse
from lakery_cloud.http.headers import SIZE, count_of, read_content_range, required, size_of, time_of
from lakery_cloud.http.xml import fields_of, parse, root_of
from lakery_cloud.providers.azure.metadata import METADATA, TAG_COUNT, known_tags, our_metadata
from lakery_cloud.streams.pace import note_throttle


class UnusableResponse(azure_errors.ServiceResponseError):
    """A response to the SDK that is not what the API promises. The SDK sends the request again."""


class Throttled(azure_errors.ServiceRequestError):
    """A refusal by overload, which the SDK does not retry as a response.

    Args:
        headers: Headers of the response.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__("Azure answered 429: too many requests")
        self.headers = headers


class FeatureRefused(Exception):
    """Azurite's refusal of a header, with the status 500. Not an error of the SDK, which would send the request again."""

    code = "FeatureNotSupported"
    status = HTTPStatus.INTERNAL_SERVER_ERROR


class CopyAnswer(NamedTuple):
    """What Azure says of a copy.

    Attributes:
        status: State of the copy, such as `success`; None if the response itself proves the success.
        copy_id: Name of the copy.
        version_id: Version id of the new blob, in an account with versions.
    """

    status: str | None
    copy_id: str | None
    version_id: str | None


class Answer(NamedTuple):
    """A response of success: Microsoft Learn, "Operations on blobs" and "Operations on containers", page by page.

    Attributes:
        statuses: Status codes.
        headers: Headers that prove the effect, in lower case.
        root: The element that the body consists of; empty if it has none.
    """

    statuses: tuple[int, ...]
    headers: tuple[str, ...] = ("x-ms-request-id",)
    root: str = ""


_MADE = ("etag", "x-ms-request-id")
ANSWERS: Mapping[str, Answer] = {
    "upload_blob": Answer((201,), _MADE),
    "upload_blob_from_url": Answer((201,), _MADE),
    "stage_block": Answer((201,)),
    "stage_block_from_url": Answer((201,)),
    "commit_block_list": Answer((201,), _MADE),
    "start_copy_from_url": Answer((202,), ("etag", "x-ms-copy-status")),
    "abort_copy": Answer((204,)),
    "get_blob_properties": Answer((200,), ("etag", "content-length", "x-ms-request-id")),
    "download_blob": Answer((200, 206), ("etag", "content-length", "x-ms-request-id")),
    "delete_blob": Answer((202,)),
    "get_blob_tags": Answer((200,), root="Tags"),
    "get_block_list": Answer((200,), root="BlockList"),
    "list_blobs": Answer((200,), root="EnumerationResults"),
    "get_container_properties": Answer((200,), _MADE),
    "get_user_delegation_key": Answer((200,), root="UserDelegationKey"),
}
"""The SDK's name of an operation -> its answer."""

_OPERATIONS = {
    ("PUT", "", "", False): "upload_blob",
    ("PUT", "", "block", False): "stage_block",
    ("PUT", "", "block", True): "stage_block_from_url",
    ("PUT", "", "blocklist", False): "commit_block_list",
    ("PUT", "", "", True): "start_copy_from_url",
    ("PUT", "", "copy", False): "abort_copy",
    ("HEAD", "", "", False): "get_blob_properties",
    ("GET", "", "", False): "download_blob",
    ("DELETE", "", "", False): "delete_blob",
    ("GET", "", "tags", False): "get_blob_tags",
    ("GET", "", "blocklist", False): "get_block_list",
    ("GET", "container", "list", False): "list_blobs",
    ("GET", "container", "", False): "get_container_properties",
    ("POST", "service", "userdelegationkey", False): "get_user_delegation_key",
}
"""(method, restype, comp, has a source) -> operation."""


def check_sdk_answer(response: Any) -> None:
    """A hook for the SDK: refuses responses of success that are not what the API promises, and notes those that throttle.

    Of responses the SDK retries only 408 and 5xx, but also any error of its own.

    Raises:
        UnusableResponse: The response proves nothing.
        Throttled: The store is overloaded.
        FeatureRefused: The store does not support a header.
    """
    answer, request = response.http_response, response.http_request
    if answer.status_code in THROTTLES:
        note_throttle()
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise Throttled(answer.headers)
    if (answer.status_code, answer.headers.get("x-ms-error-code")) == (FeatureRefused.status, FeatureRefused.code):
        raise FeatureRefused(answer.reason)  # Azurite's has the whole message
    if answer.status_code >= 400:
        return
    query = parse_qs(urlsplit(request.url).query)
    kind = (*(query.get(name, [""])[0] for name in ("restype", "comp")), "x-ms-copy-source" in request.headers)
    operation = _OPERATIONS.get((request.method, *kind))
    if operation is None:
        return
    if operation == "start_copy_from_url" and "x-ms-blob-type" in request.headers:
        operation = "upload_blob_from_url"
    try:
        _check_head(operation, answer.status_code, {name.lower(): value for name, value in answer.headers.items()})
        if operation != "download_blob":
            _check_body(operation, answer.body())
    except UnsupportedResponse as error:
        raise UnusableResponse(str(error)) from error


def check_answer(operation: str, response: Response | BufferedResponse) -> None:
    """The same for a response to our own request.

    Raises:
        UnsupportedResponse: The response proves nothing.
    """
    _check_head(operation, response.status, response.headers)
    if isinstance(response, BufferedResponse):
        _check_body(operation, response.body)


def _check_head(operation: str, status: int, headers: Mapping[str, str]) -> None:
    expected = ANSWERS[operation]
    if status not in expected.statuses:
        raise UnsupportedResponse(f"a response {status}")
    for name in expected.headers:
        if not headers.get(name):
            raise UnsupportedResponse(f"a response without {name}")
    if operation == "download_blob":
        read_content_range(headers.get("content-range"), size=0)


def _check_body(operation: str, body: bytes) -> None:
    root = ANSWERS[operation].root
    if not root and body:
        raise UnsupportedResponse("a response with a body that it never has")
    if root and root_of(body) != root:
        raise UnsupportedResponse(f"a response without {root}")


def described_blob(address: Address, response: BufferedResponse) -> ObjectInfo:
    """The blob that a response to a HEAD describes.

    Raises:
        UnsupportedResponse: The response proves nothing.
    """
    check_answer("get_blob_properties", response)
    return blob_of(address, response)._replace(checksums=reported_checksum("md5", response.headers.get("content-md5")))


def completed_blob(response: BufferedResponse) -> str | None:
    """The version id of the blob that Put Block List made; None in an account without versions.

    Raises:
        UnsupportedResponse: The response proves no blob.
    """
    check_answer("commit_block_list", response)
    return response.headers.get("x-ms-version-id")


def copied_blob(operation: str, response: BufferedResponse) -> CopyAnswer:
    """What a response to a copy says.

    Args:
        operation: The SDK's name of the request.
        response: The response.

    Raises:
        UnsupportedResponse: The response proves nothing.
    """
    check_answer(operation, response)
    return CopyAnswer(*map(response.headers.get, ("x-ms-copy-status", "x-ms-copy-id", "x-ms-version-id")))


def deleted_blob(response: BufferedResponse) -> bool:
    """Whether the account keeps what was deleted, for the days of its soft delete.

    Raises:
        UnsupportedResponse: The response proves no deletion.
    """
    check_answer("delete_blob", response)
    return response.headers.get("x-ms-delete-type-permanent") == "false"


def blob_of(address: Address, response: Response | BufferedResponse) -> ObjectInfo:
    """The blob that the headers of a response describe.

    Raises:
        UnsupportedResponse: A header is missing or malformed.
    """
    headers = response.headers
    _, size = read_content_range(headers.get("content-range"), size=size_of(headers))
    metadata = {name.removeprefix(METADATA): value for name, value in headers.items() if name.startswith(METADATA)}
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
