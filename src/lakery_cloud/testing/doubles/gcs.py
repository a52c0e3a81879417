"""A test double of Cloud Storage that enforces what its documentation requires, or differs from it as a profile says.

It implements the part of the JSON API that storages use, in memory, and checks neither credentials nor permissions.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

from lakery_cloud.testing.doubles.gcs_buckets import BucketRequests
from lakery_cloud.testing.doubles.gcs_objects import ObjectRequests
from lakery_cloud.testing.doubles.gcs_profiles import GCS_PROFILES, GCSProfile
from lakery_cloud.testing.doubles.gcs_state import DoubleBucket, DoubleObject, DoubleSession, GCSState, Refusal
from lakery_cloud.testing.doubles.gcs_uploads import UploadRequests
from lakery_cloud.testing.doubles.server import DoubleServer

GiB = 1024**3
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class StrictGCS(DoubleServer):
    """A server on a free port of 127.0.0.1, for the duration of an `async with` block.

    Args:
        profile: The store that it behaves as, or the name of its profile.
        bytes_per_rewrite: Bytes that one call of rewriteTo copies before it returns a token.
        page_size: Most entries on one page of a listing.

    Attributes:
        url: URL of the server.
        received: The requests, as `<method> <path and query>`.
        operations: The same by their names in the reference of the JSON API; `upload` is one of a resumable upload.
    """

    def __init__(
        self, profile: GCSProfile | str = "google", *, bytes_per_rewrite: int = GiB, page_size: int = 1000
    ) -> None:
        super().__init__()
        self.operations: list[str] = []
        self._state = GCSState(GCS_PROFILES[profile] if isinstance(profile, str) else profile)
        self._objects = ObjectRequests(self._state, bytes_per_rewrite=bytes_per_rewrite)
        self._buckets = BucketRequests(self._state, self._objects, page_size=page_size)
        self._uploads = UploadRequests(self._state, self._objects)

    @property
    def profile(self) -> GCSProfile:
        """The store that it behaves as."""
        return self._state.profile

    @profile.setter
    def profile(self, profile: GCSProfile | str) -> None:
        self._state.profile = GCS_PROFILES[profile] if isinstance(profile, str) else profile

    def make_bucket(self, bucket: str, profile: str | None = None) -> None:
        """Make a bucket, which keeps what another profile says of deleted objects if one is named."""
        self._state.buckets[bucket] = {}
        if profile:
            self._state.bucket_profiles[bucket] = GCS_PROFILES[profile]

    @property
    def buckets(self) -> dict[str, dict[str, DoubleObject]]:
        """Bucket -> name -> live object."""
        return self._state.buckets

    @property
    def described(self) -> Mapping[str, DoubleBucket]:
        """Bucket -> its fields, and the versions that it keeps."""
        return self._state.described

    @property
    def sessions(self) -> dict[str, DoubleSession]:
        """Resumable uploads by id, including complete and cancelled ones."""
        return self._state.sessions

    @property
    def bytes_per_rewrite(self) -> int:
        """Bytes that one call of rewriteTo copies before it returns a token."""
        return self._objects.bytes_per_rewrite

    @bytes_per_rewrite.setter
    def bytes_per_rewrite(self, size: int) -> None:
        self._objects.bytes_per_rewrite = size

    @property
    def page_size(self) -> int:
        """Most entries on one page of a listing."""
        return self._buckets.page_size

    @page_size.setter
    def page_size(self, size: int) -> None:
        self._buckets.page_size = size

    @property
    def shortfalls(self) -> list[int]:
        """Bytes to drop from the end of each of the next chunks; each entry is used once."""
        return self._uploads.shortfalls

    @shortfalls.setter
    def shortfalls(self, sizes: list[int]) -> None:
        self._uploads.shortfalls = sizes

    @property
    def damage(self) -> Callable[[bytes], bytes] | None:
        """Changes the next body or chunk; used once."""
        return self._uploads.damage

    @damage.setter
    def damage(self, damage: Callable[[bytes], bytes] | None) -> None:
        self._uploads.damage = damage

    def put(self, bucket: str, name: str, data: bytes) -> None:
        """Store an object without a request."""
        self._state.store(bucket, name, data, {"contentType": "application/octet-stream"}, {})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = [unquote(segment) for segment in request.rel_url.raw_path.strip("/").split("/")]
        operation = operation_of(request.method, path)
        self.received.append(f"{request.method} {request.raw_path}")
        self.operations.append(operation)
        try:
            answer = await self._answer(request, operation, path)
            if operation in self.profile.empties:
                answer = web.json_response({})
        except Refusal as refusal:
            answer = self._refused(request, refusal)
        for name in self.profile.missing:
            answer.headers.popall(name, None)
        return answer

    async def _answer(self, request: web.Request, operation: str, path: list[str]) -> web.StreamResponse:
        profile = self.profile
        if operation != "buckets.insert":
            if profile.answers == "page":
                return web.Response(body=PAGE, content_type="text/html")
            if profile.answers == "redirect":
                return web.Response(status=308, headers={"Location": "http://127.0.0.1:9/elsewhere"})
            if operation in profile.invents:
                return web.json_response({})
            if operation in profile.no_operations:
                raise Refusal(400, "invalid", f"{operation} is not supported")
            # The URL of a session has the payer of its first request.
            if profile.requester_pays and operation != "upload" and "userProject" not in request.query:
                message = "Bucket is a requester pays bucket but no user project provided."
                raise Refusal(400, "userProjectMissing", message)
        return await self._dispatch(request, operation, path)

    async def _dispatch(self, request: web.Request, operation: str, path: list[str]) -> web.StreamResponse:
        query, body = request.query, await request.read()
        match operation, path:
            case "buckets.insert", _:
                return self._buckets.make(json.loads(body)["name"])
            case "buckets.get", [*_, bucket]:
                return self._buckets.get(bucket, query)
            case "buckets.patch", [*_, bucket]:
                return self._buckets.patch(bucket, json.loads(body), query)
            case "buckets.delete", [*_, bucket]:
                return self._buckets.delete(bucket)
            case "objects.list", [*_, bucket, "o"]:
                return self._buckets.list(bucket, query)
            case "objects.insert", [*_, bucket, "o"]:
                return await self._uploads.insert(bucket, request)
            case "upload", _ if request.method == "PUT":
                return await self._uploads.receive(request)
            case "upload", _:
                return self._uploads.cancel(request)
        return await self._on_object(request, operation, path, body)

    async def _on_object(self, request: web.Request, operation: str, path: list[str], body: bytes) -> web.Response:
        query = request.query
        match operation, path:
            case "objects.get", [*_, bucket, "o", name]:
                return self._objects.get(bucket, name, request)
            case "objects.delete", [*_, bucket, "o", name]:
                return self._objects.delete(bucket, name, query)
            case "objects.patch", [*_, bucket, "o", name]:
                return self._objects.patch(bucket, name, body, query)
            case "objects.compose", [*_, bucket, "o", name, "compose"]:
                return self._objects.compose(bucket, name, body, query)
            case "objects.move", [*_, bucket, "o", source, "moveTo", "o", name]:
                return self._objects.move(bucket, source, name, query)
            case "objects.rewrite", [*_, source, "o", name, "rewriteTo", "b", bucket, "o", copy]:
                return await self._objects.rewrite((source, name), (bucket, copy), body, query)
        raise Refusal(404, "notFound", f"no such method: {request.method} {request.raw_path}")

    def _refused(self, request: web.Request, refusal: Refusal) -> web.Response:
        content_type = "application/xml" if self.profile.errors == "xml" else "application/json"
        body = _ERRORS[self.profile.errors](refusal)
        headers = {}
        if self.profile.compresses_errors and "gzip" in request.headers.get("Accept-Encoding", ""):
            body, headers = gzip.compress(body, mtime=0), {"Content-Encoding": "gzip"}
        if refusal.status == 499:  # it has no body
            body = b""
        return web.Response(status=refusal.status, body=body, content_type=content_type, headers=headers)


def operation_of(method: str, path: list[str]) -> str:
    """The name of a request in the reference of the JSON API; empty for none."""
    match method, path:
        case (("PUT" | "DELETE"), ["upload", "storage", "v1", "b", _, "o"]):
            return "upload"
        case "POST", ["upload", "storage", "v1", "b", _, "o"]:
            return "objects.insert"
        case "POST", ["storage", "v1", "b"]:
            return "buckets.insert"
        case _, ["storage", "v1", "b", _]:
            return {"GET": "buckets.get", "PATCH": "buckets.patch", "DELETE": "buckets.delete"}.get(method, "")
        case "GET", ["storage", "v1", "b", _, "o"]:
            return "objects.list"
        case _, ["storage", "v1", "b", _, "o", _]:
            return {"GET": "objects.get", "PATCH": "objects.patch", "DELETE": "objects.delete"}.get(method, "")
        case "POST", ["storage", "v1", "b", _, "o", _, "compose"]:
            return "objects.compose"
        case "POST", ["storage", "v1", "b", _, "o", _, "moveTo", "o", _]:
            return "objects.move"
        case "POST", ["storage", "v1", "b", _, "o", _, "rewriteTo", "b", _, "o", _]:
            return "objects.rewrite"
    return ""


_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
}
"""HTTP status -> google.rpc.Code."""
_XML_CODES = {
    "conditionNotMet": "PreconditionFailed",
    "rateLimitExceeded": "SlowDown",
    "forbidden": "AccessDenied",
    "requestedRangeNotSatisfiable": "InvalidRange",
}
"""Reason of the JSON API -> code of the XML API, unless it is the same in capitals."""


def _reasons(refusal: Refusal) -> bytes:
    error: dict[str, Any] = {"message": str(refusal), "domain": "global", "reason": refusal.reason}
    return json.dumps({"error": {"code": refusal.status, "message": str(refusal), "errors": [error]}}).encode()


def _details(refusal: Refusal) -> bytes:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": refusal.reason, "domain": "googleapis.com"}
    error = {"code": refusal.status, "message": str(refusal), "status": _STATUSES.get(refusal.status, "UNKNOWN")}
    return json.dumps({"error": {**error, "details": [info]}}).encode()


def _xml(refusal: Refusal) -> bytes:
    code = _XML_CODES.get(refusal.reason, refusal.reason[:1].upper() + refusal.reason[1:])
    if refusal.status == 404:
        code = "NoSuchBucket" if "bucket does not exist" in str(refusal) else "NoSuchKey"
    if "match calculated" in str(refusal):
        code = "BadDigest"
    text = f"<Code>{code}</Code><Message>Refused.</Message><Details>{escape(str(refusal))}</Details>"
    return f"<?xml version='1.0' encoding='UTF-8'?><Error>{text}</Error>".encode()


_ERRORS = {"reasons": _reasons, "details": _details, "xml": _xml}
