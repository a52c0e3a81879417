"""Azure Blob Storage's REST API, as a fault proxy sees it. Operations are named as in Azure's Python SDK."""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import unquote
from xml.sax.saxutils import escape

from lakery_cloud.testing.faults.dialect import Dialect, Request

_OPERATIONS: Mapping[tuple[str, str, str], str] = {
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
"""(method, restype, comp) -> operation, for requests without a copy source."""
_COPIES = {"put_blob": "copy_blob", "put_block": "put_block_from_url"}
"""The names of the same requests with a copy source."""
_NEUTRAL_NAMES = {
    "put_blob": "put",
    "get_blob": "get",
    "get_blob_properties": "head",
    "delete_blob": "delete",
    "copy_blob": "copy",
    "put_blob_from_url": "copy",
    "put_block": "upload_part",
    "put_block_from_url": "copy_part",
    "put_block_list": "complete_upload",
    "get_block_list": "abort_upload",  # the first request of an abort: Azure has none of that name
    "list_blobs": "list",
    "get_blob_tags": "tags",
    "get_container_properties": "has_bucket",
}


def is_azure_request(request: Request) -> bool:
    """Whether a request names Azure's API version or has its signature."""
    return "x-ms-version" in request.headers or {"sv", "sig"} <= request.query.keys()


def _recognise(request: Request) -> tuple[str, str]:
    found = (request.method, request.query.get("restype", ""), request.query.get("comp", ""))
    operation = _OPERATIONS.get(found, "")
    if "x-ms-copy-source" in request.headers:
        operation = _COPIES.get(operation, operation)
        if operation == "copy_blob" and "x-ms-blob-type" in request.headers:
            operation = "put_blob_from_url"
    segments = unquote(request.path).removeprefix("/").split("/")
    # Emulators have the account in the path instead of the host name.
    return operation, "/".join(segments[2 if _is_address(request.headers.get("host", "")) else 1 :])


def _is_address(host: str) -> bool:
    """Whether a `Host` header names an address, not a domain."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if name.partition(".")[0] in ("localhost", "host"):  # the SDK treats Azurite's own names as addresses
        return True
    try:
        return bool(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return False


def _error(_: int, code: str, message: str) -> tuple[dict[str, str], bytes]:
    """Build an error response: Microsoft Learn, "Status and error codes" of the storage services."""
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
        operation: _NEUTRAL_NAMES.get(operation, "")
        for operation in (*_OPERATIONS.values(), *_COPIES.values(), "put_blob_from_url")
    },
    _recognise,
    _error,
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
