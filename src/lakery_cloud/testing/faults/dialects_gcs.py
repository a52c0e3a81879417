"""Cloud Storage's JSON API, as a fault proxy sees it.

Operations are named as in the reference of the JSON API; the requests of resumable uploads, which have no names there, are
`upload.begin`, `upload`, `upload.status` and `upload.cancel`.
"""

import json
import re
from urllib.parse import unquote

from lakery_cloud.testing.faults.dialect import Dialect, Request

_PATH = re.compile(r"/(resumable/)?(upload/|download/)?storage/v1/|/upload/resumable/|/batch/storage/v1$")
_NEUTRAL_NAMES = {
    "objects.insert": "put",
    "upload.begin": "begin_upload",
    "upload": "upload_part",
    "upload.status": "",
    "upload.cancel": "abort_upload",
    "objects.get": "head",
    "objects.get_media": "get",
    "objects.move": "copy",
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


def is_gcs_request(request: Request) -> bool:
    """Whether a request has a path of the JSON API."""
    return _PATH.match(request.path) is not None


def _recognise(request: Request) -> tuple[str, str]:
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
        case "POST", ["b", _, "o", _, ("rewriteTo" | "copyTo") as verb, "b", _, "o", key]:
            return f"objects.{verb.removesuffix('To')}", key
        case "POST", ["b", _, "o", _, "moveTo", "o", key]:
            return "objects.move", key
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
    """Name a request of an upload by its method, since the server chooses the URL of a resumable upload.

    Cloud Storage, "Perform resumable uploads".
    """
    if request.method == "POST":
        return "upload.begin" if request.query.get("uploadType") == "resumable" else "objects.insert"
    if request.method == "DELETE":
        return "upload.cancel"
    if request.method == "PUT":
        return "upload.status" if request.headers.get("content-range", "").startswith("bytes */") else "upload"
    return ""


def key_in_multipart(head: bytes) -> str | None:
    """Read the object's name from the first part of a `uploadType=multipart` body; None if that part is incomplete."""
    _, blank, rest = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    resource, end, _ = rest.partition(b"\n--")
    if not (blank and end):
        return None
    try:
        return str(json.loads(resource).get("name", ""))
    except (ValueError, AttributeError):
        return ""


def _error(status: int, code: str, message: str) -> tuple[dict[str, str], bytes]:
    """Build an error response: Cloud Storage, "HTTP status and error codes for JSON"."""
    error = {"message": message, "domain": "global", "reason": code}
    body = {"error": {"code": status, "message": message, "errors": [error]}}
    return {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(body).encode()


GCS = Dialect(
    "gcs",
    _NEUTRAL_NAMES,
    _recognise,
    _error,
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
