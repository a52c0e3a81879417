"""The codes by which Amazon S3 and stores with its API refuse requests, and the error of each."""

from lakery_cloud.engine.error_messages import LATER, RENEW
from lakery_cloud.engine.model import (
    Archived,
    Full,
    KeyExists,
    KeyMissing,
    Unsupported,
    UploadGone,
    VersionChanged,
    WriteConflict,
)
from lakery_cloud.engine.refusals import RefusalRow, RefusalRules
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidTags,
    LakeryCloudError,
    StorageUnavailable,
)

SET_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
SOURCE_CHANGED = "PreconditionFailed (source)"
"""Our name for a code that means two things."""
REDIRECTS = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "301", "307", "400"})
"""Codes by which S3 says that a bucket is elsewhere; the response to HEAD has only a status."""
OTHER_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "301"})
"""The codes that come with the region of the bucket, in the body or in `x-amz-bucket-region`."""

# Sources.
_S3 = 'S3 API Reference, "Error responses"'
_BILLING = 'S3 User Guide, "Billing for Amazon S3 error responses"'
_CONDITIONS = 'S3 User Guide, "How to prevent object overwrites with conditional writes"'
_RETRIES = 'AWS SDKs and Tools Reference Guide, "Retry behavior"'
_CEPH = 'Ceph documentation, "S3 error responses"'
_CEPH_QUOTA = 'Ceph documentation, "Quota management"'
_MINIO = "minio/minio, cmd/api-errors.go"
_OSS = 'Alibaba OSS documentation, "HTTP status codes"'
_R2 = 'Cloudflare R2 documentation, "Error codes"'
_FSX = 'S3 API Reference, "List of Amazon FSx-related error codes"'
_HEAD = 'S3 API Reference, "HeadObject": the response to HEAD has no body'

# Advice.
_CREDENTIALS = f"{RENEW}. {SET_CREDENTIALS}"
_REGION = "The bucket is in another region; set region"
_ENDPOINT = "Check endpoint_url and the name of the bucket"
_SUPPORT = "The provider has disabled the account or the bucket; ask its support"
_SPACE = "Free some space, or raise the quota"
_KMS = "Check that the key of kms_key_id, or the bucket's key, exists and is enabled"
_AGAIN = "Write again"
_REPORT = "The store does not understand the request; check for a proxy that changes requests"
_NETWORK = "Use a network that the bucket's owner allows"

REFUSALS = (
    RefusalRow("AccessDenied", 403, AccessDenied, "", _S3),
    RefusalRow("AllAccessDisabled", 403, AccessDenied, _SUPPORT, _S3),
    RefusalRow("AccountProblem", 403, AccessDenied, _SUPPORT, _S3),
    RefusalRow("NotSignedUp", 403, AccessDenied, "Sign the account up for the service", _S3),
    RefusalRow("InvalidPayer", 403, AccessDenied, "Nobody pays for the bucket any more; ask its owner", _S3),
    RefusalRow("UnauthorizedAccess", 403, AccessDenied, "The bucket needs an ICP license", _S3),
    RefusalRow("UnexpectedIPError", 403, AccessDenied, _NETWORK, _S3),
    RefusalRow("UserSuspended", 403, AccessDenied, _SUPPORT, _CEPH),
    RefusalRow("UserDisable", 403, AccessDenied, _SUPPORT, _OSS),
    RefusalRow("FileImmutable", 409, AccessDenied, "A retention policy keeps the object", _OSS),
    RefusalRow("NotEntitled", 403, AccessDenied, "Enable R2 for the account", _R2),
    RefusalRow("InvalidObjectState", 403, Archived, "Restore it, then read it again", _S3),
    RefusalRow("QuotaExceeded", 403, Full, _SPACE, _CEPH_QUOTA),
    RefusalRow("StorageQuotaExceeded", 403, Full, _SPACE, _CEPH_QUOTA),
    RefusalRow("InsufficientCapacity", 507, Full, _SPACE, _FSX),
    RefusalRow("XMinioStorageFull", 507, Full, _SPACE, _MINIO),
    RefusalRow("XMinioAdminBucketQuotaExceeded", 400, Full, _SPACE, _MINIO),
    RefusalRow("InvalidAccessKeyId", 403, CredentialsError, _CREDENTIALS, _S3),
    RefusalRow("InvalidSecurity", 403, CredentialsError, _CREDENTIALS, _S3),
    RefusalRow("SignatureDoesNotMatch", 403, CredentialsError, _CREDENTIALS, _S3),
    RefusalRow("MissingAuthenticationToken", 403, CredentialsError, _CREDENTIALS, _S3),
    RefusalRow("InvalidToken", 400, CredentialsError, _CREDENTIALS, _S3),
    RefusalRow("ExpiredToken", 400, CredentialsError, _CREDENTIALS, _S3),
    RefusalRow("TokenRefreshRequired", 400, CredentialsError, _CREDENTIALS, _S3),
    RefusalRow("InvalidSessionException", 400, CredentialsError, _CREDENTIALS, 'S3 API Reference, "CreateSession"'),
    RefusalRow("ExpiredTokenException", 400, CredentialsError, _CREDENTIALS, 'STS API Reference, "Common errors"'),
    RefusalRow("InvalidClientTokenId", 403, CredentialsError, _CREDENTIALS, 'STS API Reference, "Common errors"'),
    RefusalRow(
        "UnrecognizedClientException", 400, CredentialsError, _CREDENTIALS, 'STS API Reference, "Common errors"'
    ),
    RefusalRow("RequestExpired", 400, CredentialsError, _CREDENTIALS, 'STS API Reference, "Common errors"'),
    RefusalRow("ExpiredRequest", 400, CredentialsError, "Set the clock of this machine", _R2),
    RefusalRow("Unauthorized", 401, CredentialsError, _CREDENTIALS, _R2),
    RefusalRow("RequestTimeTooSkewed", 403, CredentialsError, "Set the clock of this machine", _S3),
    RefusalRow("", 400, CredentialsError, _CREDENTIALS, f"{_HEAD}, also if the credentials have expired"),
    RefusalRow("NoSuchBucket", 404, BucketNotFound, "Create it, or check its name, region and endpoint", _S3),
    RefusalRow("NoSuchAccessPoint", 404, BucketNotFound, "Check the name of the access point", _S3),
    RefusalRow("NoSuchMultiRegionAccessPoint", 404, BucketNotFound, "Check the name of the access point", _S3),
    RefusalRow("InvalidAccessPointAliasError", 400, BucketNotFound, "Check the name of the access point", _S3),
    RefusalRow("PermanentRedirect", 301, ConfigError, _REGION, _S3),
    RefusalRow("TemporaryRedirect", 307, StorageUnavailable, LATER, _S3),
    RefusalRow("AuthorizationHeaderMalformed", 400, ConfigError, _REGION, _S3),
    RefusalRow("IllegalLocationConstraintException", 400, ConfigError, _REGION, _BILLING),
    RefusalRow("", 301, ConfigError, f"{_REGION}, or check endpoint_url", _HEAD),
    RefusalRow("EndpointNotFound", 400, ConfigError, _ENDPOINT, _BILLING),
    RefusalRow("InvalidHostHeader", 400, ConfigError, "Check addressing_style and endpoint_url", _BILLING),
    RefusalRow("InvalidURI", 400, ConfigError, "Check endpoint_url and prefix", _S3),
    RefusalRow("InvalidBucketName", 400, ConfigError, "Check the name of the bucket", _S3),
    RefusalRow(
        "MethodNotAllowed",
        405,
        ConfigError,
        "Check that endpoint_url is the store's API, not the bucket's website",
        _S3,
    ),
    RefusalRow("KeyTooLongError", 400, ConfigError, "Shorten prefix", _S3),
    RefusalRow("KeyTooLong", 400, ConfigError, "Shorten prefix", 'NetApp StorageGRID documentation, "Error responses"'),
    RefusalRow("XMinioInvalidObjectName", 400, ConfigError, "Change prefix", _MINIO),
    RefusalRow("XMinioParentIsObject", 400, ConfigError, "Change prefix, or delete the object of that name", _MINIO),
    RefusalRow("InvalidStorageClass", 400, ConfigError, "Check storage_class", _S3),
    RefusalRow("InvalidEncryptionAlgorithmError", 400, ConfigError, "Check sse and kms_key_id", _S3),
    RefusalRow("InvalidEncryptionMethod", 400, ConfigError, "Check sse and kms_key_id", _MINIO),
    RefusalRow("KMS", 400, ConfigError, _KMS, f"{_S3}: all codes that begin with KMS"),
    RefusalRow("EntityTooSmall", 400, ConfigError, "Raise part_size", _S3),
    RefusalRow("EntityTooLarge", 400, ConfigError, "Lower part_size; the store accepts no larger body", _S3),
    RefusalRow("InvalidTag", 400, InvalidTags, "Change the tags", _S3),
    RefusalRow("BadDigest", 400, IntegrityError, _AGAIN, _S3),
    RefusalRow("InvalidDigest", 400, IntegrityError, _AGAIN, _S3),
    RefusalRow("XAmzContentSHA256Mismatch", 400, IntegrityError, _AGAIN, _MINIO),
    RefusalRow("XAmzContentChecksumMismatch", 400, IntegrityError, _AGAIN, _MINIO),
    RefusalRow("SlowDown", 503, StorageUnavailable, LATER, _S3),
    RefusalRow("SlowDownRead", 503, StorageUnavailable, LATER, _MINIO),
    RefusalRow("SlowDownWrite", 503, StorageUnavailable, LATER, _MINIO),
    RefusalRow("ServiceUnavailable", 503, StorageUnavailable, LATER, _S3),
    RefusalRow("Busy", 503, StorageUnavailable, LATER, _S3),
    RefusalRow("InternalError", 500, StorageUnavailable, LATER, _S3),
    RefusalRow("RequestTimeout", 400, StorageUnavailable, LATER, _S3),
    RefusalRow("IncompleteBody", 400, StorageUnavailable, LATER, _S3),
    RefusalRow("OperationAborted", 409, StorageUnavailable, LATER, _S3),
    RefusalRow("ConditionalRequestConflict", 409, StorageUnavailable, LATER, _CONDITIONS),
    RefusalRow("", 409, StorageUnavailable, LATER, _HEAD),
    RefusalRow("Throttling", 400, StorageUnavailable, LATER, _RETRIES),
    RefusalRow("ThrottlingException", 400, StorageUnavailable, LATER, _RETRIES),
    RefusalRow("ThrottledException", 400, StorageUnavailable, LATER, _RETRIES),
    RefusalRow("RequestThrottled", 400, StorageUnavailable, LATER, _RETRIES),
    RefusalRow("RequestThrottledException", 400, StorageUnavailable, LATER, _RETRIES),
    RefusalRow("RequestLimitExceeded", 503, StorageUnavailable, LATER, _RETRIES),
    RefusalRow("BandwidthLimitExceeded", 503, StorageUnavailable, LATER, _RETRIES),
    RefusalRow("TooManyRequestsException", 429, StorageUnavailable, LATER, _RETRIES),
    RefusalRow("NotImplemented", 501, Unsupported, "Leave out the setting or the tags that need it", _S3),
    RefusalRow("InvalidPart", 400, LakeryCloudError, _AGAIN, _S3),
    RefusalRow("InvalidPartOrder", 400, LakeryCloudError, _AGAIN, _S3),
    RefusalRow("MetadataTooLarge", 400, LakeryCloudError, "Shorten the content type and encoding", _S3),
    RefusalRow("InvalidBucketState", 409, LakeryCloudError, "Check the settings of the bucket", _S3),
    RefusalRow("InvalidArgument", 400, LakeryCloudError, _REPORT, _S3),
    RefusalRow("InvalidRequest", 400, LakeryCloudError, _REPORT, _S3),
    RefusalRow("MalformedXML", 400, LakeryCloudError, _REPORT, _S3),
    RefusalRow("MissingContentLength", 411, LakeryCloudError, _REPORT, _S3),
    RefusalRow("MissingRequestBodyError", 400, LakeryCloudError, _REPORT, _S3),
    RefusalRow("MissingSecurityHeader", 400, LakeryCloudError, _REPORT, _S3),
    RefusalRow("UnexpectedContent", 400, LakeryCloudError, _REPORT, _S3),
)
"""The refusals that the algorithm does not handle itself."""
REFUSED_CREDENTIALS = frozenset(row.code for row in REFUSALS if row.advice == _CREDENTIALS) - {""}
"""The codes that other credentials may help against."""

# Words by which stores say more than their code does.
_DENIED = 'S3 User Guide, "Troubleshoot access denied (403 Forbidden) errors in Amazon S3"'
WORDS = (
    RefusalRow(
        r"explicit deny",
        403,
        AccessDenied,
        "A policy denies it, whatever is granted; change the policy, or the settings of the storage that it demands",
        _DENIED,
    ),
    RefusalRow(r"object lock|WORM", 403, AccessDenied, "Object Lock keeps the object", _DENIED),
    RefusalRow(r"\bcap exceeded", 403, Full, "Raise the cap in the account", "Backblaze B2, Caps & Alerts"),
    RefusalRow(
        r"no VPC endpoint policy allows the (?P<action>[a-z0-9-]+:\w+)",
        403,
        AccessDenied,
        "Allow {action} in the policy of the VPC endpoint",
        _DENIED,
    ),
    RefusalRow(r"not authorized to perform: (?P<action>[a-z0-9-]+:\w+)", 403, AccessDenied, "Grant {action}", _DENIED),
    RefusalRow(
        r"parts must have the same (?:length|size)",
        400,
        ConfigError,
        "Set equal_parts",
        'Cloudflare R2 documentation, "Upload objects"',
    ),
    RefusalRow(
        r"must be made to API port",
        400,
        ConfigError,
        "endpoint_url has the port of the web console; use the port of the API",
        _MINIO,
    ),
    RefusalRow(
        r"unsupported header|missing required header",
        400,
        Unsupported,
        "Leave out the setting or the tags that need it",
        'Backblaze B2 documentation, "S3 Copy Object"; Huawei OBS documentation, "Deleting Objects"',
    ),
)
"""Messages that say more than their codes, see `RefusalRules`."""

_CONDITIONAL = ("put_object", "copy_object", "complete_multipart_upload")
_ON_UPLOADS = (
    *("upload_part", "upload_part_copy", "complete_multipart_upload", "abort_multipart_upload", "list_parts"),
    "list_multipart_uploads",  # rclone, if there are none
)
_READING = "Grant s3:GetObject; without s3:ListBucket S3 answers like this for a missing object too"
_LISTING = "Grant s3:ListBucket and s3:ListBucketMultipartUploads"
_LIFECYCLE = "Grant s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration"

RULES = RefusalRules(
    signals={
        ("put_object", "PreconditionFailed"): KeyExists,
        ("complete_multipart_upload", "PreconditionFailed"): KeyExists,
        ("copy_object", "PreconditionFailed"): KeyExists,
        ("copy_object", SOURCE_CHANGED): VersionChanged,
        ("get_object", "PreconditionFailed"): VersionChanged,
        ("delete_object", "PreconditionFailed"): VersionChanged,
        ("get_object", "InvalidRange"): VersionChanged,
        ("upload_part_copy", "PreconditionFailed"): VersionChanged,
        ("upload_part_copy", "NoSuchKey"): VersionChanged,
        ("copy_object", "NoSuchKey"): VersionChanged,
        ("get_object", "NoSuchKey"): KeyMissing,
        ("delete_object", "NoSuchKey"): KeyMissing,  # Cloud Storage's answer to S3 clients
        ("delete_object", "NoSuchVersion"): KeyMissing,
        ("get_object_tagging", "NoSuchKey"): KeyMissing,
        ("head_object", "404"): KeyMissing,
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"): KeyMissing,
        **{(operation, "NoSuchUpload"): UploadGone for operation in _ON_UPLOADS},
        **{
            (operation, code): WriteConflict
            for operation in _CONDITIONAL
            for code in ("ConditionalRequestConflict", "OperationAborted")
        },
    },
    table=REFUSALS,
    words=WORDS,
    vague_codes=frozenset({"AccessDenied", "InvalidArgument", "InvalidPart", "InvalidRequest", "MissingContentMD5"}),
    grants={
        **dict.fromkeys(("get_object", "head_object"), _READING),
        "delete_object": "Grant s3:DeleteObject",
        **dict.fromkeys(("list_objects_v2", "list_multipart_uploads"), _LISTING),
        "get_object_tagging": "Grant s3:GetObjectTagging",
        **dict.fromkeys(
            (
                "get_bucket_lifecycle_configuration",
                "put_bucket_lifecycle_configuration",
                "delete_bucket_lifecycle",
            ),
            _LIFECYCLE,
        ),
    },
    grant="Grant s3:PutObject, s3:PutObjectTagging, s3:GetObject and s3:AbortMultipartUpload",
    set_credentials=SET_CREDENTIALS,
)
