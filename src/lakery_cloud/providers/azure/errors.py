"""The engine's errors for refusals of Azure and errors of its SDK."""

import ipaddress
import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from azure.core import exceptions as azure_errors
from azure.core.pipeline.policies import ContentDecodePolicy

from lakery_cloud.engine.error_messages import Failure
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import BodyInterrupted, Signal, Unsupported
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.http.exchange import BufferedResponse, Origin, UnsupportedResponse
from lakery_cloud.http.proxies import proxy_for
from lakery_cloud.http.session import proxy_error
from lakery_cloud.providers.azure.answers import FeatureRefused, UnusableResponse
from lakery_cloud.providers.azure.refusals import NO_INDEX_TAGS, RULES, SET_CREDENTIALS
from lakery_cloud.redaction import MAX_QUOTE, redact, redact_error

SDK_ERRORS = (
    *(azure_errors.AzureError, FeatureRefused, UnsupportedResponse, zlib.error),
    *(ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError),
)
"""Errors of a call of the SDK. It raises built-in ones for responses that it can't read; it checks arguments first."""
CHECK_ACCOUNT = "check the name of the account, endpoint_url and the network"


class Refusal(NamedTuple):
    """A response that refuses a request.

    Attributes:
        status: HTTP status.
        code: Azure's code; empty where the response has none.
        message: Azure's message.
    """

    status: int
    code: str
    message: str

    @classmethod
    def of_response(cls, response: BufferedResponse) -> "Refusal":
        """A refusal from a response of our own request."""
        details = _details(response)
        code = _busy_source(response.headers) or response.headers.get("x-ms-error-code") or details.get("code", "")
        return cls(response.status, code, details.get("message", ""))

    @classmethod
    def of_error(cls, error: azure_errors.HttpResponseError) -> "Refusal":
        """A refusal from an error of the SDK."""
        headers = getattr(error.response, "headers", {})
        code = _busy_source(headers) or getattr(error, "error_code", None) or headers.get("x-ms-error-code")
        return cls(error.status_code or 0, str(getattr(code, "value", code) or ""), str(error.message))

    def error(self, operation: str, address: Address, *, endpoint: str) -> Exception:
        """The engine's signal or error.

        Args:
            operation: The SDK's name of the request.
            address: Container and blob.
            endpoint: URL of the API.
        """
        if self.status < 400:
            return Failure(operation, address, endpoint, f"a response {self.status}").unusable()
        code = self.code
        # Some codes mean different things, and some emulators have other ones than Azure.
        if code == "CannotVerifyCopySource" and self.status < 500:
            code = "SourceConditionNotMet" if self.status in (404, 412) else ""
        elif self.status == 400 and "md5" in self.message.lower():
            code = "Md5Mismatch"
        elif "failed to authenticate" in self.message:
            code = "AuthenticationFailed"
        # The other lines repeat the code and, if a signature was wrong, the text that was signed.
        message = self.message.partition("\n")[0].removesuffix(".")
        said = f"Azure answered {self.code or self.status}"
        failure = Failure(operation, address, endpoint, f"{said}: {message}" if message else said)
        if self.status in (400, 403, 404) and code in _WRONG_PATH and _lacks_account(endpoint):
            return failure.misconfigured(
                f"The URL of a local server ends with its account, such as {endpoint.rstrip('/')}/devstoreaccount1; "
                "correct endpoint_url"
            )
        error = RULES.error(failure, code=code, status=self.status)
        if isinstance(error, Unsupported) and code in NO_INDEX_TAGS:
            error.headers = frozenset({"x-ms-tags"})  # so that no other header is left out
        return error


def _busy_source(headers: Mapping[str, str]) -> str:
    """The code with which the service refused itself the source of a copy, if it may pass: the status may be a 4xx."""
    code = headers.get("x-ms-copy-source-error-code", "")
    return code if code in ("InternalError", "OperationTimedOut", "ServerBusy") else ""  # as the SDK's `is_retry`


_WRONG_PATH = frozenset(
    {
        *("", "AuthenticationFailed", "AuthorizationFailure", "InvalidResourceName", "InvalidUri", "OutOfRangeInput"),
        "ResourceNotFound",
    }
)
"""Codes by which Azurite refuses requests whose container is where it expects the account."""


def _lacks_account(endpoint: str) -> bool:
    """Whether a URL is one of an emulator, but without the account in its path: the container is taken for the account."""
    parts = urlsplit(endpoint)
    return is_address(parts.hostname or "") and not parts.path.strip("/")


def is_address(host: str) -> bool:
    """Whether a host is an address, or this machine, as those of emulators."""
    if host == "localhost":
        return True
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _details(response: BufferedResponse) -> dict[str, str]:
    """The fields of an error's body; a response to HEAD has none."""
    if "xml" not in response.headers.get("content-type", ""):
        return {}
    try:
        body = ContentDecodePolicy.deserialize_from_text(response.body, "application/xml")
        return {field.tag.lower(): field.text or "" for field in body}
    except (azure_errors.DecodeError, AttributeError, TypeError, ValueError, RecursionError):
        return {}


def translate(error: Exception, operation: str, address: Address, *, endpoint: str) -> Exception:
    """The engine's error for an error of the SDK; see `Refusal.error` for the arguments."""
    if isinstance(error, LakeryCloudError | Signal):  # some are ValueErrors
        return error
    said = redact_error(error)
    if isinstance(error, azure_errors.HttpResponseError) and error.response is not None:
        refusal = Refusal.of_error(error)
        _forget_responses(error)
        return refusal.error(operation, address, endpoint=endpoint)
    if isinstance(error, FeatureRefused):
        return Refusal(error.status, error.code, said).error(operation, address, endpoint=endpoint)
    failure = Failure(operation, address, endpoint, said)
    if isinstance(error, UnusableResponse | UnsupportedResponse):
        return failure.unusable()
    if isinstance(error, azure_errors.ClientAuthenticationError):
        return Failure(operation, address, endpoint, why_no_token(error)).no_credentials(SET_CREDENTIALS)
    if isinstance(error, azure_errors.AzureError):
        proxy = proxy_for(Origin.of(endpoint))
        if proxy is not None and (failed := proxy_error(error.inner_exception, proxy)):
            return Failure(operation, address, endpoint, str(failed)).no_proxy()
    if isinstance(error, azure_errors.ServiceRequestError):
        cause = error.inner_exception
        if isinstance(cause, aiohttp.ClientSSLError):
            return failure.no_tls()
        # Other causes may be connections that broke later, when the store may have received the request.
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return failure.unreachable(CHECK_ACCOUNT)
        return failure.no_answer()
    if not isinstance(error, azure_errors.AzureError) or isinstance(error, azure_errors.DecodeError):
        # Its text may quote the response.
        return Failure(operation, address, endpoint, "a response that can't be read").unusable()
    return failure.signal(BodyInterrupted) if operation == "download_blob" else failure.no_answer()


_ATTEMPT = re.compile(r"^\t(\w+): (.*?)(?=^\t\w+: |^To mitigate|\Z)", re.MULTILINE | re.DOTALL)
_NOT_SET_UP = re.compile(
    r"unavailable|not (?:be )?(?:found|installed|configured|enabled|set up)|no accounts", re.IGNORECASE
)
_POINTERS = re.compile(r"\s*(?:Visit|See|To mitigate|Please (?:visit|refer))\b[^\n]*https?://\S+[^\n]*")


def why_no_token(error: BaseException) -> str:
    """Why a credential has no token, in its own words; of a chain, the credentials that were set up come first."""
    redact_error(error)
    text = redact(str(error)) or type(error).__name__
    attempts = [(name, " ".join(_POINTERS.sub("", said).split())) for name, said in _ATTEMPT.findall(text)]
    if not attempts:
        return text
    failed = [(name, said) for name, said in attempts if not _NOT_SET_UP.search(said)]
    others = [name for name, _ in attempts if name not in dict(failed)]
    if not failed:
        return f"none of these credentials is set up: {', '.join(others)}"
    ending = f"; not set up: {', '.join(others)}" if others else ""
    each = (MAX_QUOTE - len(ending)) // len(failed) - 2
    return "; ".join(f"{name}: {said}"[:each] for name, said in failed) + ending


def _forget_responses(error: BaseException | None) -> None:
    """Remove the responses from errors of the SDK: a traceback shows their bodies, which may repeat a signature."""
    while error is not None:
        if isinstance(error, azure_errors.HttpResponseError):
            error.response = None
        error = error.__cause__ or error.__context__
