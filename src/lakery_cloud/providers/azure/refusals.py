"""The error codes of Azure Blob Storage: what each means for our requests, and what to do about it. Data alone."""

from collections.abc import Mapping

from lakery_cloud.engine.error_messages import LATER, RENEW
from lakery_cloud.engine.model import (
    Archived,
    KeyExists,
    KeyMissing,
    Signal,
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
    LakeryCloudError,
    StorageUnavailable,
)

COMMON = 'Microsoft Learn, "Common REST API error codes"'
BLOB = 'Microsoft Learn, "Azure Blob Storage error codes"'
SDK = "azure-storage-blob, StorageErrorCode"
EMULATOR = "Azurite, StorageErrorFactory"

SET_CREDENTIALS = (
    "Set AZURE_STORAGE_CONNECTION_STRING; or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, "
    "AZURE_STORAGE_SAS_TOKEN, or what azure.identity's DefaultAzureCredential reads"
)


class ConditionNotMet(Signal):
    """The condition on the source of a copy failed, or the one on its destination."""


_CREDENTIALS = f"{RENEW}. {SET_CREDENTIALS}"
_CREATE = "Create it, or check its name and the endpoint"
_NAME = "This can't be the name of a container, or the account's part of endpoint_url is wrong"
_AGAIN = "Write again"
_NETWORK = "let this network through the account's firewall"
_KEY_VAULT = "Check that the key of the account exists in its key vault, is enabled, and that the account may use it"
_LEASE = "Another program has a lease on it; wait until the lease ends, or break it"
_OTHER_STORE = "Check that endpoint_url is Azure Blob Storage; a local server may need an upgrade"
_TIER = "Set access_tier to a tier of this account, or remove it"
_RETAINED = "Delete it after the retention ends; set temporary_container to a container without retention"
_BLOB_TAGS = "The account has no blob index tags; set blob_tags to false"
_TOO_LARGE = "Reduce part_size and the limits of the storage"

REFUSALS = (
    # Credentials
    RefusalRow("NoAuthenticationInformation", 401, CredentialsError, _CREDENTIALS, COMMON),
    RefusalRow("InvalidAuthenticationInfo", 401, CredentialsError, _CREDENTIALS, COMMON),
    RefusalRow("AuthenticationFailed", 403, CredentialsError, f"Check this machine's clock. {SET_CREDENTIALS}", COMMON),
    RefusalRow(
        "KeyBasedAuthenticationNotPermitted",
        403,
        CredentialsError,
        "The account accepts no keys: remove the key, and log in, for example by managed identity or `az login`",
        'Microsoft Learn, "Prevent Shared Key authorization for an Azure Storage account"',
    ),
    RefusalRow(
        "PublicAccessNotPermitted",
        409,
        CredentialsError,
        _CREDENTIALS,
        'Microsoft Learn, "Remediate anonymous read access to blob data"',
    ),
    # Permissions. Those without advice get the permission that the request needs.
    RefusalRow("AuthorizationFailure", 403, AccessDenied, "", COMMON),
    RefusalRow("AuthorizationPermissionMismatch", 403, AccessDenied, "", SDK),
    RefusalRow(
        "AuthorizationSourceIPMismatch",
        403,
        AccessDenied,
        "The shared access signature is for other addresses; use one whose `sip` allows this machine",
        SDK,
    ),
    RefusalRow(
        "AuthorizationProtocolMismatch",
        403,
        AccessDenied,
        "The shared access signature allows HTTPS alone; use an endpoint_url with https",
        SDK,
    ),
    RefusalRow(
        "AuthorizationServiceMismatch",
        403,
        AccessDenied,
        "The shared access signature is for another service; use one whose `ss` includes b",
        SDK,
    ),
    RefusalRow(
        "AuthorizationResourceTypeMismatch",
        403,
        AccessDenied,
        "The shared access signature is for other resources; use one whose `srt` includes c and o",
        SDK,
    ),
    RefusalRow(
        "InsufficientAccountPermissions",
        403,
        AccessDenied,
        "The account refuses such requests at present; its secondary endpoint, for example, is read-only",
        COMMON,
    ),
    RefusalRow("AccountIsDisabled", 403, AccessDenied, "The account is disabled; check its subscription", COMMON),
    RefusalRow("UnauthorizedBlobOverwrite", 403, AccessDenied, "Grant write, or delete the blob first", BLOB),
    RefusalRow("KeyVaultAccessTokenCannotBeAcquired", 403, ConfigError, _KEY_VAULT, COMMON),
    RefusalRow("KeyVaultEncryptionKeyNotFound", 403, ConfigError, _KEY_VAULT, COMMON),
    RefusalRow("KeyVaultVaultNotFound", 403, ConfigError, _KEY_VAULT, COMMON),
    RefusalRow(
        "BlobUsesCustomerSpecifiedEncryption",
        409,
        ConfigError,
        "Each request for this blob must have its key, which lakery-cloud can't send",
        'Microsoft Learn, "Provide an encryption key on a request to Blob Storage"',
    ),
    # Retention, archives, leases
    RefusalRow("BlobImmutableDueToPolicy", 409, AccessDenied, f"A retention policy protects it. {_RETAINED}", BLOB),
    RefusalRow("BlobImmutableDueToLegalHold", 409, AccessDenied, f"A legal hold protects it. {_RETAINED}", BLOB),
    RefusalRow("BlobArchived", 409, Archived, "Rehydrate it, then read it again", BLOB),
    RefusalRow("BlobBeingRehydrated", 409, Archived, "Wait until it is rehydrated, then read it again", BLOB),
    *(
        RefusalRow(code, 412, LakeryCloudError, _LEASE, BLOB)
        for code in (
            *("LeaseIdMissing", "LeaseIdMismatchWithBlobOperation", "LeaseIdMismatchWithContainerOperation"),
            *("LeaseLost", "LeaseNotPresentWithBlobOperation", "LeaseNotPresentWithContainerOperation"),
        )
    ),
    RefusalRow("SnapshotsPresent", 409, LakeryCloudError, "Delete the snapshots of this blob first", BLOB),
    # Containers, accounts and names
    RefusalRow("ContainerNotFound", 404, BucketNotFound, _CREATE, BLOB),
    RefusalRow("ContainerBeingDeleted", 409, BucketNotFound, _CREATE, BLOB),
    RefusalRow("ContainerDisabled", 409, AccessDenied, "The account's administrator has disabled the container", BLOB),
    RefusalRow("ResourceNotFound", 404, BucketNotFound, _CREATE, COMMON),
    RefusalRow("InvalidResourceName", 400, ConfigError, _NAME, COMMON),
    RefusalRow("OutOfRangeInput", 400, ConfigError, _NAME, COMMON),
    RefusalRow("InvalidUri", 400, ConfigError, _NAME, COMMON),
    RefusalRow("RequestUrlFailedToParse", 400, ConfigError, _NAME, COMMON),
    # Damage
    RefusalRow("Md5Mismatch", 400, IntegrityError, _AGAIN, COMMON),
    RefusalRow("InvalidMd5", 400, IntegrityError, _AGAIN, COMMON),
    RefusalRow("Crc64Mismatch", 400, IntegrityError, _AGAIN, 'Microsoft Learn, "Put Blob"'),
    # Features and limits of the account
    RefusalRow("BlobTagsNotSupportedForAccountType", 400, Unsupported, _BLOB_TAGS, 'Microsoft Learn, "Set Blob Tags"'),
    RefusalRow("FeatureNotSupportedForAccount", 409, Unsupported, _BLOB_TAGS, 'Microsoft Learn, "Set Blob Tags"'),
    RefusalRow("FeatureVersionMismatch", 409, ConfigError, _OTHER_STORE, BLOB),
    RefusalRow("InvalidBlobTier", 400, ConfigError, _TIER, BLOB),
    RefusalRow("AccessTierNotSupportedForBlobType", 400, ConfigError, _TIER, EMULATOR),
    RefusalRow("BlobAccessTierNotSupportedForAccountType", 400, ConfigError, _TIER, SDK),
    RefusalRow("BlobTierInadequateForContentLength", 409, ConfigError, _TIER, BLOB),
    RefusalRow("ContentLengthLargerThanTierLimit", 409, ConfigError, _TIER, BLOB),
    RefusalRow("CannotChangeToLowerTier", 409, ConfigError, _TIER, BLOB),
    RefusalRow("RequestBodyTooLarge", 413, ConfigError, _TOO_LARGE, COMMON),
    RefusalRow("BlockCountExceedsLimit", 409, ConfigError, "Increase part_size", BLOB),
    RefusalRow("BlockListTooLong", 400, ConfigError, "Increase part_size", BLOB),
    RefusalRow("MetadataTooLarge", 400, ConfigError, "Shorten the tags, or set blob_tags to true", COMMON),
    RefusalRow(
        "InvalidBlobType", 409, LakeryCloudError, "Another program made a blob of another type there; delete it", BLOB
    ),
    RefusalRow(
        "BlobOperationNotSupported", 409, LakeryCloudError, "Another program made a file there; delete it", BLOB
    ),
    RefusalRow("ResourceTypeMismatch", 409, LakeryCloudError, "A folder has this name; use another prefix", COMMON),
    RefusalRow("CopyAcrossAccountsNotSupported", 409, ConfigError, "Use one endpoint_url for all containers", BLOB),
    # Requests that Azure knows, and other stores don't
    *(
        RefusalRow(code, status, ConfigError, _OTHER_STORE, COMMON)
        for code, status in (
            *(("ConditionHeadersNotSupported", 400), ("InvalidHttpVerb", 400)),
            *(("InvalidInput", 400), ("InvalidQueryParameterValue", 400), ("MissingRequiredQueryParameter", 400)),
            *(("MissingRequiredHeader", 400), ("MultipleConditionHeadersNotSupported", 400)),
            *(("OutOfRangeQueryParameterValue", 400), ("UnsupportedXmlNode", 400)),
            *(("UnsupportedQueryParameter", 400), ("UnsupportedHttpVerb", 405), ("InvalidXmlDocument", 400)),
            *(("InvalidXmlNodeValue", 400), ("MissingRequiredXmlNode", 400), ("MissingContentLengthHeader", 411)),
        )
    ),
    RefusalRow("InvalidHeaderValue", 400, Unsupported, _OTHER_STORE, COMMON),
    RefusalRow("UnsupportedHeader", 400, Unsupported, _OTHER_STORE, COMMON),
    RefusalRow("FeatureNotSupported", 500, Unsupported, _OTHER_STORE, "Azurite, StrictModelNotSupportedError"),
    RefusalRow("APINotImplemented", 501, Unsupported, _OTHER_STORE, EMULATOR),
    # Overload and work in progress
    RefusalRow("ServerBusy", 503, StorageUnavailable, LATER, COMMON),
    RefusalRow("TooManyRequests", 429, StorageUnavailable, LATER, 'Microsoft Learn, "Status and error codes"'),
    RefusalRow("InternalError", 500, StorageUnavailable, LATER, COMMON),
    RefusalRow("OperationTimedOut", 500, StorageUnavailable, LATER, COMMON),
    RefusalRow("CannotVerifyCopySource", 500, StorageUnavailable, LATER, BLOB),
    RefusalRow("AccountBeingCreated", 409, StorageUnavailable, LATER, COMMON),
    RefusalRow("SystemInUse", 409, StorageUnavailable, LATER, BLOB),
    RefusalRow("PendingCopyOperation", 409, StorageUnavailable, LATER, BLOB),
)
"""The codes that our requests may get. Queues, files, page and append blobs have further ones."""

NO_INDEX_TAGS = ("BlobTagsNotSupportedForAccountType", "FeatureNotSupportedForAccount")
"""The codes of accounts without blob index tags."""

COPYING = ("start_copy_from_url", "upload_blob_from_url")
CREATING = ("upload_blob", "commit_block_list", *COPYING)
_USING = ("download_blob", "get_blob_properties", "get_blob_tags", "delete_blob", "get_block_list", "abort_copy")
_EXISTS = (
    # A signature that allows to create, but not to overwrite, leads to the second one; retention to the last two.
    *("BlobAlreadyExists", "UnauthorizedBlobOverwrite", "TargetConditionNotMet", "ConditionNotMet"),
    *("BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"),
)

SIGNALS: Mapping[tuple[str, str], type[Signal]] = {
    **{(operation, code): KeyExists for operation in CREATING for code in _EXISTS},
    **{
        (operation, code): VersionChanged
        for operation in (*COPYING, "stage_block_from_url")
        for code in ("BlobNotFound", "ConditionNotMet", "SourceConditionNotMet")
    },
    **{(operation, "ConditionNotMet"): ConditionNotMet for operation in COPYING},
    **{(operation, "ConditionNotMet"): VersionChanged for operation in ("download_blob", "delete_blob")},
    **{(operation, "BlobNotFound"): KeyMissing for operation in _USING},
    ("download_blob", "ResourceNotFound"): KeyMissing,  # a private container's answer to anonymous requests
    **{
        ("get_blob_properties", code): KeyMissing
        for code in ("ResourceNotFound", "ContainerNotFound", "ContainerBeingDeleted")
    },
    ("download_blob", "InvalidRange"): VersionChanged,
    ("commit_block_list", "InvalidBlockList"): UploadGone,
    **{(operation, "PendingCopyOperation"): WriteConflict for operation in CREATING},
}
"""(operation, code) -> signal; the operation is empty for any."""

_READER = f"Grant the role Storage Blob Data Reader (in a shared access signature: read and list), and {_NETWORK}"

RULES = RefusalRules(
    signals=SIGNALS,
    table=REFUSALS,
    grants={
        **dict.fromkeys(("download_blob", "get_blob_properties", "list_blobs"), _READER),
        "get_blob_tags": (
            f"Grant the role Storage Blob Data Owner (in a shared access signature: tags), and {_NETWORK}"
        ),
        "delete_blob": (
            f"Grant the role Storage Blob Data Contributor (in a shared access signature: delete), and {_NETWORK}"
        ),
    },
    grant=(
        "Grant the role Storage Blob Data Contributor, or Owner where tags are used (in a shared access signature: "
        f"read, create, write, delete and tags), and {_NETWORK}"
    ),
    set_credentials=SET_CREDENTIALS,
)
