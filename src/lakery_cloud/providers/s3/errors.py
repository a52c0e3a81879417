"""The engine's errors for refusals of S3 and errors of its SDK."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from botocore import exceptions as botocore_errors
from botocore.parsers import ResponseParserError, RestXMLParser

from lakery_cloud.engine.error_messages import Failure, RefusalRules, redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    ConditionUnsupported,
    KeyExists,
    KeyMissing,
    UploadGone,
    VersionChanged,
    WriteConflict,
)
from lakery_cloud.http.exchange import BufferedResponse

SDK_ERRORS = (botocore_errors.BotoCoreError, botocore_errors.HTTPClientError)
"""Errors of the SDK for a request without a response."""
NO_CREDENTIALS = (
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.CredentialRetrievalError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.SSOError,
)
SET_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"

REDIRECTS = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307", "400"})
"""Codes by which S3 says that a bucket is elsewhere; the answer to HEAD has only a status."""

# Our names for two codes that mean different things.
SOURCE_CHANGED = "PreconditionFailed (source)"
NO_CONDITIONS = "NotImplemented (condition)"

_CONDITIONAL = ("put_object", "copy_object", "complete_multipart_upload")
_SET_REGION = partial(Failure.misconfigured, remedy="The bucket is in another region; set region")
_REFUSED_CREDENTIALS = partial(Failure.credentials_refused, remedy=SET_CREDENTIALS)

# Codes of the API Reference, "Error responses".
RULES = RefusalRules(
    signals={
        ("put_object", "PreconditionFailed"): KeyExists,
        ("complete_multipart_upload", "PreconditionFailed"): KeyExists,
        ("copy_object", "PreconditionFailed"): KeyExists,
        ("copy_object", SOURCE_CHANGED): VersionChanged,
        ("get_object", "PreconditionFailed"): VersionChanged,
        ("get_object", "InvalidRange"): VersionChanged,
        ("upload_part_copy", "PreconditionFailed"): VersionChanged,
        ("upload_part_copy", "NoSuchKey"): VersionChanged,
        ("copy_object", "NoSuchKey"): VersionChanged,
        ("get_object", "NoSuchKey"): KeyMissing,
        ("get_object_tagging", "NoSuchKey"): KeyMissing,
        ("head_object", "404"): KeyMissing,
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"): KeyMissing,
        ("", "NoSuchUpload"): UploadGone,
        **{
            (operation, code): WriteConflict
            for operation in _CONDITIONAL
            for code in ("ConditionalRequestConflict", "OperationAborted")
        },
        **{(operation, NO_CONDITIONS): ConditionUnsupported for operation in _CONDITIONAL},
    },
    outcomes={
        "NoSuchBucket": Failure.no_bucket,
        **dict.fromkeys(
            (
                *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId"),
                *("InvalidSecurity", "InvalidToken", "NotSignedUp", "RequestExpired", "RequestTimeTooSkewed"),
                *("SignatureDoesNotMatch", "TokenRefreshRequired", "UnrecognizedClientException"),
            ),
            _REFUSED_CREDENTIALS,
        ),
        "400": _REFUSED_CREDENTIALS,  # HEAD has no body: expired credentials are a bare 400
        **dict.fromkeys(
            ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"), Failure.damaged
        ),
        **dict.fromkeys(
            ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint", "301"), _SET_REGION
        ),
        "InvalidObjectState": partial(Failure.archived, remedy="restore it"),
        **dict.fromkeys(
            ("SlowDown", "RequestTimeout", "InternalError", "ConditionalRequestConflict", "OperationAborted", "409"),
            Failure.unavailable,
        ),
    },
    grants={
        **dict.fromkeys(
            ("get_object", "head_object"),
            "Grant s3:GetObject; without s3:ListBucket S3 answers like this for a missing object too",
        ),
        "delete_object": "Grant s3:DeleteObject",
        **dict.fromkeys(
            ("list_objects_v2", "list_multipart_uploads"), "Grant s3:ListBucket and s3:ListBucketMultipartUploads"
        ),
        "get_object_tagging": "Grant s3:GetObjectTagging",
        **dict.fromkeys(
            (
                "get_bucket_lifecycle_configuration",
                "put_bucket_lifecycle_configuration",
                "delete_bucket_lifecycle",
            ),
            "Grant s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration",
        ),
    },
    grant="Grant s3:PutObject, s3:PutObjectTagging, s3:GetObject and s3:AbortMultipartUpload",
    set_credentials=SET_CREDENTIALS,
)

_parser = RestXMLParser()


class Refusal(NamedTuple):
    """A response that refuses a request.

    Attributes:
        status: HTTP status.
        code: S3's code; the status where the response has none.
        message: S3's message.
        condition: The condition that failed, where S3 names it.
    """

    status: int
    code: str
    message: str
    condition: str

    @classmethod
    def of(cls, status: int, details: Mapping[str, Any]) -> "Refusal":
        """A refusal from the SDK's description of an error."""
        return cls(
            status,
            str(details.get("Code") or status),
            str(details.get("Message", "")),
            str(details.get("Condition", "")),
        )

    @classmethod
    def of_response(cls, response: BufferedResponse) -> "Refusal":
        """A refusal from a response of our own request."""
        details: Mapping[str, Any] = {}
        if response.body:
            raw = {"status_code": response.status, "headers": response.headers, "body": response.body}
            with suppress(ResponseParserError):
                details = _parser.parse(raw, None).get("Error", {})
        return cls.of(response.status, details)

    def error(self, operation: str, address: Address, *, endpoint: str, is_conditional: bool) -> Exception:
        """The engine's signal or error.

        Args:
            operation: The SDK's name of the request.
            address: Bucket and key.
            endpoint: URL of the API.
            is_conditional: Whether requests that can be create-only are.
        """
        code = self.code
        if operation == "copy_object" and code == "PreconditionFailed" and "copy-source" in self.condition.lower():
            code = SOURCE_CHANGED
        if code == "NotImplemented" and is_conditional and operation in _CONDITIONAL:
            code = NO_CONDITIONS
        said = f"S3 answered {self.code}: {self.message}" if self.message else f"S3 answered {self.code}"
        return RULES.error(Failure(operation, address, endpoint, said), code=code, status=self.status)


def translate(error: Exception, operation: str, address: Address, *, endpoint: str, is_conditional: bool) -> Exception:
    """The engine's error for an error of the SDK; see `Refusal.error` for the arguments."""
    said = redact_error(error)
    if isinstance(error, botocore_errors.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        refusal = Refusal.of(status, error.response.get("Error", {}))
        return refusal.error(operation, address, endpoint=endpoint, is_conditional=is_conditional)
    failure = Failure(operation, address, endpoint, said)
    if isinstance(error, NO_CREDENTIALS):
        return failure.no_credentials(SET_CREDENTIALS)
    if isinstance(error, botocore_errors.EndpointConnectionError | botocore_errors.ConnectTimeoutError):
        return failure.unreachable()
    if isinstance(error, botocore_errors.SSLError):
        return failure.no_tls()
    if isinstance(error, botocore_errors.HTTPClientError):
        return failure.no_answer()
    return failure.misconfigured("Check the settings of the storage")
