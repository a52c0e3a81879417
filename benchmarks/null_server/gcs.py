"""The part of Cloud Storage's JSON API that storage clients use, without storage.

Its XML API is S3's, so other paths are answered as S3; the harness uses that to fill it. The CRC-32C of dropped content is
that of the repeated block.
"""

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote

import google_crc32c

from benchmarks.null_server.listings import page_of
from benchmarks.null_server.messages import Answer, Request
from benchmarks.null_server.objects import Bucket, Stored, Upload
from benchmarks.null_server.ranges import content_answer
from benchmarks.null_server.s3 import MODIFIED_ISO, S3
from benchmarks.payload import pattern

KEPT = ("contentType", "contentEncoding", "storageClass", "metadata")
"""Metadata that a client sets and reads."""
API, UPLOAD, DOWNLOAD = "/storage/v1/b", "/upload/storage/v1/b", "/download/storage/v1/b"


class GCS(S3):
    """Buckets and their objects."""

    def answer(self, request: Request) -> Answer:
        for root in (API, UPLOAD, DOWNLOAD):
            if request.path.startswith(root):
                break
        else:
            return super().answer(request)
        query = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
        name, _, rest = request.path[len(root) + 1 :].partition("/o")
        if not name:
            return self._new_bucket(request)
        bucket = self._buckets.get(unquote(name))
        if bucket is None:
            return _error(404, "The specified bucket does not exist.")
        if root == UPLOAD:
            return self._on_upload_of(request, bucket, name, query)
        if not rest:
            return self._listing_of(request, bucket, name, query)
        key, _, destination = rest[1:].partition("/rewriteTo/b/")
        if destination:
            return self._rewrite(request, bucket, unquote(key), destination, query)
        key, _, destination = rest[1:].partition("/moveTo/o/")
        if destination:
            return self._move(bucket, name, unquote(key), unquote(destination), query)
        if rest.endswith("/compose"):
            return self._compose(request, bucket, name, unquote(rest[1:].removesuffix("/compose")), query)
        return self._on_key(request, bucket, name, unquote(key), query)

    def _part(self, request: Request, upload: Upload, number: str) -> Answer:
        answer = super()._part(request, upload, number)
        if answer.status == 200:  # Google's client compares it (Cloud Storage, "XML API: Upload part")
            answer.headers["X-Goog-Hash"] = f"crc32c={_checksum(Stored(*upload.parts[number], {}))}"
        return answer

    def _new_bucket(self, request: Request) -> Answer:
        if request.method != "POST":
            return _json({"kind": "storage#buckets", "items": [{"name": name} for name in self._buckets]})
        name = json.loads(request.body or b"{}")["name"]
        self._buckets.setdefault(name, Bucket())
        return _json({"kind": "storage#bucket", "name": name})

    def _listing_of(self, request: Request, bucket: Bucket, name: str, query: Mapping[str, str]) -> Answer:
        if request.path.endswith(("/o", "/o/")):
            return _json({"kind": "storage#objects", **_listing(name, bucket, query)})
        return _json({"kind": "storage#bucket", "name": name, "metageneration": "1"})

    def _on_key(self, request: Request, bucket: Bucket, name: str, key: str, query: Mapping[str, str]) -> Answer:
        stored = bucket.objects.get(key)
        if stored is None or query.get("generation", _generation(stored)) != _generation(stored):
            return _error(404, f"No such object: {name}/{key}")
        if request.method == "DELETE":
            del bucket.objects[key]
            return Answer(204)
        if query.get("ifGenerationMatch", _generation(stored)) != _generation(stored):
            return _error(412, "At least one of the pre-conditions you specified did not hold.")
        if request.method == "PATCH":
            stored.headers.update(_given(json.loads(request.body or b"{}")))
        return _media(stored, request) if query.get("alt") == "media" else _json(_resource(name, key, stored))

    def _on_upload_of(self, request: Request, bucket: Bucket, name: str, query: Mapping[str, str]) -> Answer:
        if "upload_id" in query:
            return self._chunk(request, bucket, name, query["upload_id"])
        kind = query.get("uploadType")
        if kind == "resumable":
            described = json.loads(request.body or b"{}")
            upload_id = f"upload-{next(self._numbers)}"
            bucket.uploads[upload_id] = Upload(query.get("name") or described["name"], _given(described))
            return Answer(headers={"Location": f"{_own_url(request)}&upload_id={upload_id}"})
        if kind == "media":
            return self._insert(bucket, name, query["name"], Stored(request.size, request.body, {}), query)
        described, stored = _parts(request)
        stored.headers = _given(described)
        return self._insert(bucket, name, query.get("name") or described["name"], stored, query)

    def _insert(self, bucket: Bucket, name: str, key: str, stored: Stored, query: Mapping[str, str]) -> Answer:
        if query.get("ifGenerationMatch") == "0" and key in bucket.objects:
            return _error(412, "At least one of the pre-conditions you specified did not hold.")
        bucket.objects[key] = stored
        return _json(_resource(name, key, stored))

    def _chunk(self, request: Request, bucket: Bucket, name: str, upload_id: str) -> Answer:
        upload = bucket.uploads.get(upload_id)
        if upload is None:
            return _error(404, "No such upload")
        if request.method == "DELETE":
            del bucket.uploads[upload_id]
            return Answer(499)
        total = (request.header("content-range") or f"bytes */{request.size}").rpartition("/")[2]
        if request.size:
            upload.parts[str(len(upload.parts))] = request.size, request.body
        received = sum(size for size, _ in upload.parts.values())
        if total == "*" or received < int(total):
            return Answer(308, {"Range": f"bytes=0-{received - 1}"} if received else {})
        del bucket.uploads[upload_id]
        return self._insert(bucket, name, upload.key, upload.joined([*upload.parts]), {})

    def _rewrite(
        self, request: Request, bucket: Bucket, key: str, destination: str, query: Mapping[str, str]
    ) -> Answer:
        name, _, new_key = destination.partition("/o/")
        source, target = bucket.objects.get(key), self._buckets.get(unquote(name))
        if source is None or target is None:
            return _error(404, "Not Found")
        if query.get("ifSourceGenerationMatch", _generation(source)) != _generation(source):
            return _error(412, "At least one of the pre-conditions you specified did not hold.")
        described = _given(json.loads(request.body)) if request.body else source.headers
        made = self._insert(
            target, unquote(name), unquote(new_key), Stored(source.size, source.content, described), query
        )
        if made.status != 200:
            return made
        size, resource = str(source.size), json.loads(made.body)
        answer = _json({"done": True, "objectSize": size, "totalBytesRewritten": size, "resource": resource})
        answer.copied = source.size
        return answer

    def _move(self, bucket: Bucket, name: str, key: str, new_key: str, query: Mapping[str, str]) -> Answer:
        """Rename an object, which moves no bytes (Cloud Storage, "Objects: move")."""
        source = bucket.objects.get(key)
        if source is None:
            return _error(404, "Not Found")
        if query.get("ifSourceGenerationMatch", _generation(source)) != _generation(source):
            return _error(412, "At least one of the pre-conditions you specified did not hold.")
        moved = self._insert(bucket, name, new_key, Stored(source.size, source.content, source.headers), query)
        if moved.status == 200:
            del bucket.objects[key]
        return moved

    def _compose(self, request: Request, bucket: Bucket, name: str, key: str, query: Mapping[str, str]) -> Answer:
        """Make an object of others, which moves no bytes (Cloud Storage, "Objects: compose")."""
        described = json.loads(request.body or b"{}")
        upload = Upload(key, _given(described.get("destination", {})))
        for number, source in enumerate(described["sourceObjects"]):
            found = bucket.objects.get(source["name"])
            if found is None:
                return _error(404, "Not Found")
            generation = _generation(found)
            conditions = source.get("objectPreconditions", {})
            if {str(source.get("generation", generation)), str(conditions.get("ifGenerationMatch", generation))} != {
                generation
            }:
                return _error(412, "At least one of the pre-conditions you specified did not hold.")
            upload.parts[str(number)] = found.size, found.content
        return self._insert(bucket, name, key, upload.joined([*upload.parts]), query)


def _own_url(request: Request) -> str:
    scheme = "https" if request.is_tls else "http"
    return f"{scheme}://{request.header('host')}{request.path}?{request.query}"


def _parts(request: Request) -> tuple[dict[str, Any], Stored]:
    """Return metadata and object of a body of two parts (RFC 2387), with CRLF or LF.

    Of a body that is not kept, only the size of the object is known: it ends with the delimiter and one line end.
    """
    boundary = (request.header("content-type") or "").partition("boundary=")[2].strip("\"'").encode()
    delimiter = b"--" + boundary
    body = request.beginning if request.body is None else request.body
    _, first, rest = body.split(delimiter, 2)
    described = json.loads(first[first.index(b"{") : first.rindex(b"}") + 1])
    end = b"\r\n" if rest.startswith(b"\r\n") else b"\n"
    start = rest.index(end * 2) + len(end) * 2
    if request.body is None:
        before = len(body) - len(rest) + start
        return described, Stored(request.size - before - len(end + delimiter + b"--" + end), None, {})
    data = rest[start : rest.rindex(end + delimiter)]
    return described, Stored(len(data), data, {})


def _given(described: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of an object that reads return, as text, like headers."""
    return {name: json.dumps(described[name]) for name in KEPT if name in described}


def _generation(stored: Stored) -> str:
    return str(int(stored.etag.strip('"'), 16))


def _checksum(stored: Stored) -> str:
    if stored.content is not None:
        return _encoded(google_crc32c.value(stored.content))
    return _checksum_of_blocks(stored.size)


@cache
def _checksum_of_blocks(size: int) -> str:
    checksum = 0
    for piece in pattern(0, size):
        checksum = google_crc32c.extend(checksum, bytes(piece))
    return _encoded(checksum)


def _encoded(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def _resource(bucket: str, key: str, stored: Stored) -> dict[str, Any]:
    return {
        "kind": "storage#object",
        "name": key,
        "bucket": bucket,
        "size": str(stored.size),
        "generation": _generation(stored),
        "metageneration": "1",
        "crc32c": _checksum(stored),
        "etag": stored.etag.strip('"'),
        "timeCreated": MODIFIED_ISO,
        "updated": MODIFIED_ISO,
        "contentType": "application/octet-stream",
        "storageClass": "STANDARD",
        **{name: json.loads(stored.headers[name]) for name in KEPT if name in stored.headers},
    }


def _listing(name: str, bucket: Bucket, query: Mapping[str, str]) -> dict[str, Any]:
    page = page_of(
        bucket.objects,
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        after=query.get("pageToken", ""),
        limit=query.get("maxResults"),
    )
    listed: dict[str, Any] = {"items": [_resource(name, key, stored) for key, stored in page.objects]}
    if page.folders:
        listed["prefixes"] = page.folders
    if page.after is not None:
        listed["nextPageToken"] = page.after
    return listed


def _media(stored: Stored, request: Request) -> Answer:
    headers = {
        "Content-Type": "application/octet-stream",
        "ETag": stored.etag,
        "X-Goog-Generation": _generation(stored),
        "X-Goog-Metageneration": "1",
        "X-Goog-Stored-Content-Length": str(stored.size),
        "X-Goog-Stored-Content-Encoding": "identity",
        "X-Goog-Hash": f"crc32c={_checksum(stored)}",
    }
    answer = content_answer(stored, request.header("range"), headers)
    return answer or _error(416, "The requested range cannot be satisfied.")


def _json(content: Mapping[str, Any]) -> Answer:
    return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(content).encode())


def _error(status: int, message: str) -> Answer:
    reason = {404: "notFound", 412: "conditionNotMet", 416: "requestedRangeNotSatisfiable"}.get(status, "invalid")
    error = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
    return Answer(status, {"Content-Type": "application/json"}, json.dumps({"error": error}).encode())
