"""What the errors of S3 and of its SDK mean to the engine, and what to do about them."""

from collections.abc import Mapping
from typing import Any

from botocore import exceptions as botocore_errors

from lakery_cloud.engine.error_messages import Failure, redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    ConditionUnsupported,
    KeyExists,
    KeyMissing,
    Signal,
    UploadGone,
    VersionChanged,
    WriteConflict,
)

SDK_ERRORS = (botocore_errors.BotoCoreError, botocore_errors.HTTPClientError)
"""What the SDK raises of a request that got no answer, or was never sent."""


def translate(
    error: Exception, operation: str, address: Address, *, endpoint: str, conditional_writes: bool
) -> Exception:
    """The engine's word for an error of the SDK.

    Args:
        error: The error.
        operation: The SDK's name of what was asked for.
        address: What it was about.
        endpoint: Who was asked.
        conditional_writes: Whether the request had a condition, where it can have one.
    """
    said = redact_error(error)
    if not isinstance(error, botocore_errors.ClientError):
        return _translate_no_answer(error, Failure(operation, address, endpoint, said))
    details: Mapping[str, Any] = error.response.get("Error", {})
    code, message = details.get("Code", ""), details.get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    failure = Failure(operation, address, endpoint, f"S3 answered {code}: {message}")
    signal = _SIGNALS.get((operation, code)) or _SIGNALS.get(("", code))
    if signal is not None:
        return failure.signal(signal)
    if operation == "copy_object" and code == "PreconditionFailed":
        is_source = "copy-source" in str(details.get("Condition")).lower()
        return failure.signal(VersionChanged if is_source else KeyExists)
    if code == "NotImplemented" and conditional_writes and operation in _CONDITIONAL:
        return failure.signal(ConditionUnsupported)
    if code == "NoSuchBucket":
        return failure.no_bucket()
    # Answers to HEAD have no body: of expired credentials these say 400, and no more.
    if code in _CREDENTIALS or (operation == "head_object" and status == 400):
        return failure.credentials_refused(SET_CREDENTIALS)
    if code in _DAMAGED:
        return failure.damaged()
    if status == 403 or code in ("AccessDenied", "AllAccessDisabled"):
        return failure.denied(_grant(operation))
    if status == 301 or code in _ELSEWHERE:
        return failure.misconfigured(f"The bucket {address.bucket!r} is in another region; set region")
    if code == "InvalidObjectState":
        return failure.archived("restore it")
    if status >= 500 or status in (408, 409, 429) or code in ("SlowDown", "RequestTimeout", "InternalError"):
        return failure.unavailable()
    return failure.refused()


_CONDITIONAL = ("put_object", "copy_object", "complete_multipart_upload")

# (operation or "" for any, error code) -> what it tells the engine.
_SIGNALS: Mapping[tuple[str, str], type[Signal]] = {
    ("put_object", "PreconditionFailed"): KeyExists,
    ("complete_multipart_upload", "PreconditionFailed"): KeyExists,
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
}

# API Reference, "Error responses".
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_DAMAGED = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
_ELSEWHERE = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"})

SET_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"


def _grant(operation: str) -> str:
    """What to allow, for an operation that was denied."""
    if operation in ("get_object", "head_object"):
        return "Grant s3:GetObject; without s3:ListBucket a missing object is answered like this too"
    if operation == "delete_object":
        return "Grant s3:DeleteObject"
    if operation in ("list_objects_v2", "list_multipart_uploads"):
        return "Grant s3:ListBucket and s3:ListBucketMultipartUploads"
    if operation == "get_object_tagging":
        return "Grant s3:GetObjectTagging"
    if "bucket_lifecycle" in operation:
        return "Grant s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration"
    return "Grant s3:PutObject, s3:PutObjectTagging, s3:GetObject and s3:AbortMultipartUpload"


def _translate_no_answer(error: Exception, failure: Failure) -> Exception:
    """The engine's word for a request that got no answer, or was never sent."""
    if isinstance(error, NO_CREDENTIALS):
        return failure.no_credentials(SET_CREDENTIALS)
    if isinstance(error, botocore_errors.EndpointConnectionError | botocore_errors.ConnectTimeoutError):
        return failure.unreachable()
    if isinstance(error, botocore_errors.SSLError):
        return failure.no_tls()
    if isinstance(error, botocore_errors.HTTPClientError):
        return failure.no_answer()
    return failure.misconfigured("Check the settings of the storage")


NO_CREDENTIALS = (
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.CredentialRetrievalError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.SSOError,
)
