"""The engine's errors for refusals of S3 and errors of its SDK."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from json import JSONDecodeError
from typing import Any, NamedTuple

from botocore import exceptions as botocore_errors
from botocore.parsers import ResponseParserError, RestXMLParser

from lakery_cloud.engine.error_messages import Failure
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.requests import RefusedRequest
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.http.exchange import BufferedResponse, ProxyFailed, UnsupportedResponse
from lakery_cloud.providers.s3.refusals import OTHER_REGION, RULES, SET_CREDENTIALS, SOURCE_CHANGED
from lakery_cloud.redaction import redact_error


class CopyTimedOut(botocore_errors.BotoCoreError):  # type: ignore[misc]  # it has no types
    """No response to a copy arrived in time. The SDK does not retry this error: the first copy may still be running."""

    fmt = "{error}"


MALFORMED = (ValueError, LookupError, TypeError, AttributeError)
"""Errors of code that reads a response without looking whether it has the promised shape."""
UNREADABLE = (ResponseParserError, UnsupportedResponse, RuntimeError, *MALFORMED)
"""Errors of the SDK for a response that it can't read, `RuntimeError` for times; it checks arguments first."""
NO_CREDENTIALS = (
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.CredentialRetrievalError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.SSOError,
)
_CREDENTIAL_OPERATIONS = frozenset(
    {"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "CreateToken", "GetRoleCredentials"}
)
"""The SDK's requests for credentials, which it sends before other requests."""

VAGUE_STATUSES = frozenset(range(300, 500)) - {404, 408, 429}
"""Statuses with several causes. Only the body of a refusal tells which, and the response to HEAD has none."""

_parser = RestXMLParser()


@cache
def broken_errors() -> tuple[type[Exception], ...]:
    """Errors of aiohttp, which the SDK passes on from the body of a refused request for content."""
    import aiohttp

    return (aiohttp.ClientError, TimeoutError)


@cache
def sdk_errors() -> tuple[type[Exception], ...]:
    """Errors of the SDK for a request without a usable response."""
    return (botocore_errors.BotoCoreError, botocore_errors.HTTPClientError, *UNREADABLE, *broken_errors())


class Refusal(NamedTuple):
    """A response that refuses a request.

    Attributes:
        status: HTTP status.
        code: S3's code; the status where the response has none.
        message: S3's message.
        condition: The condition that failed, where S3 names it.
        region: The region of the bucket, where S3 names it.
    """

    status: int
    code: str
    message: str
    condition: str
    region: str

    @classmethod
    def of(cls, status: int, details: Any, headers: Mapping[str, str]) -> "Refusal":
        """A refusal from the SDK's description of an error, which may have any shape."""
        if not isinstance(details, Mapping):
            details = {}
        return cls(
            status,
            str(details.get("Code") or status),
            f"{details.get('Message') or ''} {details.get('Header') or ''}".strip(),
            str(details.get("Condition", "")),
            str(details.get("Region") or headers.get("x-amz-bucket-region") or ""),
        )

    @classmethod
    def of_response(cls, response: BufferedResponse) -> "Refusal":
        """A refusal from a response of our own request."""
        details: Any = {}
        if response.body:
            raw = {"status_code": response.status, "headers": response.headers, "body": response.body}
            with suppress(ResponseParserError, *MALFORMED):
                details = _parser.parse(raw, None).get("Error", {})
        return cls.of(response.status, details, response.headers)

    def error(self, operation: str, address: Address, *, endpoint: str) -> Exception:
        """The engine's signal or error.

        Args:
            operation: The SDK's name of the request.
            address: Bucket and key.
            endpoint: URL of the API.
        """
        code = "KMS" if self.code.startswith("KMS.") else self.code
        if operation == "copy_object" and code == "PreconditionFailed" and "copy-source" in self.condition.lower():
            code = SOURCE_CHANGED
        said = f"S3 answered {self.code}: {self.message}" if self.message else f"S3 answered {self.code}"
        failure = Failure(operation, address, endpoint, said)
        if code in OTHER_REGION and self.region:
            return failure.misconfigured(f"The bucket is in {self.region!r}; set region to it")
        return RULES.error(failure, code=code, status=self.status, message=self.message)


def translate(error: Exception, operation: str, address: Address, *, endpoint: str) -> Exception:
    """The engine's error for an error of the SDK; see `Refusal.error` for the arguments."""
    if isinstance(error, LakeryCloudError):  # some are ValueErrors
        return error
    said = redact_error(error)
    if isinstance(error, botocore_errors.ClientError):
        metadata = error.response.get("ResponseMetadata", {})
        refusal = Refusal.of(
            metadata.get("HTTPStatusCode", 0), error.response.get("Error", {}), metadata.get("HTTPHeaders", {})
        )
        if error.operation_name in _CREDENTIAL_OPERATIONS:
            return _without_credentials(refusal, error.operation_name, address)
        return refusal.error(operation, address, endpoint=endpoint)
    if isinstance(error, botocore_errors.ProxyConnectionError):
        cause = error.kwargs.get("error")
        said = str(cause) if isinstance(cause, ProxyFailed) else said
        return Failure(operation, address, endpoint, said).no_proxy()
    failure = Failure(operation, address, endpoint, said)
    if isinstance(error, JSONDecodeError):  # S3 sends none; sources of credentials do
        return Failure(operation, address, endpoint, said).no_credentials(SET_CREDENTIALS)
    if isinstance(error, UNREADABLE):
        said = str(error) if isinstance(error, UnsupportedResponse) else "a response that can't be read"
        return Failure(operation, address, endpoint, said).unusable()
    if isinstance(error, NO_CREDENTIALS):
        return failure.no_credentials(SET_CREDENTIALS)
    if isinstance(error, botocore_errors.EndpointConnectionError | botocore_errors.ConnectTimeoutError):
        return failure.unreachable()
    if isinstance(error, botocore_errors.SSLError):
        return failure.no_tls()
    if isinstance(error, (botocore_errors.HTTPClientError, CopyTimedOut, *broken_errors())):
        return failure.no_answer()
    return failure.misconfigured("Check the settings of the storage")


def hides_cause(refusal: BaseException | None) -> bool:
    """Whether a store has refused a HEAD without its reason.

    Args:
        refusal: The cause of our error.
    """
    if isinstance(refusal, RefusedRequest):
        return refusal.status in VAGUE_STATUSES
    if not isinstance(refusal, botocore_errors.ClientError) or refusal.operation_name in _CREDENTIAL_OPERATIONS:
        return False
    metadata = refusal.response.get("ResponseMetadata", {})
    names_region = metadata.get("HTTPStatusCode") == 301 and "x-amz-bucket-region" in metadata.get("HTTPHeaders", {})
    return metadata.get("HTTPStatusCode") in VAGUE_STATUSES and not names_region


def _without_credentials(refusal: Refusal, operation: str, address: Address) -> Exception:
    """The error for a refused request for credentials, which is no request to the store."""
    failure = Failure(operation, address, "the service that gives out credentials", refusal.message or refusal.code)
    if refusal.code == "AccessDenied":
        return failure.denied(f"Grant sts:{operation}, and check the trust policy of the role")
    if refusal.status >= 500 or refusal.code in ("Throttling", "ThrottlingException"):
        return failure.unavailable()
    return failure.no_credentials(SET_CREDENTIALS)
