"""The reasons with which Cloud Storage refuses requests, and the error of each."""

import re
from typing import NamedTuple

from lakery_cloud.engine.error_messages import LATER, RENEW
from lakery_cloud.engine.model import KeyExists, KeyMissing, UploadGone, VersionChanged, WriteConflict
from lakery_cloud.engine.refusals import RefusalRow, RefusalRules
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    LakeryCloudError,
    StorageUnavailable,
)

LOG_IN = "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"

# Our names for what Cloud Storage says in words alone.
DAMAGED = "invalid (checksum)"
BUSY_OBJECT = "rateLimitExceeded (object)"
KEY_DENIED = "forbidden (key of Cloud KMS)"

# Sources.
_JSON = 'Cloud Storage, "HTTP status and error codes for JSON"'
_XML = 'Cloud Storage, "HTTP status and error codes for XML"'
_RPC = "googleapis/googleapis, google/api/error_reason.proto"
_LOCK = 'Cloud Storage, "Bucket Lock"'
_HOLDS = 'Cloud Storage, "Object holds"'
_KMS_PAGE = 'Cloud Storage, "Customer-managed encryption keys"'
_VPC_PAGE = 'VPC Service Controls, "Troubleshooting"'
_USER_PROJECT_PAGE = 'Cloud Storage, "Requester Pays"'
_LIMITS = 'Cloud Storage, "Quotas & limits"'
_APIS = 'Service Usage, "Error responses"'

# Advice.
_CREDENTIALS = f"{RENEW}. {LOG_IN}"
_REPORT = "Cloud Storage does not understand the request; check for a proxy that changes requests"
_SETTINGS = "Check the settings of the storage and of the bucket"
_KMS = "Check that the key of kms_key_name, or the bucket's key, exists, is enabled, and is in the bucket's location"
_KEY_OF_CUSTOMER = "The object is encrypted with a key that its writer supplied; write it again without one"
_BILLING = "Check the billing of the project that owns the bucket"
_PAYER_BILLING = "Check the billing of user_project"
_PAYER = (
    "Grant serviceusage.services.use in the project that is billed: user_project, or the project of the credentials"
)
_API = "Enable the Cloud Storage API in the project of the credentials"
_PERIMETER = (
    "The request crosses a service perimeter; its administrator finds it by its identifier, and can allow the account or "
    "the network"
)
_POLICY = (
    "An organization policy refuses it; its administrator can say what it demands, such as kms_key_name or a location"
)
_SUPPORT = "Ask Google's support"
_KEPT = "It stays until its retention ends"
_HELD = "It stays until its hold is released"
_SCOPES = "The token lacks the scope for it; use one with devstorage.full_control, or devstorage.read_write"
_ENDPOINT = "Check endpoint_url"

TABLE = (
    RefusalRow("forbidden", 403, AccessDenied, "", _JSON),
    RefusalRow("insufficientPermissions", 403, AccessDenied, "", _JSON),
    RefusalRow("AccessDenied", 403, AccessDenied, "", _XML),
    RefusalRow("IAM_PERMISSION_DENIED", 403, AccessDenied, "", _RPC),
    RefusalRow("accountDisabled", 403, AccessDenied, _BILLING, _JSON),
    RefusalRow("AccountProblem", 403, AccessDenied, _BILLING, _XML),
    RefusalRow("billingNotEnabled", 403, AccessDenied, _BILLING, _APIS),
    RefusalRow("BILLING_DISABLED", 403, AccessDenied, _BILLING, _RPC),
    RefusalRow("CONSUMER_SUSPENDED", 403, AccessDenied, _SUPPORT, _RPC),
    RefusalRow("CONSUMER_INVALID", 403, AccessDenied, "Check user_project and the project of the credentials", _RPC),
    RefusalRow("countryBlocked", 403, AccessDenied, "Google may not serve the country of this machine", _JSON),
    RefusalRow("objectUnderActiveHold", 403, AccessDenied, _HELD, _HOLDS),
    RefusalRow("retentionPolicyNotMet", 403, AccessDenied, _KEPT, _LOCK),
    RefusalRow("vpcServiceControls", 403, AccessDenied, _PERIMETER, _VPC_PAGE),
    RefusalRow("SECURITY_POLICY_VIOLATED", 403, AccessDenied, _PERIMETER, _RPC),
    RefusalRow("orgPolicyConstraintFailed", 412, AccessDenied, _POLICY, _JSON),
    RefusalRow("UserProjectAccessDenied", 403, AccessDenied, _PAYER, _JSON),
    RefusalRow("USER_PROJECT_DENIED", 403, AccessDenied, _PAYER, _RPC),
    RefusalRow("UserProjectAccountProblem", 403, AccessDenied, _PAYER_BILLING, _JSON),
    RefusalRow("accessNotConfigured", 403, AccessDenied, _API, _APIS),
    RefusalRow("SERVICE_DISABLED", 403, AccessDenied, _API, _RPC),
    RefusalRow("ACCESS_TOKEN_SCOPE_INSUFFICIENT", 403, AccessDenied, _SCOPES, _RPC),
    RefusalRow(
        KEY_DENIED,
        403,
        AccessDenied,
        "Grant cloudkms.cryptoKeyVersions.useToEncrypt and useToDecrypt on the key to the service agent of Cloud Storage",
        _KMS_PAGE,
    ),
    RefusalRow("authError", 401, CredentialsError, _CREDENTIALS, _JSON),
    RefusalRow("AuthenticationRequired", 401, CredentialsError, _CREDENTIALS, _XML),
    RefusalRow(
        "AuthenticationRequiredRequesterPays",
        401,
        CredentialsError,
        f"A requester pays bucket needs some. {LOG_IN}",
        _JSON,
    ),
    RefusalRow("ACCESS_TOKEN_EXPIRED", 401, CredentialsError, _CREDENTIALS, _RPC),
    RefusalRow("ACCESS_TOKEN_TYPE_UNSUPPORTED", 401, CredentialsError, _CREDENTIALS, _RPC),
    RefusalRow("CREDENTIALS_MISSING", 401, CredentialsError, _CREDENTIALS, _RPC),
    RefusalRow("ACCOUNT_STATE_INVALID", 401, CredentialsError, _CREDENTIALS, _RPC),
    RefusalRow("ExpiredToken", 400, CredentialsError, _CREDENTIALS, _XML),
    RefusalRow("InvalidSecurity", 403, CredentialsError, _CREDENTIALS, _XML),
    RefusalRow("", 404, BucketNotFound, "Create it, or check its name and endpoint_url", _JSON),
    RefusalRow("userProjectMissing", 400, ConfigError, "Set user_project", _JSON),
    RefusalRow("userProjectInvalid", 400, ConfigError, "Check user_project", _JSON),
    RefusalRow("userProjectInconsistent", 400, ConfigError, "Check user_project", _USER_PROJECT_PAGE),
    RefusalRow("cloudKmsBadKey", 400, ConfigError, _KMS, _JSON),
    RefusalRow("cloudKmsCannotChangeKeyName", 400, ConfigError, _KMS, _JSON),
    RefusalRow("cloudKmsDecryptionKeyNotFound", 400, ConfigError, _KMS, _JSON),
    RefusalRow("cloudKmsDisabledKey", 400, ConfigError, _KMS, _JSON),
    RefusalRow("cloudKmsEncryptionKeyNotFound", 400, ConfigError, _KMS, _JSON),
    RefusalRow("cloudKmsKeyLocationNotAllowed", 400, ConfigError, _KMS, _JSON),
    RefusalRow("customerEncryptionAlgorithmIsInvalid", 400, ConfigError, _KEY_OF_CUSTOMER, _JSON),
    RefusalRow("customerEncryptionKeyFormatIsInvalid", 400, ConfigError, _KEY_OF_CUSTOMER, _JSON),
    RefusalRow("customerEncryptionKeyIsIncorrect", 400, ConfigError, _KEY_OF_CUSTOMER, _JSON),
    RefusalRow("customerEncryptionKeySha256IsInvalid", 400, ConfigError, _KEY_OF_CUSTOMER, _JSON),
    RefusalRow("resourceIsEncryptedWithCustomerEncryptionKey", 400, ConfigError, _KEY_OF_CUSTOMER, _JSON),
    RefusalRow("resourceNotEncryptedWithCustomerEncryptionKey", 400, ConfigError, _KEY_OF_CUSTOMER, _JSON),
    RefusalRow("turnedDown", 400, ConfigError, "Upgrade lakery-cloud", _JSON),
    RefusalRow("sslRequired", 403, ConfigError, "Set endpoint_url to a URL with https", _JSON),
    RefusalRow("methodNotAllowed", 405, ConfigError, _ENDPOINT, _JSON),
    RefusalRow(DAMAGED, 400, IntegrityError, "Write again", 'Cloud Storage, "Data validation and change detection"'),
    RefusalRow("BadDigest", 400, IntegrityError, "Write again", _XML),
    RefusalRow("CrcMismatch", 400, IntegrityError, "Write again", _XML),
    RefusalRow(BUSY_OBJECT, 429, StorageUnavailable, LATER, f'{_LIMITS}, "Objects": one change a second'),
    RefusalRow("rateLimitExceeded", 429, StorageUnavailable, LATER, _JSON),
    RefusalRow("userRateLimitExceeded", 403, StorageUnavailable, LATER, _JSON),
    RefusalRow("quotaExceeded", 403, StorageUnavailable, "Raise the quota of the project, or try again later", _APIS),
    RefusalRow(
        "dailyLimitExceeded", 403, StorageUnavailable, "Raise the quota of the project, or try again later", _APIS
    ),
    RefusalRow("RATE_LIMIT_EXCEEDED", 429, StorageUnavailable, LATER, _RPC),
    RefusalRow("RESOURCE_QUOTA_EXCEEDED", 429, StorageUnavailable, "Raise the quota of the project", _RPC),
    RefusalRow("SlowDown", 429, StorageUnavailable, LATER, _XML),
    RefusalRow("uploadBrokenConnection", 408, StorageUnavailable, LATER, _JSON),
    RefusalRow("backendError", 500, StorageUnavailable, LATER, _JSON),
    RefusalRow("internalError", 500, StorageUnavailable, LATER, _JSON),
    RefusalRow("gatewayTimeout", 504, StorageUnavailable, LATER, _JSON),
    RefusalRow("ServiceUnavailable", 503, StorageUnavailable, LATER, _XML),
    RefusalRow("", 409, StorageUnavailable, LATER, _JSON),
    RefusalRow("uploadTooLarge", 413, LakeryCloudError, "An object has at most 5 TiB", _JSON),
    RefusalRow("", 411, LakeryCloudError, _REPORT, _JSON),
    RefusalRow("invalid", 400, LakeryCloudError, _SETTINGS, _JSON),
    RefusalRow("badRequest", 400, LakeryCloudError, _SETTINGS, _JSON),
    RefusalRow("badRequestException", 400, LakeryCloudError, _SETTINGS, _JSON),
    RefusalRow("invalidArgument", 400, LakeryCloudError, _SETTINGS, _JSON),
    RefusalRow("invalidParameter", 400, LakeryCloudError, _SETTINGS, _JSON),
    RefusalRow("invalidAltValue", 400, LakeryCloudError, _REPORT, _JSON),
    RefusalRow("corsRequestWithXOrigin", 400, LakeryCloudError, _REPORT, _JSON),
    RefusalRow("notDownload", 400, LakeryCloudError, _REPORT, _JSON),
    RefusalRow("notUpload", 400, LakeryCloudError, _REPORT, _JSON),
    RefusalRow("parseError", 400, LakeryCloudError, _REPORT, _JSON),
    RefusalRow("wrongUrlForUpload", 400, LakeryCloudError, _REPORT, _JSON),
)
"""Reasons of the JSON API, codes of the XML API, and reasons of google.rpc. Reasons that repeat a status are not in it."""


class Words(NamedTuple):
    """A message that says more than the reason of its refusal.

    Attributes:
        status: The HTTP status of the response.
        pattern: A regular expression for the message.
        code: The code in the table that it means.
        source: Where the message is documented or reported.
    """

    status: int
    pattern: str
    code: str
    source: str


WORDS = (
    Words(400, r"requester pays", "userProjectMissing", _USER_PROJECT_PAGE),
    Words(400, r"crc32c|md5", DAMAGED, 'Cloud Storage, "Data validation and change detection"'),
    Words(403, r"under active [\w-]+ hold", "objectUnderActiveHold", _HOLDS),
    Words(403, r"retention policy|object retention", "retentionPolicyNotMet", _LOCK),
    Words(403, r"organization's policy|vpc ?service ?controls", "vpcServiceControls", _VPC_PAGE),
    Words(403, r"cloud kms key", KEY_DENIED, _KMS_PAGE),
    Words(403, r"serviceusage\.services\.use", "UserProjectAccessDenied", _USER_PROJECT_PAGE),
    Words(403, r"billing account", "accountDisabled", "reports of the message `The billing account ... is disabled`"),
    Words(403, r"has not been used in project|api is disabled", "accessNotConfigured", _APIS),
    Words(403, r"authentication scopes", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", _RPC),
    Words(
        412, r"\bconstraint", "orgPolicyConstraintFailed", "reports of the message `Request violates constraint ...`"
    ),
    Words(429, r"rate limit for object mutation", BUSY_OBJECT, f'{_LIMITS}, "Objects"'),
)

VAGUE = frozenset({"forbidden", "insufficientPermissions", "AccessDenied", "invalid", "rateLimitExceeded", "SlowDown"})
"""Reasons that say less than their message."""

_ROWS = {row.code.lower(): row for row in TABLE if row.code}
_ALONE = frozenset({404, 409, 410, 412, 416, 499})
"""Statuses that say more than a reason which usually comes with another one, such as 410 `backendError`."""
_COMPILED = tuple((words.status, re.compile(words.pattern, re.IGNORECASE), words.code) for words in WORDS)


def code_of(status: int, reasons: list[str], message: str) -> str:
    """The code in the table for a refusal; its status if the table has none.

    Args:
        status: HTTP status.
        reasons: What the response names as reasons, in any of the formats.
        message: What it says.
    """
    rows = [_ROWS[reason.lower()] for reason in reasons if reason.lower() in _ROWS]
    known = [row.code for row in rows if row.status == status or status not in _ALONE]
    if exact := [code for code in known if code not in VAGUE]:
        return exact[0]
    for for_status, pattern, code in _COMPILED:
        if status == for_status and pattern.search(message):
            return code
    return known[0] if known else str(status)


INSERTS = ("objects.insert", "objects.insert (resumable)")

RULES = RefusalRules(
    signals={
        **{(insert, "409"): WriteConflict for insert in INSERTS},
        **{(insert, "412"): KeyExists for insert in INSERTS},
        **{(insert, BUSY_OBJECT): WriteConflict for insert in INSERTS},
        ("objects.get", "404"): KeyMissing,
        ("objects.get", "412"): VersionChanged,
        ("objects.get", "416"): VersionChanged,
        ("objects.delete", "412"): VersionChanged,
        ("objects.compose", "404"): UploadGone,
        ("objects.compose", "412"): KeyExists,
        ("objects.compose", BUSY_OBJECT): WriteConflict,
        ("objects.rewrite", "404"): VersionChanged,
        ("objects.rewrite", "409"): WriteConflict,
        ("objects.rewrite", "410"): WriteConflict,  # the token has expired, or is unknown
        ("objects.rewrite", "412"): KeyExists,
        ("objects.rewrite", BUSY_OBJECT): WriteConflict,
        ("objects.move", "404"): KeyMissing,  # the source, or the method
        ("objects.move", "409"): WriteConflict,
        ("objects.move", "412"): KeyExists,
        ("objects.move", BUSY_OBJECT): WriteConflict,
        ("objects.patch", "404"): KeyMissing,
        ("objects.patch", "409"): WriteConflict,
        ("objects.patch", "412"): VersionChanged,
        ("objects.patch", BUSY_OBJECT): WriteConflict,
        ("buckets.patch", "412"): VersionChanged,
        **{("upload", status): UploadGone for status in ("404", "410", "412", "499")},
    },
    table=TABLE,
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
