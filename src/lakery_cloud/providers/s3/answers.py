"""What a response must be to count as success, and what it says."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.checksums import header_to_hex, reported_checksum
from lakery_cloud.engine.keys import Address, is_temporary
from lakery_cloud.engine.model import KeptVersion, ObjectInfo, Receipt, Upload
from lakery_cloud.http.exchange import BufferedResponse, Request, UnsupportedResponse
from lakery_cloud.http.headers import SIZE, count_of, read_content_range, required, size_of, time_of
from lakery_cloud.http.xml import fields_of, parse, root_of, space_of

Answer = Mapping[str, Any]
"""An answer of the SDK."""


def sdk_required(answer: Answer, name: str) -> Any:
    """A field that an answer to the SDK must have.

    Raises:
        UnsupportedResponse: It has none.
    """
    value = answer.get(name)
    if value is None or value == "":
        raise UnsupportedResponse(f"a response without {name}")
    return value


FULL_OBJECT = "FULL_OBJECT"
"""The type of a checksum over the whole object, not over the checksums of its parts."""
METADATA = "x-amz-meta-"
"""The beginning of the headers with an object's own metadata."""
_STATUSES = {"abort_multipart_upload": 204, "delete_bucket_lifecycle": 204, "delete_object": 204}
"""Operation -> the status of its success, if it is not 200."""


def check_status(operation: str, answer: Answer) -> Answer:
    """The answer to an operation that does not read a body.

    Raises:
        UnsupportedResponse: It has another status than the API promises.
    """
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    if status != _STATUSES.get(operation, 200):
        raise UnsupportedResponse(f"a response {status} to {operation}")
    return answer


def whole(answer: Answer) -> Answer:
    """An answer without required fields."""
    return answer


class Begun(NamedTuple):
    """A multipart upload that has begun.

    Attributes:
        upload_id: Its identifier.
        has_whole_checksum: Whether the store compares the CRC-32C of the whole object.
        is_repeated: Whether an attempt whose response was lost may have begun another one.
    """

    upload_id: str
    has_whole_checksum: bool
    is_repeated: bool


def begun(answer: Answer) -> Begun:
    """The answer to CreateMultipartUpload."""
    has_whole = answer.get("ChecksumType") == FULL_OBJECT
    return Begun(sdk_required(answer, "UploadId"), has_whole, bool(answer["ResponseMetadata"].get("RetryAttempts")))


def begun_upload(request: Request, response: BufferedResponse) -> Begun:
    """The same, by a response that the SDK has not read.

    Raises:
        UnsupportedResponse: It proves no upload.
    """
    fields = fields_of(parse(response.body), _READ)  # rclone gives the element another name
    has_whole = response.headers.get(f"{_CHECKSUM}type") == FULL_OBJECT
    return Begun(sdk_required(fields, "UploadId"), has_whole, request.attempts > 1)


def completed(address: Address, size: int, checksum: str | None, answer: Answer) -> ObjectInfo | str | None:
    """What CompleteMultipartUpload made: the object if its checksum proves it, else its version in a bucket with versions.

    Args:
        address: Bucket and key.
        size: Bytes of all parts.
        checksum: CRC-32C of all parts.
        answer: The answer.
    """
    etag, version_id = sdk_required(answer, "ETag"), answer.get("VersionId")
    is_whole = answer.get("ChecksumType") == FULL_OBJECT and answer.get("ChecksumCRC32C") == checksum
    return ObjectInfo(address, size, etag, version_id=version_id) if checksum and is_whole else version_id


def completed_object(
    address: Address, size: int, checksum: str | None, response: BufferedResponse
) -> ObjectInfo | str | None:
    """The same, by a response that the SDK has not read.

    Raises:
        UnsupportedResponse: It proves no object.
    """
    fields = fields_of(parse(response.body), _READ)
    return completed(address, size, checksum, {**fields, "VersionId": response.headers.get("x-amz-version-id")})


def copied(source: ObjectInfo, address: Address, answer: Answer) -> ObjectInfo:
    """The object that CopyObject made."""
    result = answer.get("CopyObjectResult", {})
    sha256 = content_hash(result.get("ChecksumSHA256"))
    return ObjectInfo(address, source.size, sdk_required(result, "ETag"), sha256, version_id=answer.get("VersionId"))


def copied_object(source: ObjectInfo, address: Address, response: BufferedResponse) -> ObjectInfo:
    """The same, by a response that the SDK has not read. It may be an error, although its status is 200.

    Raises:
        UnsupportedResponse: It proves no copy.
    """
    fields = _copy_result(response, "CopyObject")
    return ObjectInfo(
        address,
        source.size,
        sdk_required(fields, "ETag"),
        content_hash(fields.get("ChecksumSHA256")),
        version_id=response.headers.get("x-amz-version-id"),
    )


def copied_range(number: int, size: int, response: BufferedResponse) -> Receipt:
    """The part that UploadPartCopy made, by a response that the SDK has not read.

    Raises:
        UnsupportedResponse: It proves no copy.
    """
    fields = _copy_result(response, "UploadPartCopy")
    return Receipt(number, sdk_required(fields, "ETag"), fields.get("ChecksumCRC32C"), size)


def _copy_result(response: BufferedResponse, operation: str) -> dict[str, str]:
    fields = {name.decode(): unescape(text.decode()) for name, text in _FIELDS.findall(response.body)}
    if root_of(response.body) != ("CopyPartResult" if operation == "UploadPartCopy" else "CopyObjectResult"):
        raise UnsupportedResponse(f"a response 200 to {operation} with {fields.get('Code') or 'another content'}")
    return fields


def copied_part(number: int, size: int, answer: Answer) -> Receipt:
    """The part that UploadPartCopy made."""
    result = answer.get("CopyPartResult", {})
    return Receipt(number, sdk_required(result, "ETag"), result.get("ChecksumCRC32C"), size)


def listed_tags(answer: Answer) -> dict[str, str]:
    """The tags in the answer to GetObjectTagging."""
    return {sdk_required(tag, "Key"): tag.get("Value") or "" for tag in answer.get("TagSet", ())}


def content_hash(checksum: str | None) -> str | None:
    """The SHA-256 of a whole object; S3 marks a checksum of checksums by `-<parts>` at its end.

    Raises:
        UnsupportedResponse: It is no SHA-256.
    """
    if not checksum or "-" in checksum:
        return None
    try:
        found = header_to_hex(checksum)
    except ValueError:
        found = ""
    if len(found) != 64:
        raise UnsupportedResponse("a response with a malformed x-amz-checksum-sha256")
    return f"sha256:{found}"


def described_object(address: Address, headers: Mapping[str, str]) -> ObjectInfo:
    """The object that the headers of HeadObject describe."""
    _refuse_page(headers)
    return ObjectInfo(
        address,
        size_of(headers),
        required(headers, "etag"),
        content_hash(headers.get("x-amz-checksum-sha256")),
        headers.get("content-type"),
        headers.get("content-encoding"),
        time_of(headers.get("last-modified")),
        _metadata(headers),
        headers.get("x-amz-version-id"),
        checksums=_checksums(headers),
    )


_CHECKSUM = "x-amz-checksum-"


def _checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Checksums of the whole object, without those of checksums of its parts."""
    if headers.get(f"{_CHECKSUM}type") == "COMPOSITE":
        return {}
    found: dict[str, str] = {}
    for algorithm in ("crc64nvme", "crc32c", "crc32", "sha1"):
        found |= reported_checksum(algorithm, headers.get(_CHECKSUM + algorithm))  # `-<parts>` is no base64
    return found


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(METADATA): value for name, value in headers.items() if name.startswith(METADATA)}


def _refuse_page(headers: Mapping[str, str]) -> None:
    if headers.get("content-type", "").startswith("text/html") and not any(
        name.startswith("x-amz-") for name in headers
    ):
        raise UnsupportedResponse("a page of HTML")


def opened_object(address: Address, status: int, headers: Mapping[str, str]) -> tuple[ObjectInfo, int | None]:
    """What a read needs to know of its object, and the position of the body's first byte; None if it is all of it."""
    content_range = headers.get("content-range")
    if status not in (200, 206) or (status == 206 and content_range is None):  # some stores send a range with 200
        raise UnsupportedResponse(f"a response {status} to a read, without Content-Range")
    _refuse_page(headers)
    start, size = read_content_range(content_range, size=size_of(headers))
    info = ObjectInfo(
        address,
        size,
        required(headers, "etag"),
        None,
        headers.get("content-type"),
        headers.get("content-encoding"),
        metadata=_metadata(headers),
        tag_count=count_of(headers, "x-amz-tagging-count"),
    )
    return info, start


def undeleted(answer: Answer) -> set[str]:
    """The keys that DeleteObjects could not delete."""
    return {sdk_required(error, "Key") for error in answer.get("Errors", ())}


def listed_objects(bucket: str, page: Answer) -> tuple[list[ObjectInfo], str | None]:
    """A page of objects, and the token of the next page."""
    if "Name" not in page and "IsTruncated" not in page:
        raise UnsupportedResponse("a listing without the bucket's name")
    found = [
        ObjectInfo(
            Address(bucket, sdk_required(entry, "Key")),
            sdk_required(entry, "Size"),
            entry.get("ETag"),
            modified=sdk_required(entry, "LastModified"),
            storage_class=entry.get("StorageClass"),
        )
        for entry in page.get("Contents", ())
    ]
    return found, sdk_required(page, "NextContinuationToken") if page.get("IsTruncated") else None


_READ = frozenset(
    {
        "Name",
        "IsTruncated",
        "NextContinuationToken",
        "EncodingType",
        "Key",
        "Size",
        "ETag",
        "LastModified",
        "StorageClass",
        "UploadId",
        "ChecksumCRC32C",
        "ChecksumType",
    }
)
"""The elements of responses that are read."""


def listed_page(bucket: str, response: BufferedResponse) -> tuple[list[ObjectInfo], str | None]:
    """The same, by a response that the SDK has not read.

    Raises:
        UnsupportedResponse: It is no listing.
    """
    page = parse(response.body, _ROOTS["ListObjectsV2"])
    about = fields_of(page, _READ)
    is_truncated = about.get("IsTruncated", "false")
    if not {"Name", "IsTruncated"} & about.keys():
        raise UnsupportedResponse("a listing without the bucket's name")
    if is_truncated not in ("true", "false"):
        raise UnsupportedResponse("a listing with a malformed IsTruncated")
    decode = unquote_plus if about.get("EncodingType") == "url" else str
    found = []
    for entry in page.iterfind(f"{space_of(page)}Contents"):
        fields = fields_of(entry, _READ)
        size = sdk_required(fields, "Size")
        if not SIZE.fullmatch(size):
            raise UnsupportedResponse("a listing with a malformed Size")
        found.append(
            ObjectInfo(
                Address(bucket, decode(sdk_required(fields, "Key"))),
                int(size),
                fields.get("ETag"),
                modified=_time(sdk_required(fields, "LastModified")),
                storage_class=fields.get("StorageClass"),
            )
        )
    return found, sdk_required(about, "NextContinuationToken") if is_truncated == "true" else None


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnsupportedResponse("a listing with a malformed LastModified") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def listed_uploads(bucket: str, page: Answer) -> tuple[list[Upload], tuple[str, str] | None]:
    """A page of multipart uploads, and the markers of the next page."""
    found = [
        Upload(
            Address(bucket, sdk_required(entry, "Key")),
            sdk_required(entry, "UploadId"),
            ObjectAttributes("", None, {}, {}),
            is_temporary(entry["Key"]),
            sdk_required(entry, "Initiated"),
        )
        for entry in page.get("Uploads", ())
    ]
    if not page.get("IsTruncated"):
        return found, None
    return found, (sdk_required(page, "NextKeyMarker"), page.get("NextUploadIdMarker", ""))


def listed_versions(bucket: str, page: Answer) -> tuple[list[KeptVersion], tuple[str, str] | None]:
    """A page of versions and delete markers, and the markers of the next page."""
    found = [
        KeptVersion(
            Address(bucket, sdk_required(entry, "Key")),
            entry.get("Size", 0),
            name,
            is_current=kind == "Versions" and bool(entry.get("IsLatest")),
        )
        for kind in ("Versions", "DeleteMarkers")
        for entry in page.get(kind, ())
        # The only version of a bucket without versions is null. A marker is no object that the key has now.
        if (name := sdk_required(entry, "VersionId")) != "null" or not entry.get("IsLatest")
    ]
    if not page.get("IsTruncated"):
        return found, None
    return found, (sdk_required(page, "NextKeyMarker"), page.get("NextVersionIdMarker", ""))


_ROOTS = {
    "DeleteObjects": "DeleteResult",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetObjectTagging": "Tagging",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
"""Operation -> the element that its response consists of. All others need fields that prove their success."""
_EMPTY = frozenset(
    {
        *("AbortMultipartUpload", "DeleteBucketLifecycle", "DeleteObject", "HeadBucket", "HeadObject"),
        *("PutBucketLifecycleConfiguration", "PutObject", "UploadPart"),
    }
)
"""The operations whose response is empty."""
_FIELDS = re.compile(rb"<(ETag|ChecksumSHA256|ChecksumCRC32C|Code)>([\x20-\x3b\x3d-\x7e]{1,200})</")


def judge(response: BufferedResponse) -> BufferedResponse:
    """The response with the status that its body proves.

    S3 answers a copy or a completion with status 200 before it knows the result (API Reference, "CompleteMultipartUpload").
    """
    if response.status != 200 or not response.body or root_of(response.body) != "Error":
        return response
    codes = [text for name, text in _FIELDS.findall(response.body) if name == b"Code"]
    return response._replace(status=503 if codes == [b"SlowDown"] else 500)


def check_answer(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """A handler for the SDK's event `before-parse`: refuses responses of success that are not what the API promises.

    From refusals it removes bodies that are no description of an error, such as the pages of proxies.

    Raises:
        UnsupportedResponse: The response has another content.
    """
    name, status, body = operation_model.name, response_dict["status_code"], response_dict["body"]
    if not isinstance(body, bytes):  # of an object
        return
    # Amazon S3 sends white space while it works on a request.
    response_dict["body"] = body = body.lstrip()
    root = root_of(body)
    if status >= 300:
        if root not in ("Error", "ErrorResponse"):
            response_dict["body"] = b""
        return
    if name in _ROOTS and root not in (_ROOTS[name], "Error"):
        raise UnsupportedResponse(f"a response to {name} without {_ROOTS[name]}")
    if name in _EMPTY and body:
        raise UnsupportedResponse(f"a response to {name} with a body")


_TYPES: Mapping[str, type] = {
    "boolean": bool,
    "integer": int,
    "long": int,
    "string": str,
    "timestamp": datetime,
    "list": list,
    "structure": dict,
}


def check_types(parsed: Answer, model: Any, **_: Any) -> None:
    """A handler for the SDK's event `after-call`: refuses answers whose fields have other types than the API says.

    The SDK returns a list for a field that is there twice.

    Raises:
        UnsupportedResponse: A field has another type.
    """
    is_success = parsed["ResponseMetadata"]["HTTPStatusCode"] < 300
    if is_success and model.output_shape is not None and not model.has_streaming_output:
        _check_type(model.name, parsed, model.output_shape)


def _check_type(name: str, value: Any, shape: Any) -> None:
    if shape.type_name == "structure" and isinstance(value, Mapping):
        for each, member in shape.members.items():
            if each in value:
                _check_type(each, value[each], member)
    elif shape.type_name == "list" and isinstance(value, list):
        for each in value:
            _check_type(name, each, shape.member)
    elif not isinstance(value, _TYPES.get(shape.type_name, object)):
        raise UnsupportedResponse(f"a response with a malformed {name}")
