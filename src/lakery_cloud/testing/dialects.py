"""What requests to S3, Cloud Storage and Blob Storage are called, and how these stores say that something went wrong.

Operations are recognised by method, target and headers alone. No body is read, and nothing is sent.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

NEUTRAL_OPERATIONS = frozenset(
    {
        "put",
        "get",
        "head",
        "delete",
        "copy",
        "begin_upload",
        "upload_part",
        "copy_part",
        "complete_upload",
        "abort_upload",
        "list",
        "list_uploads",
        "tags",
        "has_bucket",
    }
)
"""The names that all clouds share: the methods of `lakery_cloud.engine.transport.Transport`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What an operation is recognised by.

    Attributes:
        method: HTTP method.
        path: Path as it was sent, percent-encoded.
        query: Parameters, decoded; those without a value have an empty one.
        headers: Headers, names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str]) -> "Request":
        """The request with this target, which is path and query as they were sent."""
        path, _, query = target.partition("?")
        return cls(method, path, dict(parse_qsl(query, keep_blank_values=True)), headers)


@dataclass(frozen=True, slots=True)
class Dialect:
    """An API: its operations and its errors.

    Attributes:
        name: What it is called here.
        operations: Each operation, with its name of `NEUTRAL_OPERATIONS`; empty if it has none.
        recognise: A request -> operation and key of the object that it makes, reads or deletes. Both are empty where
            the request does not tell.
        error: Status, code and message -> headers and body of the API's error answer.
        codes: Status -> the code that the API most often gives with it.
        expired: Status, code and message for credentials that have expired.
    """

    name: str
    operations: Mapping[str, str]
    recognise: Callable[[Request], tuple[str, str]]
    error: Callable[[int, str, str], tuple[dict[str, str], bytes]]
    codes: Mapping[int, str]
    expired: tuple[int, str, str]

    def code(self, status: int) -> str:
        """The code for a status, in the API's words where it has some."""
        try:
            return self.codes.get(status) or HTTPStatus(status).phrase.replace(" ", "")
        except ValueError:
            return "UnknownError"


def dialect_of(request: Request) -> "Dialect":
    """The API that a request speaks: Azure names its version or signature, Cloud Storage its path; the rest is S3."""
    if "x-ms-version" in request.headers or {"sv", "sig"} <= request.query.keys():
        return AZURE
    if _GCS_PATH.match(request.path):
        return GCS
    return S3


# S3. Names are those of the API Reference, in the SDK's spelling. Buckets stand in the path, not in the host name.

_S3_MARKERS = frozenset(
    re.findall(
        r"\S+",
        "accelerate acl analytics attributes cors delete encryption inventory legal-hold lifecycle list-type location "
        "logging metrics notification object-lock ownershipControls policy policyStatus publicAccessBlock renameObject "
        "replication requestPayment restore retention select tagging torrent uploadId uploads versioning versions website",
    )
)
"""Parameters that make another operation out of a request."""
_COPY = "copy"

# (method, level, markers) -> operation. `copy` stands for the header x-amz-copy-source.
_S3_REQUESTS: Mapping[tuple[str, str, frozenset[str]], str] = {
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
_S3_NEUTRAL = {
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


def _recognise_s3(request: Request) -> tuple[str, str]:
    bucket, _, key = unquote(request.path).removeprefix("/").partition("/")
    level = "key" if key else "bucket" if bucket else "service"
    markers = request.query.keys() & _S3_MARKERS
    if "x-amz-copy-source" in request.headers:
        markers |= {_COPY}
    return _S3_REQUESTS.get((request.method, level, frozenset(markers)), ""), key


def _s3_error(_: int, code: str, message: str) -> tuple[dict[str, str], bytes]:
    """S3 API Reference, "Error responses", "REST error responses"."""
    headers = {"Content-Type": "application/xml", "x-amz-request-id": "FAULT00000000000"}
    return headers, (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        "<RequestId>FAULT00000000000</RequestId></Error>"
    ).encode()


S3 = Dialect(
    "s3",
    {operation: _S3_NEUTRAL.get(operation, "") for operation in _S3_REQUESTS.values()},
    _recognise_s3,
    _s3_error,
    # S3 API Reference, "Error responses", "List of error codes". There is none for 401 and 429.
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


# Cloud Storage. Names are those of the JSON API's reference, and our own for the requests of resumable uploads.

_GCS_PATH = re.compile(r"/(resumable/)?(upload/|download/)?storage/v1/|/upload/resumable/|/batch/storage/v1$")
_GCS_NEUTRAL = {
    "objects.insert": "put",
    "upload.begin": "begin_upload",
    "upload": "upload_part",
    "upload.status": "",
    "upload.cancel": "abort_upload",
    "objects.get": "head",
    "objects.get_media": "get",
    "objects.rewrite": "copy",
    "objects.copy": "copy",
    "objects.compose": "complete_upload",
    "objects.delete": "delete",
    "objects.patch": "",
    "objects.list": "list",
    "buckets.get": "has_bucket",
    "buckets.insert": "",
    "buckets.delete": "",
    "buckets.list": "",
    "batch": "",
}


def _recognise_gcs(request: Request) -> tuple[str, str]:
    above, _, below = request.path.partition("/storage/v1/")
    if "upload" in above.split("/") or request.path.startswith("/upload/resumable/"):
        return _recognise_upload(request), request.query.get("name", "")
    match request.method, [unquote(segment) for segment in below.split("/")]:
        case "GET", ["b", _, "o", key]:
            is_media = request.query.get("alt") == "media" or above.endswith("/download")
            return "objects.get_media" if is_media else "objects.get", key
        case "DELETE", ["b", _, "o", key]:
            return "objects.delete", key
        case "PATCH", ["b", _, "o", key]:
            return "objects.patch", key
        case "POST", ["b", _, "o", _, "rewriteTo", "b", _, "o", key]:
            return "objects.rewrite", key
        case "POST", ["b", _, "o", _, "copyTo", "b", _, "o", key]:
            return "objects.copy", key
        case "POST", ["b", _, "o", key, "compose"]:
            return "objects.compose", key
        case "GET", ["b", _, "o"]:
            return "objects.list", ""
        case "GET", ["b", _]:
            return "buckets.get", ""
        case "DELETE", ["b", _]:
            return "buckets.delete", ""
        case "POST", ["b"]:
            return "buckets.insert", ""
        case "GET", ["b"]:
            return "buckets.list", ""
    return ("batch" if request.path.startswith("/batch/") else ""), ""


def _recognise_upload(request: Request) -> str:
    """Cloud Storage, "Perform resumable uploads". An upload's address is the store's own; only its methods are known."""
    if request.method == "POST":
        return "upload.begin" if request.query.get("uploadType") == "resumable" else "objects.insert"
    if request.method == "DELETE":
        return "upload.cancel"
    if request.method == "PUT":
        return "upload.status" if request.headers.get("content-range", "").startswith("bytes */") else "upload"
    return ""


def key_in_multipart(head: bytes) -> str | None:
    """The name in the beginning of a `uploadType=multipart` body; None as long as its first part is not whole."""
    _, blank, rest = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    resource, end, _ = rest.partition(b"\n--")
    if not (blank and end):
        return None
    try:
        return str(json.loads(resource).get("name", ""))
    except (ValueError, AttributeError):
        return ""


def _gcs_error(status: int, code: str, message: str) -> tuple[dict[str, str], bytes]:
    """Cloud Storage, "HTTP status and error codes for JSON"."""
    error = {"message": message, "domain": "global", "reason": code}
    body = {"error": {"code": status, "message": message, "errors": [error]}}
    return {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(body).encode()


GCS = Dialect(
    "gcs",
    _GCS_NEUTRAL,
    _recognise_gcs,
    _gcs_error,
    # Cloud Storage, "HTTP status and error codes for JSON".
    {
        200: "backendError",
        400: "invalid",
        401: "authError",
        403: "forbidden",
        404: "notFound",
        408: "uploadBrokenConnection",
        409: "conflict",
        410: "gone",
        412: "conditionNotMet",
        416: "requestedRangeNotSatisfiable",
        429: "rateLimitExceeded",
        500: "backendError",
        502: "badGateway",
        503: "backendError",
        504: "gatewayTimeout",
    },
    (401, "authError", "Invalid Credentials"),
)


# Azure. Names are those of the Blob service's REST API, in the SDK's spelling.

# (method, restype, comp) -> operation; what is copied has names of its own.
_AZURE_REQUESTS: Mapping[tuple[str, str, str], str] = {
    ("PUT", "", ""): "put_blob",
    ("PUT", "", "block"): "put_block",
    ("PUT", "", "blocklist"): "put_block_list",
    ("PUT", "", "copy"): "abort_copy",
    ("PUT", "", "tags"): "set_blob_tags",
    ("PUT", "", "metadata"): "set_blob_metadata",
    ("PUT", "", "properties"): "set_blob_properties",
    ("PUT", "", "tier"): "set_blob_tier",
    ("PUT", "", "lease"): "lease_blob",
    ("GET", "", ""): "get_blob",
    ("GET", "", "blocklist"): "get_block_list",
    ("GET", "", "tags"): "get_blob_tags",
    ("GET", "", "metadata"): "get_blob_metadata",
    ("HEAD", "", ""): "get_blob_properties",
    ("HEAD", "", "metadata"): "get_blob_metadata",
    ("DELETE", "", ""): "delete_blob",
    ("PUT", "container", ""): "create_container",
    ("GET", "container", ""): "get_container_properties",
    ("HEAD", "container", ""): "get_container_properties",
    ("GET", "container", "list"): "list_blobs",
    ("DELETE", "container", ""): "delete_container",
    ("GET", "", "list"): "list_containers",
}
_AZURE_COPIES = {"put_blob": "copy_blob", "put_block": "put_block_from_url"}
_AZURE_NEUTRAL = {
    "put_blob": "put",
    "get_blob": "get",
    "get_blob_properties": "head",
    "delete_blob": "delete",
    "copy_blob": "copy",
    "put_blob_from_url": "copy",
    "put_block": "upload_part",
    "put_block_from_url": "copy_part",
    "put_block_list": "complete_upload",
    "get_block_list": "abort_upload",  # what an abort begins with: Azure has no request of that name
    "list_blobs": "list",
    "get_blob_tags": "tags",
    "get_container_properties": "has_bucket",
}


def _recognise_azure(request: Request) -> tuple[str, str]:
    found = (request.method, request.query.get("restype", ""), request.query.get("comp", ""))
    operation = _AZURE_REQUESTS.get(found, "")
    if "x-ms-copy-source" in request.headers:
        operation = _AZURE_COPIES.get(operation, operation)
        if operation == "copy_blob" and "x-ms-blob-type" in request.headers:
            operation = "put_blob_from_url"
    segments = unquote(request.path).removeprefix("/").split("/")
    # Where the host does not name the account, as with emulators, the path does.
    return operation, "/".join(segments[2 if _is_address(request.headers.get("host", "")) else 1 :])


def _is_address(host: str) -> bool:
    """Whether a `Host` header has an address instead of a name."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if name.partition(".")[0] in ("localhost", "host"):  # Azurite's own names, as the SDK knows them
        return True
    try:
        return bool(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return False


def _azure_error(_: int, code: str, message: str) -> tuple[dict[str, str], bytes]:
    """Microsoft Learn, "Status and error codes" of the storage services."""
    headers = {
        "Content-Type": "application/xml",
        "x-ms-error-code": code,
        "x-ms-request-id": "00000000-0000-0000-0000-000000000000",
    }
    return headers, (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    ).encode()


AZURE = Dialect(
    "azure",
    {
        operation: _AZURE_NEUTRAL.get(operation, "")
        for operation in (*_AZURE_REQUESTS.values(), *_AZURE_COPIES.values(), "put_blob_from_url")
    },
    _recognise_azure,
    _azure_error,
    # Microsoft Learn, "Common REST API error codes" and "Blob Storage error codes".
    {
        200: "InternalError",
        400: "InvalidInput",
        401: "NoAuthenticationInformation",
        403: "AuthorizationPermissionMismatch",
        404: "BlobNotFound",
        408: "OperationTimedOut",
        409: "BlobAlreadyExists",
        412: "ConditionNotMet",
        416: "InvalidRange",
        429: "ServerBusy",
        500: "InternalError",
        501: "UnsupportedHttpVerb",
        503: "ServerBusy",
    },
    (401, "InvalidAuthenticationInfo", "Lifetime validation failed. The token is expired."),
)

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (S3, GCS, AZURE)}
