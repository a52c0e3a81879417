"""The part of S3's API that storage clients use, without storage: conditions, ranges, uploads in parts, copies.

It verifies neither signatures nor checksums. Addresses have the bucket in the path.
"""

import itertools
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from benchmarks.null_server.counts import PATH as COUNTS
from benchmarks.null_server.counts import Counts
from benchmarks.null_server.listings import LARGEST_PAGE, page_of
from benchmarks.null_server.messages import Answer, Request
from benchmarks.null_server.objects import PRETENDED, Bucket, Stored, Upload
from benchmarks.null_server.ranges import asked_range, content_answer
from benchmarks.null_server.simulated import objects_of

MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
MODIFIED_ISO = "2026-01-01T00:00:00.000Z"
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
CHECKSUM_KINDS = ("x-amz-checksum-algorithm", "x-amz-checksum-type")
CHECKSUM_TAGS = {
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-crc32c": "ChecksumCRC32C",
    "x-amz-checksum-crc64nvme": "ChecksumCRC64NVME",
    "x-amz-checksum-type": "ChecksumType",
}
"""Header of a request that completes an upload -> field of its response (S3 API Reference, "CompleteMultipartUpload")."""
GIVEN_BACK = ("content-type", "content-encoding", "cache-control", "content-disposition", "x-amz-storage-class")


class S3:
    """A `Dialect`: buckets and their objects."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._numbers = itertools.count(1)
        self.counts = Counts()

    def answer(self, request: Request) -> Answer:
        """Return the response to a request."""
        name, _, key = unquote(request.path[1:]).partition("/")
        bucket = self._buckets.get(name)
        if not key:
            if request.path == COUNTS:
                return self._on_counts(request)
            return self._on_bucket(request, name, bucket)
        if bucket is None:
            return _error(404, "NoSuchBucket", request)
        if not request.query or request.query.startswith("x-id="):
            return self._on_object(request, bucket, key)
        query = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
        if "tagging" in query:
            return _tagging(bucket.objects.get(key), request)
        if "uploads" in query or "uploadId" in query:
            return self._on_upload(request, bucket, key, query)
        return self._on_object(request, bucket, key)

    def _on_counts(self, request: Request) -> Answer:
        """Return what clients have sent, and what is stored, or count from zero."""
        if request.method == "DELETE":
            self.counts.reset()
            return Answer(204)
        stored = {
            name: (len(bucket.objects), sum(stored.size for stored in bucket.objects.values()))
            for name, bucket in self._buckets.items()
        }
        unfinished = {name: len(bucket.uploads) for name, bucket in self._buckets.items()}
        content = {**self.counts.as_json(), "stored": stored, "unfinished": unfinished}
        return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(content).encode())

    def _on_bucket(self, request: Request, name: str, bucket: Bucket | None) -> Answer:
        if request.method == "PUT":
            self._buckets.setdefault(name, Bucket(objects_of(name)))
            return Answer(headers={"Location": f"/{name}"})
        if bucket is None:
            return _error(404, "NoSuchBucket", request)
        if request.method == "DELETE":  # deletes its objects too: the harness empties it like this
            del self._buckets[name]
            return Answer(204)
        if request.method == "HEAD":
            return Answer(headers={"x-amz-bucket-region": "us-east-1"})
        query = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
        if "uploads" in query:
            return _xml("ListMultipartUploadsResult", _uploads(bucket, query.get("prefix", "")))
        if "location" in query:
            return _xml("LocationConstraint", "")
        return _xml("ListBucketResult", _listing(name, bucket, query))

    def _on_object(self, request: Request, bucket: Bucket, key: str) -> Answer:
        if request.method == "PUT":
            source = request.header("x-amz-copy-source")
            return self._put(request, bucket, key) if source is None else self._copy(request, bucket, key, source)
        if request.method == "DELETE":
            bucket.objects.pop(key, None)
            return Answer(204)
        stored = bucket.objects.get(key)
        if stored is None:
            return _error(404, "NoSuchKey", request)
        if request.header("if-match") not in (None, stored.etag):
            return _error(412, "PreconditionFailed", request)
        return _content(stored, request)

    def _put(self, request: Request, bucket: Bucket, key: str) -> Answer:
        if key in bucket.objects and request.header("if-none-match") == "*":
            return _error(412, "PreconditionFailed", request)
        size, content = _payload(request)
        stored = bucket.objects[key] = Stored(size, content, _given(request))
        return Answer(headers={"ETag": stored.etag, **_checksums(stored)})

    def _copy(self, request: Request, bucket: Bucket, key: str, source: str) -> Answer:
        found = self._source(request, source)
        if isinstance(found, Answer):
            return found
        if key in bucket.objects and request.header("if-none-match") == "*":
            return _error(412, "PreconditionFailed", request)
        replaces = request.header("x-amz-metadata-directive") == "REPLACE"
        stored = bucket.objects[key] = Stored(found.size, found.content, _given(request) if replaces else found.headers)
        answer = _xml("CopyObjectResult", f"<LastModified>{MODIFIED_ISO}</LastModified><ETag>{stored.etag}</ETag>")
        answer.copied = found.size
        return answer

    def _source(self, request: Request, source: str) -> Stored | Answer:
        """Return the source of a copy, or the error."""
        name, _, key = unquote(source).lstrip("/").partition("/")
        found = self._buckets.get(name, Bucket()).objects.get(key)
        if found is None:
            return _error(404, "NoSuchKey", request)
        if request.header("x-amz-copy-source-if-match") not in (None, found.etag):
            return _error(412, "PreconditionFailed", request)
        return found

    def _on_upload(self, request: Request, bucket: Bucket, key: str, query: Mapping[str, str]) -> Answer:
        if "uploads" in query:
            upload_id = f"upload-{next(self._numbers)}"
            given = {name: value for name, value in _given(request).items() if name not in CHECKSUM_KINDS}
            bucket.uploads[upload_id] = Upload(key, given)
            answer = _xml("InitiateMultipartUploadResult", f"<Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>")
            answer.headers |= {name: value for name, value in request.headers() if name in CHECKSUM_KINDS}
            return answer
        upload = bucket.uploads.get(query["uploadId"])
        if upload is None or upload.key != key:
            return _error(404, "NoSuchUpload", request)
        if request.method == "PUT":
            return self._part(request, upload, query["partNumber"])
        if request.method == "DELETE":
            del bucket.uploads[query["uploadId"]]
            return Answer(204)
        if request.method == "GET":
            return _xml("ListPartsResult", "".join(f"<Part><PartNumber>{n}</PartNumber></Part>" for n in upload.parts))
        return self._complete(request, bucket, upload, query["uploadId"])

    def _part(self, request: Request, upload: Upload, number: str) -> Answer:
        source = request.header("x-amz-copy-source")
        etag = f'"{next(self._numbers):032x}"'
        if source is None:
            upload.parts[number] = _payload(request)
            return Answer(headers={"ETag": etag, **_echoed(request)})
        found = self._source(request, source)
        if isinstance(found, Answer):
            return found
        start, stop = asked_range(request.header("x-amz-copy-source-range"), found.size) or (0, found.size)
        upload.parts[number] = stop - start, found.content and found.content[start:stop]
        answer = _xml("CopyPartResult", f"<LastModified>{MODIFIED_ISO}</LastModified><ETag>{etag}</ETag>")
        answer.copied = stop - start
        return answer

    def _complete(self, request: Request, bucket: Bucket, upload: Upload, upload_id: str) -> Answer:
        if upload.key in bucket.objects and request.header("if-none-match") == "*":
            return _error(412, "PreconditionFailed", request)
        root = ET.fromstring(request.body or b"")  # noqa: S314, our own clients'
        numbers = [element.text or "" for element in root.iter() if element.tag.endswith("PartNumber")]
        try:
            stored = upload.joined(numbers)
        except KeyError:
            return _error(400, "InvalidPart", request)
        # The checksum of the whole object, where the client sends one (S3 User Guide, "Checking object integrity").
        whole = _echoed(request)
        stored.headers = stored.headers | whole
        bucket.objects[upload.key] = stored
        del bucket.uploads[upload_id]
        checksums = "".join(
            f"<{tag}>{escape(whole[name])}</{tag}>" for name, tag in CHECKSUM_TAGS.items() if name in whole
        )
        return _xml(
            "CompleteMultipartUploadResult",
            f"<Location>/</Location><Key>{escape(upload.key)}</Key><ETag>{stored.etag}</ETag>{checksums}",
        )


def _given(request: Request) -> dict[str, str]:
    """Return the headers of a new object that reads return."""
    kept = ("x-amz-meta-", "x-amz-checksum-", "x-amz-tagging")
    given = {name: value for name, value in request.headers() if name in GIVEN_BACK or name.startswith(kept)}
    encoding = given.get("content-encoding", "")
    if "aws-chunked" in encoding:  # the transfer's encoding, not the object's
        given["content-encoding"] = encoding.replace("aws-chunked", "").strip(",")
        if not given["content-encoding"]:
            del given["content-encoding"]
    given.setdefault("content-type", "binary/octet-stream")
    return given


def _payload(request: Request) -> tuple[int, bytes | None]:
    """Return size and, for a small one, bytes of a body, which may consist of signed chunks."""
    pretended = request.header(PRETENDED)
    if pretended is not None:
        return int(pretended), None
    decoded = request.header("x-amz-decoded-content-length")
    if decoded is None:
        return request.size, request.body
    return int(decoded), request.body and _joined_chunks(request.body)


def _joined_chunks(body: bytes) -> bytes:
    """Return the bytes of `aws-chunked` (S3 API Reference, "Signature Calculations for ... Multiple Chunks")."""
    joined, start = bytearray(), 0
    while True:
        end = body.index(b"\r\n", start)
        size = int(body[start:end].partition(b";")[0], 16)
        if not size:
            return bytes(joined)
        joined += body[end + 2 : end + 2 + size]
        start = end + 4 + size


def _checksums(stored: Stored) -> dict[str, str]:
    return {name: value for name, value in stored.headers.items() if name.startswith("x-amz-checksum-")}


def _echoed(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.headers() if name.startswith("x-amz-checksum-")}


def _content(stored: Stored, request: Request) -> Answer:
    """Return an object or the requested range of it."""
    wanted = request.header("range")
    # A checksum covers the whole object.
    shows_checksum = request.header("x-amz-checksum-mode") == "ENABLED" and wanted is None
    given = {
        name: value
        for name, value in stored.headers.items()
        if name != "x-amz-tagging" and (shows_checksum or not name.startswith("x-amz-checksum-"))
    }
    headers = {"ETag": stored.etag, "Last-Modified": MODIFIED, "Accept-Ranges": "bytes", **given}
    return content_answer(stored, wanted, headers) or _error(416, "InvalidRange", request)


def _tagging(stored: Stored | None, request: Request) -> Answer:
    if stored is None:
        return _error(404, "NoSuchKey", request)
    tags = parse_qs(stored.headers.get("x-amz-tagging", ""), keep_blank_values=True)
    pairs = "".join(
        f"<Tag><Key>{escape(key)}</Key><Value>{escape(values[0])}</Value></Tag>" for key, values in tags.items()
    )
    return _xml("Tagging", f"<TagSet>{pairs}</TagSet>")


def _uploads(bucket: Bucket, prefix: str) -> str:
    return "<IsTruncated>false</IsTruncated>" + "".join(
        f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{upload_id}</UploadId>"
        f"<Initiated>{MODIFIED_ISO}</Initiated></Upload>"
        for upload_id, upload in bucket.uploads.items()
        if upload.key.startswith(prefix)
    )


def _listing(name: str, bucket: Bucket, query: Mapping[str, str]) -> str:
    """Return a page of a listing, of version 1 or 2 (they differ in how the next page is asked for)."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token") or query.get("start-after") or query.get("marker", "")
    page = page_of(bucket.objects, prefix=prefix, delimiter=delimiter, after=after, limit=query.get("max-keys"))
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>{MODIFIED_ISO}</LastModified><ETag>{stored.etag}</ETag>"
        f"<Size>{stored.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key, stored in page.objects
    )
    common = "".join(f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in page.folders)
    further = "<IsTruncated>false</IsTruncated>"
    if page.after is not None:
        mark = "NextContinuationToken" if query.get("list-type") == "2" else "NextMarker"
        further = f"<IsTruncated>true</IsTruncated><{mark}>{escape(page.after)}</{mark}>"
    return (
        f"<Name>{name}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page.objects) + len(page.folders)}"
        f"</KeyCount><MaxKeys>{query.get('max-keys', LARGEST_PAGE)}</MaxKeys>{further}{contents}{common}"
    )


def _xml(root: str, content: str) -> Answer:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {NAMESPACE}>{content}</{root}>'
    return Answer(headers={"Content-Type": "application/xml"}, body=text.encode())


def _error(status: int, code: str, request: Request) -> Answer:
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}</Message>'
        f"<Resource>{escape(request.path)}</Resource></Error>"
    )
    return Answer(status, {"Content-Type": "application/xml"}, text.encode())
