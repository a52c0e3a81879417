"""The codes by which Azure refuses requests, in both forms that reach the library."""

import itertools
import zlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

from lakery_cloud import AccessDenied, ConfigError, CredentialsError, LakeryCloudError, StorageUnavailable
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    KeyExists,
    KeyMissing,
    Signal,
    UploadGone,
    VersionChanged,
    WriteConflict,
)
from lakery_cloud.engine.refusals import RefusalRow
from lakery_cloud.http.exchange import BufferedResponse
from lakery_cloud.providers.azure.answers import ANSWERS
from lakery_cloud.providers.azure.errors import Refusal, translate, why_no_token
from lakery_cloud.providers.azure.refusals import REFUSALS, SIGNALS, ConditionNotMet

ADDRESS = Address("container", "blob")
OPERATION = "stage_block"  # it has no signals of its own


def both_forms(status: int, code: str, message: str, operation: str = OPERATION) -> list[Exception]:
    """The errors for a refusal of our own request and of one of the SDK."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    headers = {"content-type": "application/xml", "x-ms-error-code": code}
    refusal = Refusal.of_response(BufferedResponse(status, headers, body))
    response: Any = SimpleNamespace(status_code=status, headers=headers, reason="")
    error = HttpResponseError(message=message, response=response)
    return [
        refusal.error(operation, ADDRESS, endpoint="https://me.blob"),
        translate(error, operation, ADDRESS, endpoint="https://me.blob"),
    ]


@pytest.mark.case("52")
@pytest.mark.parametrize("row", REFUSALS, ids=[row.code for row in REFUSALS])
def test_code_has_its_error_and_only_advice_that_helps(row: RefusalRow) -> None:
    for found in both_forms(row.status, row.code, "Why."):
        if isinstance(found, Signal):  # a copy in progress
            assert row.code in ("PendingCopyOperation", "CannotVerifyCopySource")
            continue
        assert isinstance(found, LakeryCloudError)
        assert isinstance(found, row.error)
        assert row.advice in str(found)
        assert row.code in str(found)
        assert ("Storage Blob Data" in str(found)) == (not row.advice), "a role is named where one helps"


HANDLED: Mapping[str, set[type[Signal]]] = {
    "upload_blob": {KeyExists, WriteConflict},
    "stage_block": set(),
    "stage_block_from_url": {VersionChanged},
    "commit_block_list": {KeyExists, UploadGone, WriteConflict},
    "start_copy_from_url": {ConditionNotMet, KeyExists, VersionChanged, WriteConflict},
    "upload_blob_from_url": {ConditionNotMet, KeyExists, VersionChanged, WriteConflict},
    "abort_copy": {KeyMissing},
    "get_blob_properties": {KeyMissing},
    "download_blob": {KeyMissing, VersionChanged},
    "delete_blob": {KeyMissing, VersionChanged},
    "get_blob_tags": {KeyMissing},
    "get_block_list": {KeyMissing},
    "list_blobs": set(),
    "get_container_properties": set(),
    "get_user_delegation_key": set(),
}
"""Operation -> the signals that its callers handle."""
STATUSES = (*range(200, 209), 301, 302, 304, 307, 308, *range(400, 418), 429, *range(500, 508), 599)


@pytest.mark.case("52")
@pytest.mark.parametrize("operation", ANSWERS)
def test_no_signal_reaches_a_caller_that_does_not_handle_it(operation: str) -> None:
    codes = {"", "Unknown", *(row.code for row in REFUSALS), *(code for _, code in SIGNALS), "CannotVerifyCopySource"}
    for code, status in itertools.product(codes, STATUSES):
        found = Refusal(status, code, "Why.").error(operation, ADDRESS, endpoint="https://me.blob")
        assert isinstance(found, LakeryCloudError) or type(found) in HANDLED[operation], (code, status)


def test_codes_are_unique_and_have_sources() -> None:
    assert len({row.code for row in REFUSALS}) == len(REFUSALS)
    assert all(row.source for row in REFUSALS)


@pytest.mark.case("52")
@pytest.mark.parametrize("code", ["AuthorizationFailure", "AuthorizationPermissionMismatch", ""])
@pytest.mark.parametrize(
    ("operation", "role"), [("delete_blob", "Contributor"), ("list_blobs", "Reader"), ("get_blob_tags", "Owner")]
)
def test_missing_permission_is_the_one_of_the_request(code: str, operation: str, role: str) -> None:
    for found in both_forms(403, code, "Not allowed.", operation):
        assert isinstance(found, AccessDenied)
        assert f"Storage Blob Data {role}" in str(found)


@pytest.mark.case("55")
@pytest.mark.parametrize("code", ["BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"])
def test_retention_makes_a_second_write_an_existing_key_and_a_deletion_an_error(code: str) -> None:
    assert all(isinstance(found, KeyExists) for found in both_forms(409, code, "Immutable.", "upload_blob"))
    for found in both_forms(409, code, "Immutable.", "delete_blob"):
        assert isinstance(found, AccessDenied)
        assert "retention" in str(found)


def test_container_that_is_disabled_is_no_missing_object() -> None:
    for found in both_forms(409, "ContainerDisabled", "Disabled.", "get_blob_properties"):
        assert isinstance(found, AccessDenied)
    for found in both_forms(404, "ContainerNotFound", "Missing.", "get_blob_properties"):
        assert isinstance(found, KeyMissing)


@pytest.mark.parametrize("status", [204, 304, 308])
def test_status_that_is_no_refusal_is_a_response_that_proves_nothing(status: int) -> None:
    for found in both_forms(status, "", ""):
        assert isinstance(found, StorageUnavailable)
        assert f"a response {status}" in str(found)
        assert "https://me.blob" in str(found)


@pytest.mark.parametrize(
    "body", [b"[" * 10_000, b"\xff\xfe", b"<Error><Code>", b"<Error/>", b"<a xmlns='b'><c>d</c></a>", b"", b"\x00" * 10]
)
def test_malformed_body_of_a_refusal_is_an_error_of_ours(body: bytes) -> None:
    refusal = Refusal.of_response(BufferedResponse(400, {"content-type": "application/xml"}, body))
    assert isinstance(refusal.error("upload_blob", ADDRESS, endpoint="https://me.blob"), LakeryCloudError)


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("x"), KeyError("x"), AttributeError("x"), TypeError("x"), IndexError("x"), UnicodeError("x")),
        *(zlib.error("x"), RecursionError("x")),
    ],
)
def test_built_in_errors_of_the_sdk_are_unusable_responses(error: Exception) -> None:
    found = translate(error, "list_blobs", ADDRESS, endpoint="https://me.blob")
    assert isinstance(found, StorageUnavailable)
    assert "can't be read" in str(found)


def test_our_own_errors_pass() -> None:
    error = ConfigError("some setting")
    assert translate(error, "list_blobs", ADDRESS, endpoint="https://me.blob") is error


# Credentials of azure.identity

HELP = "https://aka.ms/azsdk/python/identity/{}/troubleshoot"
UNAVAILABLE = (
    "\tEnvironmentCredential: EnvironmentCredential authentication unavailable. Environment variables are not fully "
    f"configured.\nVisit {HELP.format('environmentcredential')} to troubleshoot this issue.\n"
    "\tWorkloadIdentityCredential: WorkloadIdentityCredential authentication unavailable. The workload options are not "
    f"fully configured. See the troubleshooting guide for more information: {HELP.format('workloadidentitycredential')}. "
    "Missing required arguments: 'tenant_id', 'client_id', 'token_file_path'.\n"
    "\tManagedIdentityCredential: ManagedIdentityCredential authentication unavailable, no response from the IMDS "
    "endpoint.\n"
    "\tSharedTokenCacheCredential: SharedTokenCacheCredential authentication unavailable. No accounts were found in the "
    "cache.\n"
)
CAUSE = "\tAzureCliCredential: AADSTS50173: The provided grant has expired due to it being revoked, a fresh auth token is needed.\n"
ENDING = (
    "\tAzurePowerShellCredential: PowerShell is not installed\n"
    "\tAzureDeveloperCliCredential: Azure Developer CLI could not be found. Please visit https://aka.ms/azure-dev for "
    "installation instructions and then, once installed, authenticate to your Azure account using 'azd auth login'.\n"
    f"To mitigate this issue, please refer to the troubleshooting guidelines here at {HELP.format('defaultazurecredential')}."
)
HEAD = "DefaultAzureCredential failed to retrieve a token from the included credentials.\nAttempted credentials:\n"


def test_message_of_a_chain_of_credentials_keeps_its_cause() -> None:
    message = HEAD + UNAVAILABLE + CAUSE + ENDING
    assert message.index("AADSTS50173") > 500
    error = ClientAuthenticationError(message=message)
    found = translate(error, "list_blobs", ADDRESS, endpoint="https://me.blob")
    assert isinstance(found, CredentialsError)
    assert "AzureCliCredential: AADSTS50173: The provided grant has expired" in str(found)
    assert "not set up: EnvironmentCredential" in str(found)
    assert "aka.ms" not in str(found)


def test_chain_without_any_credential_says_so() -> None:
    found = why_no_token(ClientAuthenticationError(message=HEAD + UNAVAILABLE + ENDING))
    assert found.startswith("none of these credentials is set up: EnvironmentCredential, ")


def test_secret_of_a_chain_is_masked() -> None:
    message = f"{HEAD}\tAzureCliCredential: failed at https://x?sig=secret\n"
    assert "secret" not in why_no_token(ClientAuthenticationError(message=message))
