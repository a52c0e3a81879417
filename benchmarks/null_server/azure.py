"""The part of Azure's Blob service that storage clients use, without storage. Other paths are answered as S3.

It verifies neither signatures nor checksums. Addresses have the account in the path, as those of Azurite.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from benchmarks.null_server.listings import page_of
from benchmarks.null_server.messages import Answer, Request
from benchmarks.null_server.objects import Bucket, Stored, Upload
from benchmarks.null_server.ranges import asked_range, content_answer
from benchmarks.null_server.s3 import MODIFIED, S3

ACCOUNT = "/devstoreaccount1/"
VERSION = {"x-ms-version": "2025-01-05", "x-ms-request-id": "00000000-0000-0000-0000-000000000000", "Date": MODIFIED}


class Azure(S3):
    """Containers and their blobs."""

    def answer(self, request: Request) -> Answer:
        if not request.path.startswith(ACCOUNT):
            return super().answer(request)
        name, _, key = unquote(request.path[len(ACCOUNT) :]).partition("/")
        query = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
        answer = self._on_container(request, name, query) if not key else self._on_blob(request, name, key, query)
        answer.headers.update(VERSION)
        return answer

    def _on_container(self, request: Request, name: str, query: Mapping[str, str]) -> Answer:
        bucket = self._buckets.get(name)
        if request.method == "PUT":
            if bucket is not None:
                return _error(409, "ContainerAlreadyExists")
            self._buckets[name] = Bucket()
            return Answer(201, {"ETag": '"0"', "Last-Modified": MODIFIED})
        if bucket is None:
            return _error(404, "ContainerNotFound")
        if query.get("comp") == "list":
            return _listing(name, bucket, query)
        return Answer(200, {"ETag": '"0"', "Last-Modified": MODIFIED})

    def _on_blob(self, request: Request, name: str, key: str, query: Mapping[str, str]) -> Answer:
        bucket = self._buckets.get(name)
        if bucket is None:
            return _error(404, "ContainerNotFound")
        if request.method == "PUT":
            return self._write(request, bucket, key, query)
        stored = bucket.objects.get(key)
        if stored is None:
            return _error(404, "BlobNotFound")
        if request.header("if-match") not in (None, stored.etag):
            return _error(412, "ConditionNotMet")
        if request.method == "DELETE":
            del bucket.objects[key]
            return Answer(202)
        return _content(stored, request)

    def _write(self, request: Request, bucket: Bucket, key: str, query: Mapping[str, str]) -> Answer:
        component = query.get("comp")
        source = request.header("x-ms-copy-source")
        if component == "block":
            return self._block(request, bucket, key, query["blockid"], source)
        if key in bucket.objects and request.header("if-none-match") == "*":
            return _error(409, "BlobAlreadyExists")
        if source is not None:
            return self._copy(request, bucket, key, source)
        if component == "blocklist":
            names = [element.text or "" for element in ET.fromstring(request.body or b"")]  # noqa: S314, our clients'
            upload = bucket.uploads.pop(key, Upload(key, {}))
            try:
                stored = upload.joined(names)
            except KeyError:
                return _error(400, "InvalidBlockList")
            stored.headers = _given(request)
        else:
            stored = Stored(request.size, request.body, _given(request))
        bucket.objects[key] = stored
        made = {"ETag": stored.etag, "Last-Modified": MODIFIED, "x-ms-request-server-encrypted": "true"}
        return Answer(201, made | _checksums(request))

    def _block(self, request: Request, bucket: Bucket, key: str, block: str, source: str | None) -> Answer:
        """Stage a block with bytes of the request or, for Put Block From URL, of another blob."""
        size, content = request.size, request.body
        if source is not None:
            found = self._source(request, source)
            if isinstance(found, Answer):
                return found
            start, stop = asked_range(request.header("x-ms-source-range"), found.size) or (0, found.size)
            size, content = stop - start, found.content and found.content[start:stop]
        bucket.uploads.setdefault(key, Upload(key, {})).parts[block] = size, content
        return Answer(
            201, {"x-ms-request-server-encrypted": "true", **_checksums(request)}, copied=size if source else 0
        )

    def _copy(self, request: Request, bucket: Bucket, key: str, source: str) -> Answer:
        """Copy a blob: Copy Blob, also from a URL, or Put Blob From URL, which names the type of the new blob."""
        found = self._source(request, source)
        if isinstance(found, Answer):
            return found
        given = {name: value for name, value in _given(request).items() if name.startswith("x-ms-meta-")}
        kept = {name: value for name, value in found.headers.items() if not name.startswith("x-ms-meta-")}
        stored = bucket.objects[key] = Stored(found.size, found.content, kept | (given or found.headers))
        made = {"ETag": stored.etag, "Last-Modified": MODIFIED}
        if request.header("x-ms-blob-type") is not None:
            return Answer(201, {**made, "x-ms-request-server-encrypted": "true"}, copied=found.size)
        return Answer(202, {**made, "x-ms-copy-id": "0", "x-ms-copy-status": "success"}, copied=found.size)

    def _source(self, request: Request, source: str) -> Stored | Answer:
        """Return the source of a copy, or the error."""
        if not urlsplit(source).path.startswith(ACCOUNT):
            return super()._source(request, source)
        name, _, key = unquote(urlsplit(source).path[len(ACCOUNT) :]).partition("/")
        found = self._buckets.get(name, Bucket()).objects.get(key)
        if found is None:
            return _error(404, "BlobNotFound")
        if request.header("x-ms-source-if-match") not in (None, found.etag):
            return _error(412, "SourceConditionNotMet")
        return found


def _checksums(request: Request) -> dict[str, str]:
    """Return the checksums of a body, which the service returns (Blob Storage REST API, "Put Block")."""
    names = {"content-md5": "Content-MD5", "x-ms-content-crc64": "x-ms-content-crc64"}
    return {shown: value for name, shown in names.items() if (value := request.header(name)) is not None}


def _given(request: Request) -> dict[str, str]:
    """Return the headers of a new blob that reads return."""
    prefix = "x-ms-blob-content-"
    given = {
        name.replace(prefix, "content-"): value
        for name, value in request.headers()
        if name.startswith("x-ms-meta-") or name in (f"{prefix}type", f"{prefix}encoding")
    }
    given.setdefault("content-type", "application/octet-stream")
    return given


def _content(stored: Stored, request: Request) -> Answer:
    """Return a blob or the requested range of it."""
    headers = {
        "ETag": stored.etag,
        "Last-Modified": MODIFIED,
        "Accept-Ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-creation-time": MODIFIED,
        "x-ms-lease-status": "unlocked",
        "x-ms-lease-state": "available",
        "x-ms-server-encrypted": "true",
        **stored.headers,
    }
    return content_answer(stored, request.header("x-ms-range") or request.header("range"), headers) or _error(
        416, "InvalidRange"
    )


def _listing(name: str, bucket: Bucket, query: Mapping[str, str]) -> Answer:
    page = page_of(
        bucket.objects,
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        after=query.get("marker", ""),
        limit=query.get("maxresults"),
    )
    blobs = "".join(
        f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{MODIFIED}</Last-Modified>"
        f"<Etag>{stored.etag}</Etag><Content-Length>{stored.size}</Content-Length><BlobType>BlockBlob</BlobType>"
        "</Properties></Blob>"
        for key, stored in page.objects
    )
    folders = "".join(f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>" for folder in page.folders)
    # The SDK asks for pages of the size that the first one names.
    limit = f"<MaxResults>{query['maxresults']}</MaxResults>" if "maxresults" in query else ""
    text = (
        f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{name}">'
        f"<Prefix>{escape(query.get('prefix', ''))}</Prefix>{limit}<Blobs>{blobs}{folders}</Blobs>"
        f"<NextMarker>{escape(page.after or '')}</NextMarker></EnumerationResults>"
    )
    return Answer(headers={"Content-Type": "application/xml"}, body=text.encode())


def _error(status: int, code: str) -> Answer:
    text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return Answer(status, {"Content-Type": "application/xml", "x-ms-error-code": code}, text.encode())
