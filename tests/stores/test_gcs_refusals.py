"""The reasons with which Cloud Storage refuses requests, in each format in which they reach the library."""

import gzip
import json

import pytest

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import KeyExists, KeyMissing, UploadGone, WriteConflict
from lakery_cloud.http.exchange import BufferedResponse
from lakery_cloud.providers.gcs.errors import Refusal
from lakery_cloud.providers.gcs.refusals import RULES, TABLE, VAGUE, WORDS, code_of

ADDRESS = Address("bucket", "key")
ENDPOINT = "https://storage.googleapis.com"
REASONS = [row for row in TABLE if row.code and " (" not in row.code]


def refused(
    status: int, body: bytes, operation: str = "objects.insert", *, is_anonymous: bool = False, **headers: str
) -> Exception:
    refusal = Refusal.of_response(BufferedResponse(status, headers, body))
    return refusal.error(operation, ADDRESS, endpoint=ENDPOINT, is_anonymous=is_anonymous)


def reasons_body(reason: str, message: str) -> bytes:
    return json.dumps({"error": {"code": 0, "message": message, "errors": [{"reason": reason}]}}).encode()


def details_body(reason: str, message: str) -> bytes:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    help_link = {"@type": "type.googleapis.com/google.rpc.Help", "links": []}
    error = {"code": 0, "message": message, "status": "PERMISSION_DENIED", "details": [help_link, info]}
    return json.dumps({"error": error}).encode()


def xml_body(code: str, message: str) -> bytes:
    code = code[:1].upper() + code[1:]
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.mark.case("52")
@pytest.mark.parametrize("body", [reasons_body, details_body, xml_body])
@pytest.mark.parametrize("row", REASONS, ids=[row.code for row in REASONS])
def test_reason_has_its_error_and_only_advice_that_helps(row: tuple, body: object) -> None:
    code, status, kind, advice, source = row
    for compressed in (False, True):
        content = body(code, "Why.")
        headers = {"content-encoding": "gzip"} if compressed else {}
        found = refused(status, gzip.compress(content) if compressed else content, **headers)
        assert type(found) is kind
        assert code.lower() in str(found).lower()
        assert "Why" in str(found)
        assert advice in str(found)
        assert ("Grant storage." in str(found)) == (not advice)
    assert source


@pytest.mark.case("52")
@pytest.mark.parametrize(
    ("status", "reason", "message", "advice"),
    [
        (403, "forbidden", "Object 'b/k' is under active Temporary hold and cannot be deleted", "hold is released"),
        (403, "forbidden", "Object 'b/k' is under active Event-Based hold and cannot be deleted", "hold is released"),
        (
            403,
            "forbidden",
            "Object 'b/k' is subject to bucket's retention policy or object retention",
            "retention ends",
        ),
        (403, "forbidden", "Request is prohibited by organization's policy", "perimeter"),
        (403, "forbidden", "Permission denied on Cloud KMS key. Please ensure that", "service agent"),
        (403, "forbidden", "x does not have serviceusage.services.use access to the project", "serviceusage"),
        (403, "", "The billing account for the owning project is disabled in state closed", "billing"),
        (403, "insufficientPermissions", "Request had insufficient authentication scopes.", "scope"),
        (412, "conditionNotMet", "Request violates constraint 'constraints/storage.softDeletePolicySeconds'", "policy"),
        (400, "required", "Bucket is a requester pays bucket but no user project provided.", "Set user_project"),
    ],
)
def test_message_counts_where_the_reason_says_less(status: int, reason: str, message: str, advice: str) -> None:
    for body in (reasons_body, details_body, xml_body):
        for operation in ("objects.insert", "objects.delete", "objects.get"):
            found = refused(status, body(reason, message), operation)
            assert isinstance(found, AccessDenied | ConfigError)
            assert advice in str(found)
            assert "Grant storage." not in str(found)


@pytest.mark.case("52")
def test_details_count_before_reasons() -> None:
    error = {"code": 403, "errors": [{"reason": "forbidden"}], "details": [{"reason": "SERVICE_DISABLED"}]}
    found = refused(403, json.dumps({"error": error}).encode())
    assert "Enable the Cloud Storage API" in str(found)


def test_every_meaning_of_words_is_in_the_table() -> None:
    assert {words.code for words in WORDS} <= {row.code for row in TABLE}
    assert {row.code for row in TABLE} >= VAGUE
    codes = [(row.code.lower() or str(row.status)) for row in TABLE]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("operation", "status", "reason", "signal"),
    [
        ("objects.insert", 412, "conditionNotMet", KeyExists),
        ("objects.insert", 409, "conflict", WriteConflict),
        ("objects.get", 404, "notFound", KeyMissing),
        ("objects.rewrite", 410, "gone", WriteConflict),
        ("upload", 410, "backendError", UploadGone),
        ("upload", 404, "notFound", UploadGone),
    ],
)
def test_algorithm_reacts_to_the_status_in_every_format(
    operation: str, status: int, reason: str, signal: type[Exception]
) -> None:
    for body in (reasons_body, details_body, xml_body):
        assert type(refused(status, body(reason, "Why."), operation)) is signal
    assert type(refused(status, b"", operation)) is signal


@pytest.mark.case("65")
def test_limit_of_one_object_is_told_from_others() -> None:
    message = "The object b/k exceeded the rate limit for object mutation operations (create, update, and delete)."
    for body in (reasons_body("rateLimitExceeded", message), xml_body("SlowDown", message)):
        assert type(refused(429, body)) is WriteConflict
        assert type(refused(429, body, "objects.delete")) is StorageUnavailable
    assert type(refused(429, reasons_body("rateLimitExceeded", "Too many requests"))) is StorageUnavailable


@pytest.mark.case("48")
@pytest.mark.parametrize("status", [201, 204, 302, 308, 400, 403, 404, 412])
@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Log in", b"\n <html><body>", b"<HTML>"])
def test_page_is_not_what_the_store_says(status: int, page: bytes) -> None:
    for operation in ("objects.get", "objects.insert", "objects.delete", "objects.list", "upload"):
        found = refused(status, page, operation)
        assert type(found).__mro__[1] is StorageUnavailable
        assert f"a page of HTML with status {status}" in str(found)
        assert ENDPOINT in str(found)
        assert "Log in" not in str(found)


@pytest.mark.case("48")
@pytest.mark.parametrize("status", [204, 302, 308])
def test_wrong_kind_of_success_names_the_endpoint_and_what_came(status: int) -> None:
    found = refused(status, b"")
    assert isinstance(found, StorageUnavailable)
    assert f"a response {status}" in str(found)
    assert ENDPOINT in str(found)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"<Error>", b"<Error><Code></Code></Error>", b"\xff"),
        *(b'{"error": "text"}', b'{"error": {"errors": "text"}}', b'{"error": {"errors": [5]}}'),
        b'{"error": {"message": null, "errors": [{"reason": 5}]}}',
    ],
)
def test_malformed_refusal_counts_by_its_status(body: bytes) -> None:
    assert isinstance(refused(403, body), AccessDenied)
    assert isinstance(refused(404, body), BucketNotFound)
    assert isinstance(refused(503, body), StorageUnavailable)
    assert isinstance(refused(401, body), CredentialsError)
    assert isinstance(refused(401, body, is_anonymous=True), CredentialsError)
    assert type(refused(418, body)) is LakeryCloudError
    assert code_of(403, [], "") == "403"
    assert RULES.grant
