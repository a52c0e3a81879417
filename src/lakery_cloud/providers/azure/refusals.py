"""The error codes of Azure Blob Storage: what each means for our requests, and what to do about it. Data alone."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from lakery_cloud.engine.error_messages import Failure, RefusalRules
from lakery_cloud.engine.model import (
    KeyExists,
    KeyMissing,
    Signal,
    UploadGone,
    VersionChanged,
    WriteConflict,
)
from lakery_cloud.errors import LakeryCloudError

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


class Refused(NamedTuple):
    """An error code.

    Attributes:
        code: `x-ms-error-code`.
        status: Status that the code comes with.
        make: Makes the error, from the failure and the advice if there is one.
        advice: The sentence that says what to do; empty where `make` has one of its own.
        source: Where the code is documented.
    """

    code: str
    status: int
    make: Callable[..., Exception]
    advice: str = ""
    source: str = COMMON

    def error(self, failure: Failure) -> Exception:
        """The error for a failed request."""
        return self.make(failure, self.advice) if self.advice else self.make(failure)


def _refused(failure: Failure, advice: str) -> LakeryCloudError:
    return LakeryCloudError(f"{failure.tried} was refused: {failure.said}. {advice}")


def _invalid_name(failure: Failure) -> Exception:
    return failure.misconfigured(
        f"{failure.address.bucket!r} can't be the name of a container, or the account's part of endpoint_url is wrong"
    )


_denied, _wrong, _refused_key = Failure.denied, Failure.misconfigured, Failure.credentials_refused
_NETWORK = "let this network through the account's firewall"
_KEY_VAULT = "Check that the key of the account exists in its key vault, is enabled, and that the account may use it"
_LEASE = "Another program has a lease on it; wait until the lease ends, or break it"
_OTHER_STORE = "Check that endpoint_url is Azure Blob Storage; a local server may need an upgrade"
_TIER = "Set access_tier to a tier of this account, or remove it"
_HELD = "Delete it after the retention ends; a container without retention for temporary blobs keeps none of them"
_NO_INDEX_TAGS = "The account has no blob index tags; set blob_tags to false"
_TOO_LARGE = "Reduce part_size and the limits of the storage"

REFUSALS = (
    # Credentials
    Refused("NoAuthenticationInformation", 401, _refused_key, SET_CREDENTIALS),
    Refused("InvalidAuthenticationInfo", 401, _refused_key, SET_CREDENTIALS),
    Refused("AuthenticationFailed", 403, _refused_key, f"Check this machine's clock. {SET_CREDENTIALS}"),
    Refused(
        "KeyBasedAuthenticationNotPermitted",
        403,
        _refused_key,
        "The account accepts no keys: remove the key, and log in, for example by managed identity or `az login`",
        'Microsoft Learn, "Prevent Shared Key authorization for an Azure Storage account"',
    ),
    Refused(
        "PublicAccessNotPermitted",
        409,
        _refused_key,
        SET_CREDENTIALS,
        'Microsoft Learn, "Remediate anonymous read access to blob data"',
    ),
    # Permissions. AuthorizationFailure and AuthorizationPermissionMismatch get the permission that the request needs.
    Refused(
        "AuthorizationSourceIPMismatch",
        403,
        _denied,
        "The shared access signature is for other addresses; use one whose `sip` allows this machine",
        SDK,
    ),
    Refused(
        "AuthorizationProtocolMismatch",
        403,
        _denied,
        "The shared access signature allows HTTPS alone; use an endpoint_url with https",
        SDK,
    ),
    Refused(
        "AuthorizationServiceMismatch",
        403,
        _denied,
        "The shared access signature is for another service; use one whose `ss` includes b",
        SDK,
    ),
    Refused(
        "AuthorizationResourceTypeMismatch",
        403,
        _denied,
        "The shared access signature is for other resources; use one whose `srt` includes c and o",
        SDK,
    ),
    Refused(
        "InsufficientAccountPermissions",
        403,
        _denied,
        "The account refuses such requests at present; its secondary endpoint, for example, is read-only",
    ),
    Refused("AccountIsDisabled", 403, _denied, "The account is disabled; check its subscription"),
    Refused("UnauthorizedBlobOverwrite", 403, _denied, "Grant write, or delete the blob first", BLOB),
    Refused("KeyVaultAccessTokenCannotBeAcquired", 403, _wrong, _KEY_VAULT),
    Refused("KeyVaultEncryptionKeyNotFound", 403, _wrong, _KEY_VAULT),
    Refused("KeyVaultVaultNotFound", 403, _wrong, _KEY_VAULT),
    Refused(
        "BlobUsesCustomerSpecifiedEncryption",
        409,
        _wrong,
        "Each request for this blob must have its key, which lakery-cloud can't send",
        'Microsoft Learn, "Provide an encryption key on a request to Blob Storage"',
    ),
    # Retention, archives, leases
    Refused("BlobImmutableDueToPolicy", 409, _denied, f"A retention policy protects it. {_HELD}", BLOB),
    Refused("BlobImmutableDueToLegalHold", 409, _denied, f"A legal hold protects it. {_HELD}", BLOB),
    Refused("BlobArchived", 409, Failure.archived, "rehydrate it", BLOB),
    Refused("BlobBeingRehydrated", 409, Failure.archived, "wait until it is rehydrated", BLOB),
    *(
        Refused(code, 412, _refused, _LEASE, BLOB)
        for code in (
            *("LeaseIdMissing", "LeaseIdMismatchWithBlobOperation", "LeaseIdMismatchWithContainerOperation"),
            *("LeaseLost", "LeaseNotPresentWithBlobOperation", "LeaseNotPresentWithContainerOperation"),
        )
    ),
    Refused("SnapshotsPresent", 409, _refused, "Delete the snapshots of this blob first", BLOB),
    # Containers, accounts and names
    Refused("ContainerNotFound", 404, Failure.no_bucket, "", BLOB),
    Refused("ContainerBeingDeleted", 409, Failure.no_bucket, "", BLOB),
    Refused("ContainerDisabled", 409, _denied, "The account's administrator has disabled the container", BLOB),
    Refused("ResourceNotFound", 404, Failure.no_bucket),
    Refused("InvalidResourceName", 400, _invalid_name),
    Refused("OutOfRangeInput", 400, _invalid_name),
    Refused("InvalidUri", 400, _invalid_name),
    Refused("RequestUrlFailedToParse", 400, _invalid_name),
    # Damage
    Refused("Md5Mismatch", 400, Failure.damaged),
    Refused("InvalidMd5", 400, Failure.damaged),
    Refused("Crc64Mismatch", 400, Failure.damaged, "", 'Microsoft Learn, "Put Blob"'),
    # Features and limits of the account
    Refused("BlobTagsNotSupportedForAccountType", 400, _wrong, _NO_INDEX_TAGS, 'Microsoft Learn, "Set Blob Tags"'),
    Refused("FeatureNotSupportedForAccount", 409, _wrong, _NO_INDEX_TAGS, 'Microsoft Learn, "Set Blob Tags"'),
    Refused("FeatureVersionMismatch", 409, _wrong, _OTHER_STORE, BLOB),
    Refused("InvalidBlobTier", 400, _wrong, _TIER, BLOB),
    Refused("AccessTierNotSupportedForBlobType", 400, _wrong, _TIER, EMULATOR),
    Refused("BlobAccessTierNotSupportedForAccountType", 400, _wrong, _TIER, SDK),
    Refused("BlobTierInadequateForContentLength", 409, _wrong, _TIER, BLOB),
    Refused("ContentLengthLargerThanTierLimit", 409, _wrong, _TIER, BLOB),
    Refused("CannotChangeToLowerTier", 409, _wrong, _TIER, BLOB),
    Refused("RequestBodyTooLarge", 413, _wrong, _TOO_LARGE),
    Refused("BlockCountExceedsLimit", 409, _wrong, "Increase part_size", BLOB),
    Refused("BlockListTooLong", 400, _wrong, "Increase part_size", BLOB),
    Refused("MetadataTooLarge", 400, _wrong, "Shorten the tags, or set blob_tags to true"),
    Refused("InvalidBlobType", 409, _refused, "Another program made a blob of another type there; delete it", BLOB),
    Refused("BlobOperationNotSupported", 409, _refused, "Another program made a file there; delete it", BLOB),
    Refused("ResourceTypeMismatch", 409, _refused, "A folder has this name; use another prefix"),
    Refused("CopyAcrossAccountsNotSupported", 409, _wrong, "Use one endpoint_url for all containers", BLOB),
    # Requests that Azure knows, and other stores don't
    *(
        Refused(code, status, _wrong, _OTHER_STORE)
        for code, status in (
            *(("ConditionHeadersNotSupported", 400), ("InvalidHeaderValue", 400), ("InvalidHttpVerb", 400)),
            *(("InvalidInput", 400), ("InvalidQueryParameterValue", 400), ("MissingRequiredQueryParameter", 400)),
            *(("MissingRequiredHeader", 400), ("MultipleConditionHeadersNotSupported", 400)),
            *(("OutOfRangeQueryParameterValue", 400), ("UnsupportedHeader", 400), ("UnsupportedXmlNode", 400)),
            *(("UnsupportedQueryParameter", 400), ("UnsupportedHttpVerb", 405), ("InvalidXmlDocument", 400)),
            *(("InvalidXmlNodeValue", 400), ("MissingRequiredXmlNode", 400), ("MissingContentLengthHeader", 411)),
        )
    ),
    Refused("APINotImplemented", 501, _wrong, _OTHER_STORE, EMULATOR),
    # Overload and work in progress
    Refused("ServerBusy", 503, Failure.unavailable),
    Refused("TooManyRequests", 429, Failure.unavailable, "", 'Microsoft Learn, "Status and error codes"'),
    Refused("InternalError", 500, Failure.unavailable),
    Refused("OperationTimedOut", 500, Failure.unavailable),
    Refused("CannotVerifyCopySource", 500, Failure.unavailable, "", BLOB),
    Refused("AccountBeingCreated", 409, Failure.unavailable),
    Refused("SystemInUse", 409, Failure.unavailable, "", BLOB),
    Refused("PendingCopyOperation", 409, Failure.unavailable, "", BLOB),
)
"""The codes that our requests may get. Queues, files, page and append blobs have further ones."""

CREATING = ("upload_blob", "start_copy_from_url", "commit_block_list")
_USING = ("download_blob", "get_blob_properties", "get_blob_tags", "delete_blob", "get_block_list", "abort_copy")
_EXISTS = (
    # A signature that allows to create, but not to overwrite, leads to the second one; retention to the last two.
    *("BlobAlreadyExists", "UnauthorizedBlobOverwrite", "TargetConditionNotMet", "ConditionNotMet"),
    *("BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"),
)

SIGNALS: Mapping[tuple[str, str], type[Signal]] = {
    **{(operation, code): KeyExists for operation in CREATING for code in _EXISTS},
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
    outcomes={row.code: row.error for row in REFUSALS},
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
