"""A test double of S3 that enforces what its documentation requires, or differs from it as a profile says.

It implements the requests that storages send, in memory, and checks access keys but no signatures.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from aiohttp import web

from lakery_cloud.testing.doubles.s3_buckets import BucketRequests
from lakery_cloud.testing.doubles.s3_checks import S3Checks
from lakery_cloud.testing.doubles.s3_objects import ObjectRequests
from lakery_cloud.testing.doubles.s3_profiles import S3_PROFILES, S3Profile
from lakery_cloud.testing.doubles.s3_state import DoubleUpload, DoubleVersion, Refusal, S3State
from lakery_cloud.testing.doubles.s3_uploads import UploadRequests
from lakery_cloud.testing.doubles.server import DoubleServer

if TYPE_CHECKING:
    from lakery_cloud.providers.s3.storage import S3Storage

_CREDENTIAL = re.compile(r"(?:Credential=)?(?P<key>[^/ ,=]+)/\d{8}/(?P<region>[^/ ,]+)/")
PAGE = b"<html><body>Please log in</body></html>"


class StrictS3(DoubleServer):
    """A server on a free port of 127.0.0.1, for the duration of an `async with` block. Buckets are part of the path.

    Args:
        profile: The store that it behaves as, or the name of its profile.

    Attributes:
        url: URL of the server.
        received: The requests, as `<operation> <path and query>`.
        damage: Changes the next body; used once.
        access_key_id: The access key that requests must be signed with. Another one is refused by `InvalidAccessKeyId`.
        session_token: The session token that requests must have. Another one is refused by `ExpiredToken`.
        region: The region that requests must be signed for. Another one is refused by `AuthorizationHeaderMalformed`.
    """

    access_key_id = "double"
    secret_access_key = "double-secret"  # noqa: S105, a test server's
    session_token: str | None = None
    region = "us-east-1"

    def __init__(self, profile: S3Profile | str = "aws") -> None:
        super().__init__()
        self.damage: Callable[[bytes], bytes] | None = None
        self._refusal: Refusal | None = None
        self._state = S3State(S3_PROFILES[profile] if isinstance(profile, str) else profile)
        self._checks = S3Checks(self._state)
        self._buckets = BucketRequests(self._state, self._checks)
        self._objects = ObjectRequests(self._state, self._checks)
        self._uploads = UploadRequests(self._state, self._checks, self._objects)

    @property
    def profile(self) -> S3Profile:
        """The store that it behaves as."""
        return self._state.profile

    @profile.setter
    def profile(self, profile: S3Profile | str) -> None:
        self._state.profile = S3_PROFILES[profile] if isinstance(profile, str) else profile

    @property
    def buckets(self) -> dict[str, dict[str, list[DoubleVersion]]]:
        """Bucket -> key -> versions, the newest last."""
        return self._state.buckets

    @property
    def lifecycle(self) -> Mapping[str, bytes]:
        """Bucket -> its lifecycle configuration, in XML."""
        return self._state.lifecycle

    @property
    def page_size(self) -> int:
        """Most entries of one page of a listing."""
        return self._buckets.page_size

    @page_size.setter
    def page_size(self, size: int) -> None:
        self._buckets.page_size = size

    @property
    def min_part_size(self) -> int:
        """Smallest part of an upload, except the last one; a smaller one makes tests quick."""
        return self._uploads.min_part_size

    @min_part_size.setter
    def min_part_size(self, size: int) -> None:
        self._uploads.min_part_size = size

    def storage(self, bucket: str, **options: Any) -> "S3Storage":
        """A storage on a bucket, with the credentials that the server accepts."""
        from lakery_cloud.providers.s3.storage import S3Storage

        keys = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        credentials = S3Storage.credentials_from(keys)
        return S3Storage(bucket, **{**credentials, "endpoint_url": self.url, "region": self.region, **options})

    def make_bucket(self, bucket: str, profile: str | None = None) -> None:
        """Make a bucket, with the versions and locks of another profile if one is named."""
        self._state.make_bucket(bucket, S3_PROFILES[profile] if profile else None)

    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket with everything in it."""
        self._state.remove_bucket(bucket)

    def abort_uploads(self, bucket: str) -> None:
        """Abort all multipart uploads, as a lifecycle rule would."""
        self._state.uploads[bucket].clear()

    def refuse(self, status: int, code: str, message: str = "", *, region: str = "") -> None:
        """Refuse every request from now on. Refusals of HEAD have no body, and so no code.

        Args:
            status: HTTP status.
            code: S3's code.
            message: S3's message.
            region: The region of the bucket, which the refusal names.
        """
        self._refusal = Refusal(status, code, message, region=region)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object without a request."""
        self._state.store(bucket, key, data, headers={}, tags={}, checksums={})

    def current(self, bucket: str, key: str) -> DoubleVersion | None:
        """The current version of an object; None if it does not exist."""
        return self._state.current(bucket, key)

    def unfinished_uploads(self, bucket: str) -> list[DoubleUpload]:
        """The multipart uploads that are neither completed nor aborted."""
        return [upload for upload in list(self._state.uploads.get(bucket, {}).values()) if upload.made is None]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        bucket, _, key = unquote(request.rel_url.raw_path.removeprefix("/")).partition("/")
        query = dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))
        operation = operation_of(request, key, query)
        self.received.append(f"{operation} {request.path_qs}")
        body = await request.read()
        try:
            answer = await self._answer(request, operation, bucket, key, query, body)
            if operation in self.profile.empties:
                answer = web.Response()
        except Refusal as refusal:
            answer = _refused(request, refusal)
        if not self.profile.missing_from or operation in self.profile.missing_from:
            for name in self.profile.missing:
                answer.headers.popall(name, None)
        return answer

    async def _answer(
        self, request: web.Request, operation: str, bucket: str, key: str, query: Mapping[str, str], body: bytes
    ) -> web.StreamResponse:
        if self._refusal is not None:
            raise self._refusal
        self._check_signature(request, query)
        if operation == "CreateBucket":
            self._state.make_bucket(bucket)
            return web.Response()
        if self.profile.page:
            return web.Response(body=PAGE, content_type="text/html", headers={"etag": '"page"'})
        if operation in self.profile.invents:
            return web.Response()
        if bucket not in self.buckets:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        if self.damage is not None and body:
            body, self.damage = self.damage(body), None
        self._checks.check_support(request, operation)
        self._checks.check_payer(request)
        self._checks.check_key(key)
        if key:
            return await self._on_object(request, operation, bucket, key, query, body)
        return self._on_bucket(request, operation, bucket, query, body)

    def _check_signature(self, request: web.Request, query: Mapping[str, str]) -> None:
        """Refuse the credentials that a signature names; the signature itself is not checked."""
        signed = _CREDENTIAL.search(request.headers.get("authorization", "") or query.get("X-Amz-Credential", ""))
        if signed is None or signed["key"] != self.access_key_id:
            raise Refusal(403, "InvalidAccessKeyId", "The AWS access key Id you provided does not exist.")
        token = request.headers.get("x-amz-security-token") or query.get("X-Amz-Security-Token")
        if token != self.session_token:
            raise Refusal(400, "ExpiredToken", "The provided token has expired.")
        if signed["region"] != self.region:
            message = f"The authorization header is malformed; the region is wrong; expecting '{self.region}'"
            raise Refusal(400, "AuthorizationHeaderMalformed", message, region=self.region)

    def _on_bucket(
        self, request: web.Request, operation: str, bucket: str, query: Mapping[str, str], body: bytes
    ) -> web.Response:
        match operation:
            case "ListObjectsV2":
                return self._buckets.list(bucket, query)
            case "ListMultipartUploads":
                return self._buckets.list_uploads(bucket, query)
            case "ListObjectVersions":
                return self._buckets.list_versions(bucket, query)
            case "DeleteObjects":
                return self._buckets.delete_many(request, bucket, body)
            case "GetBucketLifecycleConfiguration":
                return self._buckets.get_lifecycle(bucket)
            case "PutBucketLifecycleConfiguration":
                return self._buckets.put_lifecycle(request, bucket, body)
            case "DeleteBucketLifecycle":
                self._state.lifecycle.pop(bucket, None)
                return web.Response(status=204)
            case "DeleteBucket":
                if any(self.current(bucket, key) for key in self.buckets[bucket]):
                    raise Refusal(409, "BucketNotEmpty", "The bucket you tried to delete is not empty.")
                self._state.remove_bucket(bucket)
                return web.Response(status=204)
            case "HeadBucket":
                return web.Response(headers={"x-amz-bucket-region": self.region})
        raise Refusal(501, "NotImplemented", f"{operation} not implemented")

    async def _on_object(
        self, request: web.Request, operation: str, bucket: str, key: str, query: Mapping[str, str], body: bytes
    ) -> web.StreamResponse:
        match operation:
            case "PutObject":
                return self._objects.put(request, bucket, key, body)
            case "CopyObject":
                return await self._objects.copy(request, bucket, key)
            case "DeleteObject":
                return self._objects.delete(request, bucket, key, query.get("versionId"))
            case "GetObject" | "HeadObject":
                return await self._objects.get(request, self._state.find(bucket, key, query.get("versionId")))
            case "GetObjectTagging":
                return self._objects.tagging(self._state.find(bucket, key, query.get("versionId")))
            case "CreateMultipartUpload":
                return self._uploads.begin(request, bucket, key)
        if "uploadId" not in query:
            raise Refusal(501, "NotImplemented", f"{operation} not implemented")
        upload = self._uploads.find(bucket, key, query["uploadId"])
        match operation:
            case "UploadPart":
                return self._uploads.put_part(request, upload, int(query["partNumber"]), body)
            case "UploadPartCopy":
                return self._uploads.copy_part(request, upload, int(query["partNumber"]))
            case "ListParts":
                return self._uploads.list_parts(upload)
            case "AbortMultipartUpload":
                return self._uploads.abort(bucket, query["uploadId"])
            case _:
                return self._uploads.complete(request, bucket, upload, body)


def operation_of(request: web.Request, key: str, query: Mapping[str, str]) -> str:
    """The API Reference's name of a request."""
    is_copy = "x-amz-copy-source" in request.headers
    named = next(
        (name for name in ("tagging", "uploads", "uploadId", "lifecycle", "versions", "delete") if name in query), ""
    )
    if request.method == "PUT" and is_copy:
        return "UploadPartCopy" if named == "uploadId" else "CopyObject"
    kind = "object" if key else "bucket"
    return _OPERATIONS.get((kind, named, request.method), f"{request.method} {named or kind}")


_OPERATIONS = {
    ("bucket", "", "PUT"): "CreateBucket",
    ("bucket", "", "HEAD"): "HeadBucket",
    ("bucket", "", "DELETE"): "DeleteBucket",
    ("bucket", "", "GET"): "ListObjectsV2",
    ("bucket", "uploads", "GET"): "ListMultipartUploads",
    ("bucket", "versions", "GET"): "ListObjectVersions",
    ("bucket", "delete", "POST"): "DeleteObjects",
    ("bucket", "lifecycle", "GET"): "GetBucketLifecycleConfiguration",
    ("bucket", "lifecycle", "PUT"): "PutBucketLifecycleConfiguration",
    ("bucket", "lifecycle", "DELETE"): "DeleteBucketLifecycle",
    ("object", "", "PUT"): "PutObject",
    ("object", "", "GET"): "GetObject",
    ("object", "", "HEAD"): "HeadObject",
    ("object", "", "DELETE"): "DeleteObject",
    ("object", "tagging", "GET"): "GetObjectTagging",
    ("object", "uploads", "POST"): "CreateMultipartUpload",
    ("object", "uploadId", "PUT"): "UploadPart",
    ("object", "uploadId", "GET"): "ListParts",
    ("object", "uploadId", "DELETE"): "AbortMultipartUpload",
    ("object", "uploadId", "POST"): "CompleteMultipartUpload",
}


def _refused(request: web.Request, refusal: Refusal) -> web.Response:
    details = f"<Condition>{refusal.condition}</Condition>" if refusal.condition else ""
    details += f"<Region>{refusal.region}</Region>" if refusal.region else ""
    xml = f"<Error><Code>{refusal.code}</Code><Message>{escape(str(refusal))}</Message>{details}</Error>"
    body = b"" if request.method == "HEAD" else xml.encode()
    headers = {"x-amz-bucket-region": refusal.region} if refusal.region else {}
    return web.Response(status=refusal.status, body=body, content_type="application/xml", headers=headers)
