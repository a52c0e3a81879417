"""The requests of a double of Cloud Storage that upload objects: in one request, or in a resumable upload."""

import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from lakery_cloud.testing.doubles.gcs_objects import ObjectRequests
from lakery_cloud.testing.doubles.gcs_state import DoubleSession, GCSState, Refusal

KiB = 1024
CHUNK_MULTIPLE = 256 * KiB
"""Cloud Storage, "Resumable uploads": every chunk but the last is a multiple of 256 KiB."""

_CRC32C = re.compile(r"crc32c=([A-Za-z0-9+/=]+)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class UploadRequests:
    """Answers requests that upload objects.

    Attributes:
        shortfalls: Bytes to drop from the end of each of the next chunks; each entry is used once.
        damage: Changes the next body or chunk; used once.
    """

    def __init__(self, state: GCSState, objects: ObjectRequests) -> None:
        self._state = state
        self._objects = objects
        self.shortfalls: list[int] = []
        self.damage: Callable[[bytes], bytes] | None = None

    async def insert(self, bucket: str, request: web.Request) -> web.Response:
        """objects.insert, or the beginning of a resumable upload."""
        query = request.query
        self._state.objects(bucket)
        body = await request.read()
        match query.get("uploadType"):
            case "media":
                resource = {"name": query["name"], "contentType": request.headers.get("Content-Type")}
                return self._insert(bucket, resource, body, query)
            case "multipart":
                resource, data = _split(body, request.headers.get("Content-Type", ""))
                return self._insert(bucket, resource, data, query)
            case "resumable":
                return self._begin(bucket, request, body)
        raise Refusal(400, "invalid", "uploadType must be media, multipart or resumable")

    def _insert(self, bucket: str, resource: Mapping[str, Any], data: bytes, query: Mapping[str, str]) -> web.Response:
        name = query.get("name") or str(resource["name"])
        made = self._state.store(bucket, name, self._damaged(data), resource, query)
        return web.json_response(self._objects.describe(bucket, name, made))

    def _begin(self, bucket: str, request: web.Request, body: bytes) -> web.Response:
        query = request.query
        resource = {"contentType": request.headers.get("X-Upload-Content-Type"), **(json.loads(body) if body else {})}
        name = query.get("name") or str(resource["name"])
        self._state.check_conditions(self._state.objects(bucket).get(name), query, operation="upload")
        upload_id = secrets.token_urlsafe()
        self._state.sessions[upload_id] = DoubleSession(bucket, name, dict(query), resource)
        # Host is the address that the client used, which may be a proxy's.
        host = self._state.profile.session_host or request.host
        endpoint = f"http://{host}/upload/storage/v1/b/{bucket}/o"
        return web.Response(headers={"Location": f"{endpoint}?uploadType=resumable&upload_id={upload_id}"})

    async def receive(self, request: web.Request) -> web.Response:
        """A chunk of a resumable upload, or a query for its state."""
        session = self._session(request)
        chunk = self._damaged(await request.read())
        span = _CONTENT_RANGE.fullmatch(request.headers.get("Content-Range", ""))
        if span is None:
            raise Refusal(400, "invalid", "Content-Range is missing or malformed")
        total = None if span[3] == "*" else int(span[3])
        if session.made is None:
            self._append(session, chunk, span, total)
            is_ended = span[1] is None and self._state.profile.ends_uploads_on_queries
            if not is_ended and (total is None or len(session.data) < total):
                received = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
                return web.Response(status=308, headers=received)
            checksum = _CRC32C.search(request.headers.get("X-Goog-Hash", ""))
            resource = {**session.resource, **({"crc32c": checksum[1]} if checksum else {})}
            session.made = self._state.store(
                session.bucket, session.name, bytes(session.data), resource, session.query, operation="upload"
            )
        return web.json_response(self._objects.describe(session.bucket, session.name, session.made))

    def cancel(self, request: web.Request) -> web.Response:
        """The cancellation of a resumable upload."""
        session = self._session(request)
        if not session.is_open:
            raise Refusal(410, "gone", "the upload is finished")
        session.is_cancelled = True
        return web.Response(status=499)

    def _session(self, request: web.Request) -> DoubleSession:
        session = self._state.sessions.get(request.query.get("upload_id", ""))
        if session is None:
            raise Refusal(404, "notFound", "No such upload")
        if session.is_cancelled:
            raise Refusal(410, "gone", "The upload was cancelled")
        return session

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
