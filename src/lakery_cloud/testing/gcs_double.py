"""A test double of Cloud Storage that enforces what its documentation requires and fake-gcs-server does not check.

It implements the part of the JSON API that storages use, in memory, and does not check credentials.
"""

import base64
import gzip
import hashlib
import itertools
import json
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import unquote

import google_crc32c
from aiohttp import web

KiB = 1024
GiB = 1024**3

CHUNK_MULTIPLE = 256 * KiB
"""Cloud Storage, "Resumable uploads": every chunk but the last is a multiple of 256 KiB."""
MAX_METADATA = 8 * KiB
"""Bytes of the names and values of custom metadata: Cloud Storage, "Quotas & limits"."""


@dataclass(slots=True)
class DoubleObject:
    """A stored object.

    Attributes:
        data: Its bytes, as sent.
        generation: Version of the object; a new one each time the object is replaced.
        resource: Its fields `contentType`, `contentEncoding`, `metadata` and `storageClass`.
        updated: Time of the write.
    """

    data: bytes
    generation: int
    resource: Mapping[str, Any]
    updated: str


@dataclass(slots=True)
class DoubleBucket:
    """The fields of a bucket.

    Attributes:
        metageneration: Version of the fields.
        lifecycle: The bucket's lifecycle configuration.
    """

    metageneration: int = 1
    lifecycle: Mapping[str, Any] | None = None


@dataclass(slots=True)
class DoubleSession:
    """A resumable upload.

    Attributes:
        bucket: Bucket of the new object.
        name: Name of the new object.
        query: Query parameters of the first request, with its preconditions.
        resource: Fields of the new object.
        data: The bytes received so far.
        made: The object, once the upload is complete.
        is_cancelled: Whether the client cancelled the upload.
    """

    bucket: str
    name: str
    query: Mapping[str, str]
    resource: Mapping[str, Any]
    data: bytearray = field(default_factory=bytearray)
    made: DoubleObject | None = None
    is_cancelled: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the upload is neither complete nor cancelled."""
        return self.made is None and not self.is_cancelled


class Refusal(Exception):
    """An error response."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class StrictGCS:
    """A server on a free port of 127.0.0.1, for the duration of an `async with` block.

    Args:
        bytes_per_rewrite: Bytes that one call of rewriteTo copies before it returns a token.
        page_size: Most entries on one page of a listing.

    Attributes:
        url: URL of the server.
        buckets: Bucket -> name -> object.
        described: Bucket -> its fields.
        sessions: Resumable uploads by id, including complete and cancelled ones.
        received: The requests, as `<method> <path and query>`.
        shortfalls: Bytes to drop from the end of each of the next chunks; each entry is used once.
        damage: Changes the next body or chunk; used once.
    """

    def __init__(self, *, bytes_per_rewrite: int = GiB, page_size: int = 1000) -> None:
        self.url = ""
        self.bytes_per_rewrite = bytes_per_rewrite
        self.page_size = page_size
        self.buckets: dict[str, dict[str, DoubleObject]] = {}
        self.described: defaultdict[str, DoubleBucket] = defaultdict(DoubleBucket)
        self.sessions: dict[str, DoubleSession] = {}
        self.received: list[str] = []
        self.shortfalls: list[int] = []
        self.damage: Callable[[bytes], bytes] | None = None
        self._rewrites: dict[str, tuple[tuple[Any, ...], int]] = {}
        self._generations = itertools.count(1_700_000_000_000_000)
        application = web.Application(client_max_size=16 * GiB)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, auto_decompress=False, shutdown_timeout=1, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append(f"{request.method} {request.raw_path}")
        try:
            return await self._dispatch(request)
        except Refusal as refusal:
            error = {"message": str(refusal), "domain": "global", "reason": refusal.reason}
            body = {"error": {"code": refusal.status, "message": str(refusal), "errors": [error]}}
            return web.json_response(body, status=refusal.status)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = [unquote(segment) for segment in request.rel_url.raw_path.strip("/").split("/")]
        match request.method, path:
            case "GET", ["storage", "v1", "b", bucket]:
                return self._bucket(bucket, request.query)
            case "PATCH", ["storage", "v1", "b", bucket]:
                return self._patch_bucket(bucket, json.loads(await request.read()), request.query)
            case "POST", ["storage", "v1", "b"]:
                return self._make_bucket(json.loads(await request.read())["name"])
            case "DELETE", ["storage", "v1", "b", bucket]:
                return self._delete_bucket(bucket)
            case "GET", ["storage", "v1", "b", bucket, "o"]:
                return self._list(bucket, request.query)
            case "GET", ["storage", "v1", "b", bucket, "o", name]:
                return self._get(bucket, name, request)
            case "DELETE", ["storage", "v1", "b", bucket, "o", name]:
                self._existing(bucket, name, request.query)
                del self._objects(bucket)[name]
                return web.Response(status=204)
            case "POST", ["storage", "v1", "b", source, "o", name, "rewriteTo", "b", bucket, "o", copy]:
                return await self._rewrite((source, name), (bucket, copy), request)
            case "POST", ["upload", "storage", "v1", "b", bucket, "o"]:
                return await self._insert(bucket, request)
            case "PUT", ["upload", "storage", "v1", "b", _, "o"]:
                return await self._receive(request)
            case "DELETE", ["upload", "storage", "v1", "b", _, "o"]:
                session = self._session(request)
                if not session.is_open:
                    raise Refusal(410, "gone", "the upload is finished")
                session.is_cancelled = True
                return web.Response(status=499)
        raise Refusal(404, "notFound", f"no such method: {request.method} {request.raw_path}")

    # Buckets

    def _objects(self, bucket: str) -> dict[str, DoubleObject]:
        try:
            return self.buckets[bucket]
        except KeyError:
            raise Refusal(404, "notFound", "The specified bucket does not exist.") from None

    def _make_bucket(self, bucket: str) -> web.Response:
        if bucket in self.buckets:
            raise Refusal(409, "conflict", "You already own this bucket.")
        self.buckets[bucket] = {}
        return web.json_response({"kind": "storage#bucket", "name": bucket})

    def _delete_bucket(self, bucket: str) -> web.Response:
        if self._objects(bucket):
            raise Refusal(409, "conflict", "The bucket you tried to delete is not empty.")
        del self.buckets[bucket]
        self.described.pop(bucket, None)
        return web.Response(status=204)

    def _bucket(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        self._objects(bucket)
        found = self.described[bucket]
        if query.get("ifMetagenerationMatch") not in (None, str(found.metageneration)):
            raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        resource: dict[str, Any] = {"kind": "storage#bucket", "name": bucket}
        resource["metageneration"] = str(found.metageneration)
        resource |= {"lifecycle": found.lifecycle} if found.lifecycle else {}
        fields = query["fields"].split(",") if "fields" in query else resource
        return web.json_response({name: value for name, value in resource.items() if name in fields})

    def _patch_bucket(self, bucket: str, changes: Mapping[str, Any], query: Mapping[str, str]) -> web.Response:
        self._bucket(bucket, query)
        if changes.keys() != {"lifecycle"}:
            raise Refusal(400, "invalid", "this server changes only the lifecycle of a bucket")
        for rule in (changes["lifecycle"] or {}).get("rule", ()):
            # Cloud Storage, "Object Lifecycle Management": one action and at least one condition.
            if rule.keys() != {"action", "condition"} or not rule["action"].get("type") or not rule["condition"]:
                raise Refusal(400, "invalid", "A lifecycle rule must have an action and a condition.")
        found = self.described[bucket]
        found.metageneration += 1
        found.lifecycle = changes["lifecycle"]
        return self._bucket(bucket, {name: query[name] for name in query if name == "fields"})

    def _list(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, DoubleObject | None] = {}
        for name, each in sorted(self._objects(bucket).items(), key=lambda item: item[0].encode()):
            if name.startswith(prefix):
                rest = name[len(prefix) :]
                is_below = bool(delimiter) and delimiter in rest
                shown = prefix + rest.partition(delimiter)[0] + delimiter if is_below else name
                entries[shown] = None if is_below else each
        after = base64.urlsafe_b64decode(query["pageToken"]).decode() if "pageToken" in query else ""
        names = [name for name in entries if name.encode() > after.encode()]
        size = min(self.page_size, int(query.get("maxResults", self.page_size)))
        page: dict[str, Any] = {"kind": "storage#objects"}
        items = [_resource(bucket, name, found) for name in names[:size] if (found := entries[name]) is not None]
        prefixes = [name for name in names[:size] if entries[name] is None]
        page |= {"items": items} if items else {}
        page |= {"prefixes": prefixes} if prefixes else {}
        if len(names) > size:
            page["nextPageToken"] = base64.urlsafe_b64encode(names[size - 1].encode()).decode()
        return web.json_response(page)

    # Objects

    def _existing(self, bucket: str, name: str, query: Mapping[str, str], *, prefix: str = "if") -> DoubleObject:
        """Return the object if it has the requested generation and meets the preconditions."""
        found = self._objects(bucket).get(name)
        wanted = query.get("generation" if prefix == "if" else "sourceGeneration")
        if found is None or wanted not in (None, str(found.generation)):
            raise Refusal(404, "notFound", f"No such object: {bucket}/{name}")
        _check_conditions(found, query, prefix=prefix)
        return found

    def _store(
        self, bucket: str, name: str, data: bytes, resource: Mapping[str, Any], query: Mapping[str, str]
    ) -> DoubleObject:
        """Store an object if the preconditions hold and the checksums match."""
        objects = self._objects(bucket)
        _check_conditions(objects.get(name), query)
        given = {"crc32c": resource.get("crc32c"), "md5Hash": resource.get("md5Hash")}
        for checksum, computed in _checksums(data).items():
            if given[checksum] not in (None, computed):
                word = "CRC32C" if checksum == "crc32c" else "MD5 hash"
                raise Refusal(
                    400,
                    "invalid",
                    f'Provided {word} "{given[checksum]}" doesn\'t match calculated {word} "{computed}".',
                )
        metadata = resource.get("metadata") or {}
        if any(not isinstance(value, str) for value in metadata.values()):
            raise Refusal(400, "invalid", "Metadata values must be strings.")
        if sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items()) > MAX_METADATA:
            raise Refusal(400, "invalid", "The metadata is too large.")
        kept = {
            key: resource[key]
            for key in ("contentType", "contentEncoding", "metadata", "storageClass")
            if resource.get(key)
        }
        made = DoubleObject(data, next(self._generations), kept, datetime.now(UTC).isoformat())
        objects[name] = made
        return made

    def _get(self, bucket: str, name: str, request: web.Request) -> web.Response:
        found = self._existing(bucket, name, request.query)
        if request.query.get("alt", "json") != "media":
            return web.json_response(_resource(bucket, name, found))
        checksums = _checksums(found.data)
        encoding = found.resource.get("contentEncoding")
        headers = {
            "Content-Type": found.resource.get("contentType", "application/octet-stream"),
            "X-Goog-Generation": str(found.generation),
            "X-Goog-Hash": f"crc32c={checksums['crc32c']},md5={checksums['md5Hash']}",
            "X-Goog-Stored-Content-Length": str(len(found.data)),
            "X-Goog-Stored-Content-Encoding": encoding or "identity",
        }
        if encoding == "gzip" and "gzip" not in request.headers.get("Accept-Encoding", ""):
            # Decompressive transcoding ignores ranges.
            return web.Response(body=gzip.decompress(found.data), headers=headers)
        headers |= {"Content-Encoding": encoding} if encoding else {}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if span is None:
            return web.Response(body=found.data, headers=headers)
        size, start = len(found.data), int(span[1])
        stop = min(int(span[2]) + 1 if span[2] else size, size)
        if start >= stop:
            raise Refusal(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return web.Response(status=206, body=found.data[start:stop], headers=headers)

    async def _rewrite(self, source: tuple[str, str], copy: tuple[str, str], request: web.Request) -> web.Response:
        query = request.query
        found = self._existing(*source, query, prefix="ifSource")
        _check_conditions(self._objects(copy[0]).get(copy[1]), query)
        body = await request.read()
        task = (source, copy, found.generation, body)
        token = query.get("rewriteToken")
        known, done = self._rewrites.pop(token, (None, 0)) if token else (task, 0)
        if known != task:
            raise Refusal(400, "invalid", "The rewrite token is invalid for this request.")
        size = len(found.data)
        done = min(done + self.bytes_per_rewrite, size)
        progress = {"kind": "storage#rewriteResponse", "totalBytesRewritten": str(done), "objectSize": str(size)}
        if done < size:
            token = secrets.token_urlsafe()
            self._rewrites[token] = (task, done)
            return web.json_response({**progress, "done": False, "rewriteToken": token})
        # Without a body the copy has the fields of its source.
        made = self._store(*copy, found.data, json.loads(body) if body else found.resource, query)
        return web.json_response({**progress, "done": True, "resource": _resource(*copy, made)})

    # Uploads

    async def _insert(self, bucket: str, request: web.Request) -> web.Response:
        query = request.query
        resource: dict[str, Any]
        self._objects(bucket)
        body = await request.read()
        match query.get("uploadType"):
            case "media":
                resource = {"name": query["name"], "contentType": request.headers.get("Content-Type")}
                return self._insert_object(bucket, resource, body, query)
            case "multipart":
                resource, data = _split(body, request.headers.get("Content-Type", ""))
                return self._insert_object(bucket, resource, data, query)
            case "resumable":
                resource = {"contentType": request.headers.get("X-Upload-Content-Type")}
                resource |= json.loads(body) if body else {}
                name = query.get("name") or str(resource["name"])
                _check_conditions(self._objects(bucket).get(name), query)
                upload_id = secrets.token_urlsafe()
                self.sessions[upload_id] = DoubleSession(bucket, name, dict(query), resource)
                # Host is the address that the client used, which may be a proxy's.
                endpoint = f"http://{request.host}/upload/storage/v1/b/{bucket}/o"
                return web.Response(headers={"Location": f"{endpoint}?uploadType=resumable&upload_id={upload_id}"})
        raise Refusal(400, "invalid", "uploadType must be media, multipart or resumable")

    def _insert_object(
        self, bucket: str, resource: Mapping[str, Any], data: bytes, query: Mapping[str, str]
    ) -> web.Response:
        name = query.get("name") or str(resource["name"])
        return web.json_response(
            _resource(bucket, name, self._store(bucket, name, self._damaged(data), resource, query))
        )

    def _session(self, request: web.Request) -> DoubleSession:
        session = self.sessions.get(request.query.get("upload_id", ""))
        if session is None:
            raise Refusal(404, "notFound", "No such upload")
        if session.is_cancelled:
            raise Refusal(410, "gone", "The upload was cancelled")
        return session

    async def _receive(self, request: web.Request) -> web.Response:
        """Receive a chunk of a resumable upload, or a status query."""
        session = self._session(request)
        chunk = self._damaged(await request.read())
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("Content-Range", ""))
        if span is None:
            raise Refusal(400, "invalid", "Content-Range is missing or malformed")
        total = None if span[3] == "*" else int(span[3])
        if session.made is None:
            self._append(session, chunk, span, total)
            if total is None or len(session.data) < total:
                arrived = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
                return web.Response(status=308, headers=arrived)
            session.made = self._store(
                session.bucket, session.name, bytes(session.data), session.resource, session.query
            )
        return web.json_response(_resource(session.bucket, session.name, session.made))

    def _append(self, session: DoubleSession, chunk: bytes, span: re.Match[str], total: int | None) -> None:
        if span[1] is None:
            if chunk:
                raise Refusal(400, "invalid", "a status query has no body")
            return
        start, stop = int(span[1]), int(span[2]) + 1
        if stop - start != len(chunk):
            raise Refusal(400, "invalid", "Content-Range does not fit the body")
        if start > len(session.data):
            raise Refusal(400, "invalid", f"{len(session.data)} bytes have arrived; the next chunk must start there")
        if total is None and len(chunk) % CHUNK_MULTIPLE:
            raise Refusal(400, "invalid", f"a chunk that is not the last must be a multiple of {CHUNK_MULTIPLE} bytes")
        if total is not None and stop > total:
            raise Refusal(400, "invalid", "the chunk goes past the total")
        lost = self.shortfalls.pop(0) if self.shortfalls else 0
        # Bytes that the session already has are ignored.
        session.data += chunk[len(session.data) - start : max(0, len(chunk) - lost)]

    def _damaged(self, data: bytes) -> bytes:
        damage, self.damage = self.damage, None
        return damage(data) if damage else data


def _check_conditions(found: DoubleObject | None, query: Mapping[str, str], *, prefix: str = "if") -> None:
    """Refuse a request whose preconditions don't hold; a missing object has generation 0."""
    generation = str(found.generation) if found else "0"
    wanted, unwanted = query.get(f"{prefix}GenerationMatch"), query.get(f"{prefix}GenerationNotMatch")
    metageneration = query.get(f"{prefix}MetagenerationMatch")  # the metadata of objects never changes here: it is 1
    if wanted not in (None, generation) or unwanted == generation or (found and metageneration not in (None, "1")):
        raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def _checksums(data: bytes) -> dict[str, str]:
    crc32c = google_crc32c.value(data).to_bytes(4, "big")
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return {"crc32c": base64.b64encode(crc32c).decode(), "md5Hash": base64.b64encode(md5).decode()}


def _resource(bucket: str, name: str, found: DoubleObject) -> dict[str, Any]:
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "generation": str(found.generation),
        "metageneration": "1",
        "size": str(len(found.data)),
        "timeCreated": found.updated,
        "updated": found.updated,
        "storageClass": "STANDARD",
        **_checksums(found.data),
        **found.resource,
    }


def _split(body: bytes, content_type: str) -> tuple[dict[str, Any], bytes]:
    """Split a multipart body into resource and data by RFC 2046: lines and delimiters end with CRLF."""
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if not content_type.startswith("multipart/related") or boundary is None:
        raise Refusal(400, "invalid", "Content-Type must be multipart/related with a boundary")
    delimiter = f"\r\n--{boundary[1]}".encode()
    parts = (b"\r\n" + body).split(delimiter)
    if len(parts) != 4 or not parts[3].startswith(b"--"):
        raise Refusal(400, "invalid", "Malformed multipart body.")
    contents = [part.partition(b"\r\n\r\n") for part in parts[1:3]]
    if any(not separator for _, separator, _ in contents):
        raise Refusal(400, "invalid", "Malformed multipart body.")
    return dict(json.loads(contents[0][2])), contents[1][2]
