"""The codes by which S3 and stores like it refuse requests, in both forms that reach the library."""

import re

import aiobotocore.session
import pytest
from botocore.exceptions import ClientError

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import UploadGone, WriteConflict
from lakery_cloud.engine.refusals import RefusalRow
from lakery_cloud.http.exchange import BufferedResponse
from lakery_cloud.providers.s3.errors import Refusal, translate
from lakery_cloud.providers.s3.refusals import REFUSALS, RULES

ADDRESS = Address("bucket", "key")

# Code, status, error, and a part of the advice. S3 API Reference, "Error responses", if no other source is named.
CODES = [
    ("AccessDenied", 403, AccessDenied, "Grant s3:PutObject"),
    ("AccountProblem", 403, AccessDenied, "support"),
    ("AllAccessDisabled", 403, AccessDenied, "support"),
    ("NotSignedUp", 403, AccessDenied, "Sign the account up"),
    ("UserSuspended", 403, AccessDenied, "support"),  # Ceph documentation, "Common entities"
    ("InvalidPayer", 403, AccessDenied, "owner"),
    ("InvalidObjectState", 403, StorageUnavailable, "Restore it"),
    ("QuotaExceeded", 403, StorageUnavailable, "quota"),  # Ceph, "Quota management"
    ("XMinioStorageFull", 507, StorageUnavailable, "space"),  # MinIO's API errors
    ("RequestTimeTooSkewed", 403, CredentialsError, "clock"),
    ("InvalidAccessKeyId", 403, CredentialsError, "AWS_ACCESS_KEY_ID"),
    ("SignatureDoesNotMatch", 403, CredentialsError, "AWS_ACCESS_KEY_ID"),
    ("ExpiredToken", 400, CredentialsError, "Renew"),
    ("KMS.DisabledException", 400, ConfigError, "kms_key_id"),
    ("KMS.NotFoundException", 400, ConfigError, "kms_key_id"),
    ("InvalidStorageClass", 400, ConfigError, "storage_class"),
    ("InvalidEncryptionAlgorithmError", 400, ConfigError, "sse"),
    ("KeyTooLongError", 400, ConfigError, "prefix"),
    ("NotImplemented", 501, ConfigError, "Leave out"),
    ("BadDigest", 400, IntegrityError, "checksum"),
    ("NoSuchBucket", 404, BucketNotFound, "Create it"),
    ("PermanentRedirect", 301, ConfigError, "region"),
    ("ServiceUnavailable", 503, StorageUnavailable, "later"),
    ("SlowDown", 503, StorageUnavailable, "later"),
    ("Busy", 503, StorageUnavailable, "later"),
    ("RequestLimitExceeded", 400, StorageUnavailable, "later"),
    ("EntityTooLarge", 400, LakeryCloudError, ""),
]


@pytest.mark.case("52")
@pytest.mark.parametrize(("code", "status", "error", "advice"), CODES, ids=[code for code, *_ in CODES])
def test_code_has_its_error_and_only_advice_that_helps(
    code: str, status: int, error: type[LakeryCloudError], advice: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>Why.</Message></Error>".encode()
    for refusal in (
        Refusal.of_response(BufferedResponse(status, {}, body)),
        Refusal.of(status, {"Code": code, "Message": "Why."}, {}),
    ):
        found = refusal.error("put_object", ADDRESS, endpoint="http://s3")
        assert isinstance(found, error)
        assert advice in str(found)
        assert code in str(found)
        assert ("Grant" in str(found)) == (code == "AccessDenied")


@pytest.mark.case("52")
def test_code_of_another_operation_is_an_error_and_no_signal() -> None:
    refusal = Refusal.of(404, {"Code": "NoSuchUpload", "Message": "Why."}, {})
    assert isinstance(refusal.error("upload_part", ADDRESS, endpoint="http://s3"), UploadGone)
    for operation in ("put_object", "delete_object", "list_objects_v2"):
        assert isinstance(refusal.error(operation, ADDRESS, endpoint="http://s3"), LakeryCloudError)


@pytest.mark.case("52")
@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("User: me is not authorized to perform: sts:AssumeRole on resource: role", "Grant sts:AssumeRole"),
        (
            "User: me is not authorized to perform: kms:GenerateDataKey because no policy allows it",
            "kms:GenerateDataKey",
        ),
        (
            "not authorized to perform: s3:PutObject with an explicit deny in a resource-based policy",
            "change the policy",
        ),
        ("Access Denied because object protected by object lock.", "Object Lock"),
        (
            "because no VPC endpoint policy allows the s3:PutObject action",
            "Allow s3:PutObject in the policy of the VPC",
        ),
    ],
)
def test_advice_follows_the_words_of_the_store(message: str, advice: str) -> None:
    refusal = Refusal.of(403, {"Code": "AccessDenied", "Message": message}, {})
    found = refusal.error("put_object", ADDRESS, endpoint="http://s3")
    assert isinstance(found, AccessDenied)
    assert advice in str(found)
    assert "s3:AbortMultipartUpload" not in str(found)


@pytest.mark.case("52")
@pytest.mark.parametrize(
    ("code", "message", "error", "advice"),
    [
        ("InvalidArgument", "S3 API Requests must be made to API port.", ConfigError, "port of the API"),
        ("InvalidPart", "All non-trailing parts must have the same length.", ConfigError, "Set equal_parts"),
        ("AccessDenied", "Cannot upload files, storage cap exceeded.", StorageUnavailable, "Raise the cap"),
        ("InvalidRequest", "Missing required header for this request: Content-MD5", ConfigError, "content-md5"),
        ("InvalidArgument", "Unsupported header 'x-amz-tagging' received.", ConfigError, "tags"),
    ],
)
def test_words_count_where_the_code_says_less(
    code: str, message: str, error: type[LakeryCloudError], advice: str
) -> None:
    found = Refusal.of(400, {"Code": code, "Message": message}, {}).error("upload_part", ADDRESS, endpoint="http://s3")
    assert isinstance(found, error)
    assert advice.lower() in str(found).lower()


OF_OTHER_OPERATIONS = {
    *(
        "AmbiguousGrantByEmailAddress",
        "BucketAlreadyExists",
        "BucketAlreadyOwnedByYou",
        "BucketNotEmpty",
        "CrossLocationLoggingProhibited",
    ),
    *("IllegalVersioningConfigurationException", "IncorrectNumberOfFilesInPostRequest", "InlineDataTooLarge"),
    *("InvalidAddressingHeader", "InvalidLocationConstraint", "InvalidPolicyDocument", "InvalidSOAPRequest"),
    *("InvalidTargetBucketForLogging", "MalformedACLError", "MalformedPOSTRequest", "MaxMessageLengthExceeded"),
    *("MaxPostPreDataLengthExceededError", "MissingAttachment", "MissingSecurityElement", "NoLoggingStatusForKey"),
    *("NoSuchBucketPolicy", "RequestIsNotMultiPartContent", "RequestTorrentOfBucketError", "RestoreAlreadyInProgress"),
    *("TooManyBuckets", "UnresolvableGrantByEmailAddress", "UserKeyMustBeSpecified", "CredentialsNotSupported"),
}
"""Codes about buckets, policies, logging, forms and SOAP, which no request of a storage has."""


@pytest.mark.case("52")
async def test_table_has_every_code_of_the_api_description() -> None:
    model = await aiobotocore.session.get_session().get_service_model("s3")
    text = model.shape_for("Error").members["Code"].documentation
    documented = {str(code) for code in re.findall(r"<i>Code:</i> (\w[\w.]+) *</p>", text)} - OF_OTHER_OPERATIONS
    assert len(documented) > 40
    known = {row.code for row in REFUSALS} | {code for _, code in RULES.signals}
    assert not documented - known - {"Redirect"}  # the SDK follows it


@pytest.mark.case("52")
@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.code or str(row.status))
def test_row_is_complete_and_becomes_its_error(row: RefusalRow) -> None:
    found = Refusal.of(row.status, {"Code": row.code}, {}).error("put_object", ADDRESS, endpoint="http://s3")
    if not isinstance(found, WriteConflict):
        assert type(found) is row.error
        assert row.advice in str(found)
    assert row.source
    assert row.advice or row.error is AccessDenied


@pytest.mark.case("52")
def test_code_that_nobody_knows_gets_no_advice_about_permissions() -> None:
    found = Refusal.of(403, {"Code": "AccountFrozen"}, {}).error("put_object", ADDRESS, endpoint="http://s3")
    assert isinstance(found, AccessDenied)
    assert "Grant" not in str(found)
    assert "AccountFrozen" in str(found)


@pytest.mark.case("52")
@pytest.mark.parametrize(
    ("details", "headers"), [({"Region": "eu-west-1"}, {}), ({}, {"x-amz-bucket-region": "eu-west-1"})]
)
def test_region_that_a_store_names_is_the_advice(details: dict[str, str], headers: dict[str, str]) -> None:
    refusal = Refusal.of(301, {"Code": "PermanentRedirect", **details}, headers)
    assert "set region to it" in str(refusal.error("put_object", ADDRESS, endpoint="http://s3"))


@pytest.mark.case("52")
@pytest.mark.parametrize("details", [None, "text", [], {"Code": None}, {"Code": ["a", "b"], "Message": {}}])
def test_refusal_of_any_shape_is_an_error(details: object) -> None:
    assert isinstance(
        Refusal.of(503, details, {}).error("put_object", ADDRESS, endpoint="http://s3"), StorageUnavailable
    )


@pytest.mark.case("34")
def test_refused_request_for_credentials_names_that_request() -> None:
    for code, kind, advice in (
        ("AccessDenied", AccessDenied, "Grant sts:AssumeRole"),
        ("ExpiredTokenException", CredentialsError, "AWS_ACCESS_KEY_ID"),
        ("Throttling", StorageUnavailable, "later"),
    ):
        metadata = {"HTTPStatusCode": 400}
        error = ClientError({"Error": {"Code": code, "Message": "Why."}, "ResponseMetadata": metadata}, "AssumeRole")
        found = translate(error, "put_object", ADDRESS, endpoint="http://s3")
        assert isinstance(found, kind)
        assert advice in str(found)
        assert "s3:" not in str(found)
