"""S3's REST API, as a fault proxy sees it. Operations are named as in botocore.

Only path-style requests are recognised: the bucket is in the path, not in the host name.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote
from xml.sax.saxutils import escape

from lakery_cloud.testing.faults.dialect import Dialect, Request

_MARKERS = frozenset(
    re.findall(
        r"\S+",
        "accelerate acl analytics attributes cors delete encryption inventory legal-hold lifecycle list-type location "
        "logging metrics notification object-lock ownershipControls policy policyStatus publicAccessBlock renameObject "
        "replication requestPayment restore retention select tagging torrent uploadId uploads versioning versions website",
    )
)
"""Query parameters that choose the operation."""
_COPY = "copy"
"""Marks a request with the header x-amz-copy-source."""
_OPERATIONS: Mapping[tuple[str, str, frozenset[str]], str] = {
    (method, level, frozenset(markers.split())): operation
    for method, level, markers, operation in (
        ("PUT", "key", "", "put_object"),
        ("PUT", "key", "copy", "copy_object"),
        ("PUT", "key", "uploadId", "upload_part"),
        ("PUT", "key", "uploadId copy", "upload_part_copy"),
        ("PUT", "key", "tagging", "put_object_tagging"),
        ("GET", "key", "", "get_object"),
        ("GET", "key", "tagging", "get_object_tagging"),
        ("GET", "key", "attributes", "get_object_attributes"),
        ("GET", "key", "uploadId", "list_parts"),
        ("HEAD", "key", "", "head_object"),
        ("POST", "key", "uploads", "create_multipart_upload"),
        ("POST", "key", "uploadId", "complete_multipart_upload"),
        ("DELETE", "key", "", "delete_object"),
        ("DELETE", "key", "uploadId", "abort_multipart_upload"),
        ("DELETE", "key", "tagging", "delete_object_tagging"),
        ("GET", "bucket", "", "list_objects"),
        ("GET", "bucket", "list-type", "list_objects_v2"),
        ("GET", "bucket", "versions", "list_object_versions"),
        ("GET", "bucket", "uploads", "list_multipart_uploads"),
        ("GET", "bucket", "location", "get_bucket_location"),
        ("GET", "bucket", "lifecycle", "get_bucket_lifecycle_configuration"),
        ("PUT", "bucket", "lifecycle", "put_bucket_lifecycle_configuration"),
        ("GET", "bucket", "versioning", "get_bucket_versioning"),
        ("HEAD", "bucket", "", "head_bucket"),
        ("PUT", "bucket", "", "create_bucket"),
        ("DELETE", "bucket", "", "delete_bucket"),
        ("POST", "bucket", "delete", "delete_objects"),
        ("GET", "service", "", "list_buckets"),
    )
}
"""(method, level, markers) -> operation."""
_NEUTRAL_NAMES = {
    "put_object": "put",
    "get_object": "get",
    "head_object": "head",
    "delete_object": "delete",
    "copy_object": "copy",
    "create_multipart_upload": "begin_upload",
    "upload_part": "upload_part",
    "upload_part_copy": "copy_part",
    "complete_multipart_upload": "complete_upload",
    "abort_multipart_upload": "abort_upload",
    "list_objects": "list",
    "list_objects_v2": "list",
    "list_multipart_uploads": "list_uploads",
    "get_object_tagging": "tags",
    "head_bucket": "has_bucket",
}


def _recognise(request: Request) -> tuple[str, str]:
    bucket, _, key = unquote(request.path).removeprefix("/").partition("/")
    level = "key" if key else "bucket" if bucket else "service"
    markers = request.query.keys() & _MARKERS
    if "x-amz-copy-source" in request.headers:
        markers |= {_COPY}
    return _OPERATIONS.get((request.method, level, frozenset(markers)), ""), key


def _error(_: int, code: str, message: str) -> tuple[dict[str, str], bytes]:
    """Build an error response: S3 API Reference, "Error responses", "REST error responses"."""
    headers = {"Content-Type": "application/xml", "x-amz-request-id": "FAULT00000000000"}
    return headers, (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        "<RequestId>FAULT00000000000</RequestId></Error>"
    ).encode()


S3 = Dialect(
    "s3",
    {operation: _NEUTRAL_NAMES.get(operation, "") for operation in _OPERATIONS.values()},
    _recognise,
    _error,
    # S3 API Reference, "Error responses", "List of error codes". It has no codes for 401 and 429.
    {
        200: "InternalError",
        400: "InvalidRequest",
        401: "AccessDenied",
        403: "AccessDenied",
        404: "NoSuchKey",
        408: "RequestTimeout",
        409: "ConditionalRequestConflict",
        412: "PreconditionFailed",
        416: "InvalidRange",
        429: "SlowDown",
        500: "InternalError",
        501: "NotImplemented",
        503: "SlowDown",
    },
    (400, "ExpiredToken", "The provided token has expired."),
)
