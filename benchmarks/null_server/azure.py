"""The part of Azure's Blob service that storage clients use, without storage. Other paths are answered as S3.

It verifies neither signatures nor checksums. Addresses have the account in the path, as those of Azurite.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from benchmarks.null_server.objects import Bucket, Stored, Upload
from benchmarks.null_server.ranges import content_answer
from benchmarks.null_server.s3 import MODIFIED, S3
from benchmarks.null_server.wire import Answer, Request

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
            return _listing(name, bucket, query.get("prefix", ""))
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
        if component == "block":
            upload = bucket.uploads.setdefault(key, Upload(key, {}))
            upload.parts[query["blockid"]] = request.size, request.body
            return Answer(201, {"x-ms-request-server-encrypted": "true"})
        if key in bucket.objects and request.header("if-none-match") == "*":
            return _error(409, "BlobAlreadyExists")
        source = request.header("x-ms-copy-source")
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
        return Answer(201, {"ETag": stored.etag, "Last-Modified": MODIFIED, "x-ms-request-server-encrypted": "true"})

    def _copy(self, request: Request, bucket: Bucket, key: str, source: str) -> Answer:
        name, _, from_key = unquote(urlsplit(source).path[len(ACCOUNT) :]).partition("/")
        found = self._buckets.get(name, Bucket()).objects.get(from_key)
        if found is None:
            return _error(404, "BlobNotFound")
        if request.header("x-ms-source-if-match") not in (None, found.etag):
            return _error(412, "SourceConditionNotMet")
        given = {name: value for name, value in _given(request).items() if name.startswith("x-ms-meta-")}
        kept = {name: value for name, value in found.headers.items() if not name.startswith("x-ms-meta-")}
        stored = bucket.objects[key] = Stored(found.size, found.content, kept | (given or found.headers))
        copied = {"x-ms-copy-id": "0", "x-ms-copy-status": "success"}
        return Answer(202, {"ETag": stored.etag, "Last-Modified": MODIFIED, **copied})


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


def _listing(name: str, bucket: Bucket, prefix: str) -> Answer:
    blobs = "".join(
        f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{MODIFIED}</Last-Modified>"
        f"<Etag>{stored.etag}</Etag><Content-Length>{stored.size}</Content-Length><BlobType>BlockBlob</BlobType>"
        "</Properties></Blob>"
        for key, stored in sorted(bucket.objects.items())
        if key.startswith(prefix)
    )
    text = (
        f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{name}"><Prefix>{escape(prefix)}'
        f"</Prefix><Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>"
    )
    return Answer(headers={"Content-Type": "application/xml"}, body=text.encode())


def _error(status: int, code: str) -> Answer:
    text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return Answer(status, {"Content-Type": "application/xml", "x-ms-error-code": code}, text.encode())
