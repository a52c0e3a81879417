"""What the errors of Blob Storage and of its SDK mean to the engine, and what to do about them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
from azure.core import exceptions as azure_errors

from lakery_cloud.engine.error_messages import Failure, redact_error
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
from lakery_cloud.providers.azure.requests import NotConnected

SET_CREDENTIALS = (
    "Set AZURE_STORAGE_CONNECTION_STRING; or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, "
    "AZURE_STORAGE_SAS_TOKEN, or what azure.identity's DefaultAzureCredential reads"
)


class OutOfRange(Signal):
    """The range begins behind the end of the blob."""


class ConditionNotMet(Signal):
    """The condition on the source of a copy, or that on its destination."""


def translate(error: azure_errors.AzureError, operation: str, address: Address, *, endpoint: str) -> Exception:
    """The engine's word for an error of the SDK.

    Args:
        error: The error.
        operation: The SDK's name of what was asked for.
        address: What it was about.
        endpoint: Who was asked.
    """
    said = redact_error(error)
    if not isinstance(error, azure_errors.HttpResponseError) or error.response is None:
        return _translate_no_answer(error, Failure(operation, address, endpoint, said))
    code, status = _code(error), error.status_code or 0
    _forget_answers(error)
    # The first line: the others repeat the code and, where a signature was wrong, what was signed.
    first_line = str(error.message).partition("\n")[0]
    said = f"Azure answered {code or status}: {first_line.removesuffix('.')}"
    failure = Failure(operation, address, endpoint, said)
    signal = _SIGNALS.get((operation, code)) or _SIGNALS.get(("", code))
    if signal is not None and (signal is not KeyExists or operation in _CREATING):
        return failure.signal(signal)
    if operation in _COPIES and code == "CannotVerifyCopySource" and status in (404, 412):
        return failure.signal(VersionChanged)
    if code in ("ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound", "ContainerDisabled"):
        return failure.no_bucket()
    if status == 401 or code in _CREDENTIALS or "failed to authenticate" in said:
        return failure.credentials_refused(SET_CREDENTIALS)
    if status == 400 and "md5" in said.lower():
        return failure.damaged()
    if status == 403:
        return failure.denied(_grant(operation))
    if code in ("InvalidResourceName", "OutOfRangeInput"):
        return failure.misconfigured(f"{address.bucket!r} can't be the name of a container")
    if code in _NO_TAGS:
        return failure.misconfigured("The account knows no blob index tags; set blob_tags to false")
    if code in ("BlobArchived", "BlobBeingRehydrated"):
        return failure.archived("rehydrate it")
    if status >= 500 or status in (408, 429):
        return failure.unavailable()
    return failure.refused()


_CREATING = ("upload_blob", "start_copy_from_url", "commit_block_list")
_COPIES = ("start_copy_from_url", "stage_block_from_url")

# (operation or "" for any, error code) -> what it tells the engine.
_SIGNALS: Mapping[tuple[str, str], type[Signal]] = {
    ("", "BlobAlreadyExists"): KeyExists,
    ("", "UnauthorizedBlobOverwrite"): KeyExists,  # who may create but not overwrite
    ("", "TargetConditionNotMet"): KeyExists,
    ("download_blob", "ConditionNotMet"): VersionChanged,
    ("stage_block_from_url", "ConditionNotMet"): VersionChanged,
    ("start_copy_from_url", "ConditionNotMet"): ConditionNotMet,
    ("", "ConditionNotMet"): KeyExists,
    ("", "SourceConditionNotMet"): VersionChanged,
    ("start_copy_from_url", "BlobNotFound"): VersionChanged,
    ("stage_block_from_url", "BlobNotFound"): VersionChanged,
    ("", "BlobNotFound"): KeyMissing,
    ("download_blob", "ResourceNotFound"): KeyMissing,  # what a private container tells to strangers
    ("get_blob_properties", "ResourceNotFound"): KeyMissing,
    ("download_blob", "InvalidRange"): OutOfRange,
    ("commit_block_list", "InvalidBlockList"): UploadGone,
    ("upload_blob", "PendingCopyOperation"): WriteConflict,
    ("start_copy_from_url", "PendingCopyOperation"): WriteConflict,
    ("commit_block_list", "PendingCopyOperation"): WriteConflict,
}

# Microsoft Learn, "Common REST API error codes" and "Blob Storage error codes".
_CREDENTIALS = frozenset(
    {
        "AccountIsDisabled",
        "AuthenticationFailed",
        "InvalidAuthenticationInfo",
        "KeyBasedAuthenticationNotPermitted",
        "NoAuthenticationInformation",
        "PublicAccessNotPermitted",
    }
)
_NO_TAGS = frozenset({"BlobTagsNotSupportedForAccountType", "FeatureNotSupportedForAccount"})


def _forget_answers(error: BaseException | None) -> None:
    """Take the answers off errors of the SDK: its texts repeat their bodies, which may repeat a signature."""
    while error is not None:
        if isinstance(error, azure_errors.HttpResponseError):
            error.response = None
        error = error.__cause__ or error.__context__


def _code(error: azure_errors.HttpResponseError) -> str:
    code = getattr(error, "error_code", None) or getattr(error.response, "headers", {}).get("x-ms-error-code")
    return str(getattr(code, "value", code) or "")


def _grant(operation: str) -> str:
    """What to allow, for an operation that was denied."""
    network = "and let this network through the account's firewall"
    if operation in ("download_blob", "get_blob_properties", "list_blobs"):
        return f"Grant the role Storage Blob Data Reader (in a shared access signature: read and list), {network}"
    if operation == "get_blob_tags":
        return f"Grant the role Storage Blob Data Owner (in a shared access signature: tags), {network}"
    return (
        "Grant the role Storage Blob Data Contributor, or Owner where tags are used (in a shared access signature: "
        f"read, create, write, delete and tags), {network}"
    )


def _translate_no_answer(error: azure_errors.AzureError, failure: Failure) -> Exception:
    """The engine's word for a request that got no answer, or was never sent."""
    if isinstance(error, azure_errors.ClientAuthenticationError):
        return failure.no_credentials(SET_CREDENTIALS)
    if isinstance(error, azure_errors.ServiceRequestError):
        # The SDK says the same of a connection that broke later, when the store may have seen the request.
        is_connecting = isinstance(
            error.inner_exception, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, NotConnected)
        )
        if is_connecting:
            return failure.unreachable("check the name of the account, endpoint_url and the network")
        return failure.no_answer()
    if failure.operation == "download_blob":
        return failure.signal(BodyInterrupted)
    return failure.no_answer()


def raise_if_throttled(response: Any) -> None:
    """Have 429 tried again: of answers the SDK tries again after 408 and 5xx alone, but after any error of its own."""
    if response.http_response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise azure_errors.ServiceRequestError("Azure answered 429: too many requests")
