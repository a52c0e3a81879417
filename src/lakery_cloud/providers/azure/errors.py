"""The engine's errors for refusals of Azure and errors of its SDK."""

from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
from azure.core import exceptions as azure_errors
from azure.core.pipeline.policies import ContentDecodePolicy

from lakery_cloud.engine.error_messages import Failure, RefusalRules, redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    BodyInterrupted,
    KeyExists,
    KeyMissing,
    Signal,
    UploadGone,
    VersionChanged,
    WriteConflict,
)
from lakery_cloud.http.exchange import BufferedResponse, UnsupportedResponse

SDK_ERRORS = (azure_errors.AzureError, UnsupportedResponse, ValueError)
"""Errors of a call of the SDK. It raises `ValueError` for a response without a header that it needs."""
SET_CREDENTIALS = (
    "Set AZURE_STORAGE_CONNECTION_STRING; or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, "
    "AZURE_STORAGE_SAS_TOKEN, or what azure.identity's DefaultAzureCredential reads"
)
CHECK_ACCOUNT = "check the name of the account, endpoint_url and the network"


class ConditionNotMet(Signal):
    """The condition on the source of a copy failed, or the one on its destination."""


_CREATING = ("upload_blob", "start_copy_from_url", "commit_block_list")
_USING = ("download_blob", "get_blob_properties", "get_blob_tags", "delete_blob", "get_block_list", "abort_copy")
_READER = "Grant the role Storage Blob Data Reader (in a shared access signature: read and list)"
_NETWORK = ", and let this network through the account's firewall"
_REFUSED_CREDENTIALS = partial(Failure.credentials_refused, remedy=SET_CREDENTIALS)


def _invalid_name(failure: Failure) -> Exception:
    return failure.misconfigured(f"{failure.address.bucket!r} can't be the name of a container")


# Microsoft Learn, "Common REST API error codes" and "Blob Storage error codes".
RULES = RefusalRules(
    signals={
        **{
            (operation, code): KeyExists
            for operation in _CREATING
            # A signature that allows to create, but not to overwrite, leads to the second one.
            for code in ("BlobAlreadyExists", "UnauthorizedBlobOverwrite", "TargetConditionNotMet", "ConditionNotMet")
        },
        ("start_copy_from_url", "ConditionNotMet"): ConditionNotMet,
        ("download_blob", "ConditionNotMet"): VersionChanged,
        ("stage_block_from_url", "ConditionNotMet"): VersionChanged,
        ("", "SourceConditionNotMet"): VersionChanged,
        ("start_copy_from_url", "BlobNotFound"): VersionChanged,
        ("stage_block_from_url", "BlobNotFound"): VersionChanged,
        **{(operation, "BlobNotFound"): KeyMissing for operation in _USING},
        ("download_blob", "ResourceNotFound"): KeyMissing,  # a private container's answer to anonymous requests
        **{
            ("get_blob_properties", code): KeyMissing
            for code in ("ResourceNotFound", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled")
        },
        ("download_blob", "InvalidRange"): VersionChanged,
        ("commit_block_list", "InvalidBlockList"): UploadGone,
        **{(operation, "PendingCopyOperation"): WriteConflict for operation in _CREATING},
    },
    outcomes={
        **dict.fromkeys(
            ("ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound", "ContainerDisabled"), Failure.no_bucket
        ),
        **dict.fromkeys(
            (
                *("AccountIsDisabled", "AuthenticationFailed", "InvalidAuthenticationInfo"),
                *("KeyBasedAuthenticationNotPermitted", "NoAuthenticationInformation", "PublicAccessNotPermitted"),
            ),
            _REFUSED_CREDENTIALS,
        ),
        **dict.fromkeys(("Md5Mismatch", "InvalidMd5"), Failure.damaged),
        **dict.fromkeys(("InvalidResourceName", "OutOfRangeInput"), _invalid_name),
        **dict.fromkeys(
            ("BlobTagsNotSupportedForAccountType", "FeatureNotSupportedForAccount"),
            partial(Failure.misconfigured, remedy="The account has no blob index tags; set blob_tags to false"),
        ),
        **dict.fromkeys(("BlobArchived", "BlobBeingRehydrated"), partial(Failure.archived, remedy="rehydrate it")),
    },
    grants={
        **dict.fromkeys(("download_blob", "get_blob_properties", "list_blobs"), _READER + _NETWORK),
        "get_blob_tags": (f"Grant the role Storage Blob Data Owner (in a shared access signature: tags){_NETWORK}"),
    },
    grant=(
        "Grant the role Storage Blob Data Contributor, or Owner where tags are used (in a shared access signature: "
        f"read, create, write, delete and tags){_NETWORK}"
    ),
    set_credentials=SET_CREDENTIALS,
)


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
        return cls(
            response.status,
            response.headers.get("x-ms-error-code") or details.get("code", ""),
            details.get("message", ""),
        )

    @classmethod
    def of_error(cls, error: azure_errors.HttpResponseError) -> "Refusal":
        """A refusal from an error of the SDK."""
        code = getattr(error, "error_code", None) or getattr(error.response, "headers", {}).get("x-ms-error-code")
        return cls(error.status_code or 0, str(getattr(code, "value", code) or ""), str(error.message))

    def error(self, operation: str, address: Address, *, endpoint: str) -> Exception:
        """The engine's signal or error.

        Args:
            operation: The SDK's name of the request.
            address: Container and blob.
            endpoint: URL of the API.
        """
        code = self.code
        # Some codes mean different things, and some emulators have other ones than Azure.
        if code == "CannotVerifyCopySource" and self.status in (404, 412):
            code = "SourceConditionNotMet"
        elif self.status == 400 and "md5" in self.message.lower():
            code = "Md5Mismatch"
        elif "failed to authenticate" in self.message:
            code = "AuthenticationFailed"
        # The other lines repeat the code and, if a signature was wrong, the text that was signed.
        message = self.message.partition("\n")[0].removesuffix(".")
        said = f"Azure answered {self.code or self.status}"
        failure = Failure(operation, address, endpoint, f"{said}: {message}" if message else said)
        return RULES.error(failure, code=code, status=self.status)


def _details(response: BufferedResponse) -> dict[str, str]:
    """The fields of an error's body; a response to HEAD has none."""
    if "xml" not in response.headers.get("content-type", ""):
        return {}
    try:
        body: Any = ContentDecodePolicy.deserialize_from_text(response.body, "application/xml")
        return {field.tag.lower(): field.text or "" for field in body}
    except (azure_errors.DecodeError, AttributeError, TypeError):
        return {}


def translate(error: Exception, operation: str, address: Address, *, endpoint: str) -> Exception:
    """The engine's error for an error of the SDK; see `Refusal.error` for the arguments."""
    said = redact_error(error)
    if isinstance(error, azure_errors.HttpResponseError) and error.response is not None:
        refusal = Refusal.of_error(error)
        _forget_responses(error)
        return refusal.error(operation, address, endpoint=endpoint)
    failure = Failure(operation, address, endpoint, said)
    if isinstance(error, azure_errors.ClientAuthenticationError):
        return failure.no_credentials(SET_CREDENTIALS)
    if isinstance(error, azure_errors.ServiceRequestError):
        cause = error.inner_exception
        if isinstance(cause, aiohttp.ClientSSLError):
            return failure.no_tls()
        # Other causes may be connections that broke later, when the store may have received the request.
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return failure.unreachable(CHECK_ACCOUNT)
        return failure.no_answer()
    if not isinstance(error, azure_errors.AzureError):
        return failure.unusable()
    return failure.signal(BodyInterrupted) if operation == "download_blob" else failure.no_answer()


def _forget_responses(error: BaseException | None) -> None:
    """Remove the responses from errors of the SDK: a traceback shows their bodies, which may repeat a signature."""
    while error is not None:
        if isinstance(error, azure_errors.HttpResponseError):
            error.response = None
        error = error.__cause__ or error.__context__


def raise_if_throttled(response: Any) -> None:
    """Let the SDK retry after 429: of responses it retries only after 408 and 5xx, but after any error of its own."""
    if response.http_response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise azure_errors.ServiceRequestError("Azure answered 429: too many requests")
