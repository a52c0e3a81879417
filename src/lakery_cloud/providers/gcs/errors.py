"""The engine's errors for refusals of Cloud Storage."""

import json
import zlib
from typing import NamedTuple

from lakery_cloud.engine.error_messages import LATER, Failure
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import KeyExists, KeyMissing, UploadGone, VersionChanged, WriteConflict
from lakery_cloud.engine.refusals import RefusalRow, RefusalRules
from lakery_cloud.errors import BucketNotFound, ConfigError, IntegrityError, StorageUnavailable
from lakery_cloud.http.exchange import MAX_BUFFERED, BufferedResponse

LOG_IN = "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"

# Our names for statuses that mean different things.
DAMAGED = "400 (checksum)"
NO_PAYER = "400 (requester pays)"

_SOURCE = 'Cloud Storage documentation, "HTTP status and error codes for JSON"'
REFUSALS = (
    RefusalRow("", 404, BucketNotFound, "Create it, or check its name and the endpoint", _SOURCE),
    RefusalRow(DAMAGED, 400, IntegrityError, "Write again", _SOURCE),
    RefusalRow(NO_PAYER, 400, ConfigError, "Set user_project", _SOURCE),
    RefusalRow("rateLimitExceeded", 403, StorageUnavailable, LATER, _SOURCE),
    RefusalRow("userRateLimitExceeded", 403, StorageUnavailable, LATER, _SOURCE),
)
"""The refusals that the algorithm does not handle itself."""

RULES = RefusalRules(
    signals={
        ("objects.insert", "409"): WriteConflict,
        ("objects.insert", "412"): KeyExists,
        ("objects.get", "404"): KeyMissing,
        ("objects.get", "412"): VersionChanged,
        ("objects.get", "416"): VersionChanged,
        ("objects.compose", "404"): UploadGone,
        ("objects.compose", "412"): KeyExists,
        ("objects.rewrite", "404"): VersionChanged,
        ("objects.rewrite", "409"): WriteConflict,
        ("objects.rewrite", "412"): KeyExists,
        ("buckets.patch", "412"): VersionChanged,
        **{("upload", status): UploadGone for status in ("404", "410", "412", "499")},
    },
    table=REFUSALS,
    grants={
        "objects.get": "Grant storage.objects.get; without storage.objects.list Cloud Storage answers like this for a "
        "missing object too",
        "objects.delete": "Grant storage.objects.delete",
        "objects.list": "Grant storage.objects.list",
        "buckets.get": "Grant storage.buckets.get",
        "buckets.patch": "Grant storage.buckets.update",
    },
    grant="Grant storage.objects.create, storage.objects.get and storage.objects.delete",
    set_credentials=LOG_IN,
)


class Refusal(NamedTuple):
    """A response that refuses a request.

    Attributes:
        status: HTTP status.
        reason: Cloud Storage's reason; empty without one.
        message: Cloud Storage's message; the body where the response has none.
    """

    status: int
    reason: str
    message: str

    @classmethod
    def of_response(cls, response: BufferedResponse) -> "Refusal":
        """A refusal from a response."""
        text = _decoded(response).decode(errors="replace")
        try:
            error = json.loads(text)["error"]
            details = [*error.get("errors", ()), {}][0]
            return cls(response.status, str(details.get("reason", "")), str(error.get("message", "")))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return cls(response.status, "", text)

    def error(self, operation: str, address: Address, *, endpoint: str, is_anonymous: bool) -> Exception:
        """The engine's signal or error.

        Args:
            operation: The API's name of the request.
            address: Bucket and key.
            endpoint: URL of the API.
            is_anonymous: Whether the request had no credentials.
        """
        said = f"Cloud Storage answered {self.status} {self.reason}".rstrip()
        said = f"{said}: {self.message}" if self.message else said
        failure = Failure(operation, address, endpoint, said)
        if self.status == 401 and is_anonymous:
            return failure.no_credentials(LOG_IN)
        return RULES.error(failure, code=self._code(), status=self.status)

    def _code(self) -> str:
        message = self.message.lower()
        if self.reason in _REASONS:
            return self.reason
        if self.status == 400 and ("crc32c" in message or "md5" in message):
            return DAMAGED
        if self.status == 400 and "requester pays" in message:
            return NO_PAYER
        return str(self.status)


_REASONS = frozenset(row.code for row in REFUSALS if row.code)


def _decoded(response: BufferedResponse) -> bytes:
    """The body. Requests for content accept gzip, and so does the body of a refusal then."""
    if response.headers.get("content-encoding") != "gzip":
        return response.body
    try:
        return zlib.decompressobj(wbits=31).decompress(response.body, MAX_BUFFERED)
    except zlib.error:
        return response.body
