"""The requests of a double of S3 for multipart uploads."""

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from aiohttp import web

from lakery_cloud.testing.doubles.s3_buckets import xml
from lakery_cloud.testing.doubles.s3_checks import CHECKSUM, S3Checks, checksum_of, kept_headers
from lakery_cloud.testing.doubles.s3_objects import ObjectRequests
from lakery_cloud.testing.doubles.s3_state import DoubleUpload, DoubleVersion, Refusal, S3State, etag_of

MiB = 1024**2
MIN_PART = 5 * MiB
MAX_PARTS = 10_000
"""S3 User Guide, "Amazon S3 multipart upload limits"."""
PARTS_CHECKSUM = "crc32c"
"""The only algorithm of uploads with checksums."""
CHECKSUM_TYPE = "x-amz-checksum-type"
FULL_OBJECT = "FULL_OBJECT"
"""S3 User Guide, "Checking object integrity for data uploads in Amazon S3": a checksum not of the parts' checksums."""

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class UploadRequests:
    """Answers requests for multipart uploads.

    Attributes:
        min_part_size: Smallest part, except the last one.
    """

    def __init__(self, state: S3State, checks: S3Checks, objects: ObjectRequests) -> None:
        self._state = state
        self._checks = checks
        self._objects = objects
        self.min_part_size = MIN_PART

    def begin(self, request: web.Request, bucket: str, key: str) -> web.Response:
        """CreateMultipartUpload."""
        self._checks.check_write(request)
        algorithm = request.headers.get("x-amz-checksum-algorithm", "").lower()
        if algorithm not in ("", PARTS_CHECKSUM):
            raise Refusal(501, "NotImplemented", f"this server has no uploads with {algorithm}")
        is_whole = request.headers.get(CHECKSUM_TYPE) == FULL_OBJECT
        if is_whole and not algorithm:
            raise Refusal(400, "InvalidRequest", f"{CHECKSUM_TYPE} can only be used with a checksum algorithm")
        upload_id = self._state.number()
        self._state.uploads[bucket][upload_id] = DoubleUpload(
            key, kept_headers(request), self._checks.tags_of(request), bool(algorithm), is_whole, datetime.now(UTC)
        )
        answer = xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")
        if algorithm:
            answer.headers[CHECKSUM_TYPE] = FULL_OBJECT if is_whole else "COMPOSITE"
        return answer

    def find(self, bucket: str, key: str, upload_id: str) -> DoubleUpload:
        """An upload to a key.

        Raises:
            Refusal: It does not exist.
        """
        upload = self._state.uploads[bucket].get(upload_id)
        if upload is None or upload.key != key:
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def put_part(self, request: web.Request, upload: DoubleUpload, number: int, body: bytes) -> web.Response:
        """UploadPart."""
        checksums = self._checks.check_body(request, body)
        self._store_part(upload, number, body)
        return web.Response(headers={"etag": etag_of(body), **checksums})

    def copy_part(self, request: web.Request, upload: DoubleUpload, number: int) -> web.Response:
        """UploadPartCopy."""
        source = self._objects.source(request)
        assert source.data is not None
        wanted = _RANGE.fullmatch(request.headers.get("x-amz-copy-source-range", ""))
        if wanted is None or int(wanted[2]) >= len(source.data):
            raise Refusal(400, "InvalidArgument", "The x-amz-copy-source-range value must be of the form bytes=a-b")
        part = source.data[int(wanted[1]) : int(wanted[2]) + 1]
        self._store_part(upload, number, part)
        checksum = f"<ChecksumCRC32C>{checksum_of(part, PARTS_CHECKSUM)}</ChecksumCRC32C>"
        return xml("CopyPartResult", f"<ETag>{escape(etag_of(part))}</ETag>{checksum if upload.has_checksums else ''}")

    def _store_part(self, upload: DoubleUpload, number: int, part: bytes) -> None:
        if upload.made is not None:
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        if not 1 <= number <= MAX_PARTS:
            raise Refusal(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
        upload.parts[number] = part

    def list_parts(self, upload: DoubleUpload) -> web.Response:
        """ListParts, in one page."""
        if upload.made is not None:
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        shown = "".join(f"<Part><PartNumber>{number}</PartNumber></Part>" for number in sorted(upload.parts))
        return xml("ListPartsResult", f"<IsTruncated>false</IsTruncated>{shown}")

    def abort(self, bucket: str, upload_id: str) -> web.Response:
        """AbortMultipartUpload."""
        if self._state.uploads[bucket][upload_id].made is None:
            del self._state.uploads[bucket][upload_id]
        return web.Response(status=204)

    def complete(self, request: web.Request, bucket: str, upload: DoubleUpload, body: bytes) -> web.Response:
        """CompleteMultipartUpload. A second one has the answer of the first."""
        if upload.made is None:
            parts = self._checked_parts(upload, body)
            size = sum(map(len, parts))
            if int(request.headers.get("x-amz-mp-object-size", size)) != size:
                raise Refusal(400, "InvalidRequest", "The x-amz-mp-object-size does not match the size of the object")
            whole = request.headers.get(CHECKSUM + PARTS_CHECKSUM)
            if whole is not None and (not upload.is_whole or whole != checksum_of(b"".join(parts), PARTS_CHECKSUM)):
                raise Refusal(400, "BadDigest", "The crc32c you specified did not match the calculated checksum.")
            self._checks.check_absent(request, bucket, upload.key)
            upload.made = self._make(bucket, upload, parts)
            upload.parts.clear()
        made = upload.made
        checksum = request.headers.get(CHECKSUM + PARTS_CHECKSUM)
        whole = f"<ChecksumCRC32C>{checksum}</ChecksumCRC32C><ChecksumType>{FULL_OBJECT}</ChecksumType>"
        answer = xml("CompleteMultipartUploadResult", f"<ETag>{escape(made.etag)}</ETag>{whole if checksum else ''}")
        answer.headers.update({k: v for k, v in self._objects.written(made).items() if k != "etag"})
        return answer

    def _checked_parts(self, upload: DoubleUpload, body: bytes) -> list[bytes]:
        listed = _listed_parts(body)
        numbers = [int(part.get("PartNumber", 0)) for part in listed]
        if numbers != sorted(set(numbers)):
            raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        for number, part in zip(numbers, listed, strict=True):
            stored = upload.parts.get(number)
            if stored is None or part.get("ETag", "").strip('"') != etag_of(stored).strip('"'):
                raise Refusal(400, "InvalidPart", "One or more of the specified parts could not be found.")
            checksum = part.get("ChecksumCRC32C")
            if checksum is None and upload.has_checksums:
                message = "The upload was created using a crc32c checksum. The complete request must include it."
                raise Refusal(400, "InvalidRequest", message)
            if checksum not in (None, checksum_of(stored, PARTS_CHECKSUM)):
                raise Refusal(400, "InvalidPart", "One or more of the specified parts could not be found.")
        parts = [upload.parts[number] for number in numbers]
        if any(len(part) < self.min_part_size for part in parts[:-1]):
            raise Refusal(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        sizes = {len(part) for part in parts[:-1]}
        if self._state.profile.equal_parts and (len(sizes) > 1 or len(parts[-1]) > max(sizes, default=len(parts[-1]))):
            raise Refusal(400, "InvalidPart", "All non-trailing parts must have the same length.")
        return parts

    def _make(self, bucket: str, upload: DoubleUpload, parts: list[bytes]) -> DoubleVersion:
        digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
        checksums = {}
        if upload.is_whole:
            checksums = {CHECKSUM + PARTS_CHECKSUM: checksum_of(b"".join(parts), PARTS_CHECKSUM)}
        elif upload.has_checksums:
            each = b"".join(base64.b64decode(checksum_of(part, PARTS_CHECKSUM)) for part in parts)
            checksums = {CHECKSUM + PARTS_CHECKSUM: f"{checksum_of(each, PARTS_CHECKSUM)}-{len(parts)}"}
        return self._state.store(
            bucket,
            upload.key,
            b"".join(parts),
            headers=upload.headers,
            tags=upload.tags,
            etag=f'{etag_of(digests)[:-1]}-{len(parts)}"',
            checksums=checksums,
        )


def _listed_parts(body: bytes) -> list[dict[str, str]]:
    try:
        root = ET.fromstring(body)  # noqa: S314, the tests' own
        parts = [element for element in root if element.tag.rpartition("}")[2] == "Part"]
    except ET.ParseError:
        parts = []
    if not parts:
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed")
    return [{field.tag.rpartition("}")[2]: field.text or "" for field in part} for part in parts]
