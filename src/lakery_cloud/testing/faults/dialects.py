"""What requests to S3, Cloud Storage and Blob Storage are called, and how these stores say that something went wrong.

Operations are recognised by method, target and headers alone. No body is read, and nothing is sent.
"""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import unquote
from xml.sax.saxutils import escape

from lakery_cloud.testing.faults.dialect import Dialect, Request
from lakery_cloud.testing.faults.dialects_gcs import _GCS_PATH, GCS
from lakery_cloud.testing.faults.dialects_s3 import S3


def dialect_of(request: Request) -> "Dialect":
    """The API that a request speaks: Azure names its version or signature, Cloud Storage its path; the rest is S3."""
    if "x-ms-version" in request.headers or {"sv", "sig"} <= request.query.keys():
        return AZURE
    if _GCS_PATH.match(request.path):
        return GCS
    return S3


# S3. Names are those of the API Reference, in the SDK's spelling. Buckets stand in the path, not in the host name.


# Cloud Storage. Names are those of the JSON API's reference, and our own for the requests of resumable uploads.


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
