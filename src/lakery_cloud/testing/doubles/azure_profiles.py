"""Profiles of accounts of Azure Blob Storage: how each differs from Azurite, and the source that says so."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Literal, NamedTuple

from lakery_cloud.testing.doubles.s3_profiles import PORTAL, REPEATED, Difference


class RefusedOperation(NamedTuple):
    """An operation that an account refuses.

    Attributes:
        operation: Its name, as in the dialect `azure` of fault proxies.
        status: HTTP status.
        code: `x-ms-error-code`.
        message: Words of Azure.
    """

    operation: str
    status: int
    code: str
    message: str


class Throttled(NamedTuple):
    """A refusal by overload.

    Attributes:
        status: HTTP status.
        code: `x-ms-error-code`.
        retry_after: Header `Retry-After`, in seconds.
    """

    status: int
    code: str
    retry_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureProfile:
    """Behaviour of an account, or of what is in front of it.

    Attributes:
        name: Name of the profile.
        title: Name of the account.
        sources: Attribute -> the source of its value.
        immutable: Whether committed blobs can be neither deleted nor replaced, and for what reason.
        versioned: Whether the account keeps versions.
        soft_deletes: Whether deleted versions are kept for some days.
        purges: Whether the account allows to delete soft-deleted versions for good.
        archived: Whether blobs are archived, except for temporary ones.
        copy_seconds: Seconds that a copy takes.
        weak_etags: Whether ETags are weak, as behind compressing proxies.
        refusals: Operations that the account, or the shared access signature, refuses.
        throttled: Refusals that each request gets once, in turn.
        missing: Headers that responses lack.
        missing_from: The operations whose responses lack them; all without any.
        pages: Operations that a proxy answers with a page of HTML.
        invents: Operation -> status of the empty response that a proxy sends without passing the request on.
        empties: Operations whose responses a proxy replaces by empty ones, after the store has acted.
        same_marker: Whether each page of a listing has the same marker.
        unsupported: Headers that the account refuses.
    """

    name: str
    title: str
    sources: Mapping[str, str] = field(default_factory=dict)
    immutable: Literal["", "policy", "hold"] = ""
    versioned: bool = False
    soft_deletes: bool = False
    purges: bool = False
    archived: bool = False
    copy_seconds: float = 0
    weak_etags: bool = False
    refusals: tuple[RefusedOperation, ...] = ()
    throttled: tuple[Throttled, ...] = ()
    missing: tuple[str, ...] = ()
    missing_from: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    invents: Mapping[str, int] = field(default_factory=dict)
    empties: tuple[str, ...] = ()
    same_marker: bool = False
    unsupported: tuple[str, ...] = ()

    @property
    def differences(self) -> tuple[Difference, ...]:
        """All differences from an account without options."""
        known = {each.name: each for each in fields(self) if each.name in CONSEQUENCES}
        return tuple(
            Difference(name, _value(value), self.sources.get(name, ""), CONSEQUENCES[name])
            for name, value in ((name, getattr(self, name)) for name in known)
            if known[name].default not in (MISSING, value) or (known[name].default is MISSING and value)
        )


def _value(value: object) -> str:
    """A value of a profile, in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{operation}: {status}" for operation, status in value.items())
    if isinstance(value, tuple):
        return ", ".join(
            f"{each.operation}: {each.status} {each.code}"
            if isinstance(each, RefusedOperation)
            else f"{each.status} {each.code}"
            if isinstance(each, Throttled)
            else str(each)
            for each in value
        )
    return "yes" if value is True else str(value)


CONSEQUENCES: Mapping[str, str] = {
    "immutable": "Streams are saved; the temporary blob of each one longer than a part stays until the retention ends, "
    "with one warning in the log. Set `temporary_container` to a container without retention",
    "versioned": "Temporary blobs are deleted by version, so that no version of them remains, if you may delete versions",
    "soft_deletes": "Azure keeps and bills deleted temporary blobs for the configured days",
    "purges": "Temporary blobs are deleted for good, if you may do that",
    "archived": "Reads raise an error that says to rehydrate the blob; `verify` and `copy` name it and go on",
    "copy_seconds": "A copy has more time than other requests, and is not begun a second time",
    "weak_etags": "Interrupted reads resume all the same",
    "refusals": "Streams are saved; the temporary blob of each one longer than a part stays, with a warning in the log",
    "throttled": "The request is repeated, after the time that the account asks for",
    "missing": "Responses without a header that proves something raise an error that names it",
    "pages": "Every request raises an error that names the endpoint",
    "invents": "The key is looked up; the write raises an error, since nothing was stored",
    "empties": "The key is looked up, and has the content",
    "same_marker": "Listings that never end raise an error",
    "unsupported": "Puts and blocks carry Content-MD5 instead, after the first refusal",
}
"""Attribute -> what lakery-cloud does about it, or what you can do."""


LEARN = "Microsoft Learn"
CODES = f'{LEARN}, "Azure Blob Storage error codes"'
DELETE = f'{LEARN}, "Delete Blob"'
VERSIONS = f'{LEARN}, "Blob versioning"; Azure/azure-sdk-for-java pull request 48716'

_PERMISSION = "This request is not authorized to perform this operation using this permission."

_PROFILES = (
    AzureProfile(name="azure", title="Azure Blob Storage"),
    AzureProfile(
        name="immutable",
        title="a container with a retention policy",
        sources={"immutable": f'{LEARN}, "Container-level WORM policies for immutable blob data"; {CODES}'},
        immutable="policy",
    ),
    AzureProfile(
        name="legal-hold",
        title="a container with a legal hold",
        sources={"immutable": f'{LEARN}, "Legal holds for immutable blob data"; {CODES}'},
        immutable="hold",
    ),
    AzureProfile(
        name="versioned",
        title="an account with versions",
        sources={"versioned": VERSIONS},
        versioned=True,
    ),
    AzureProfile(
        name="soft-delete",
        title="an account with versions and soft delete",
        sources={
            "versioned": VERSIONS,
            "soft_deletes": f'{LEARN}, "Soft delete for blobs"; {DELETE}, "Permanent delete"',
            "purges": f'{DELETE}, "Permanent delete"',
        },
        versioned=True,
        soft_deletes=True,
        purges=True,
    ),
    AzureProfile(
        name="archive",
        title="blobs in the archive tier",
        sources={"archived": f'{LEARN}, "Access tiers for blob data"; {CODES}'},
        archived=True,
    ),
    AzureProfile(
        name="cdn",
        title="an account behind a content delivery network",
        sources={"missing": "Azure/azure-sdk-for-python issues 22297, 28260 and 33443"},
        missing=("content-range",),
    ),
    AzureProfile(
        name="slow-copy",
        title="copies that take time",
        sources={"copy_seconds": f'{LEARN}, "Copy Blob From URL": the response comes after the copy'},
        copy_seconds=2,
    ),
    AzureProfile(
        name="weak-etags",
        title="an account behind a compressing proxy",
        sources={"weak_etags": 'nginx documentation, "ngx_http_gzip_module": strong ETags become weak'},
        weak_etags=True,
    ),
    AzureProfile(
        name="sas-without-delete",
        title="a shared access signature without delete",
        sources={"refusals": f'{LEARN}, "Create a service SAS"; azure-storage-blob, StorageErrorCode'},
        refusals=(RefusedOperation("delete_blob", 403, "AuthorizationPermissionMismatch", _PERMISSION),),
    ),
    AzureProfile(
        name="throttling",
        title="an account at its limit of requests",
        sources={
            "throttled": f'{LEARN}, "Scalability and performance targets for standard storage accounts"; '
            f'{LEARN}, "Common REST API error codes"'
        },
        throttled=(Throttled(503, "ServerBusy", 1), Throttled(429, "TooManyRequests", 1)),
    ),
    AzureProfile(
        name="portal",
        title="a login page in front of the account",
        sources={"pages": PORTAL},
        pages=(
            *("put_blob", "put_block", "put_block_list", "get_blob", "get_blob_properties", "delete_blob", "copy_blob"),
            *("list_blobs", "get_blob_tags", "get_block_list", "get_container_properties"),
        ),
    ),
    AzureProfile(
        name="gateway",
        title="a proxy that invents answers",
        sources={"invents": PORTAL},
        invents={"put_blob": 201, "put_block_list": 201, "copy_blob": 202, "delete_blob": 200},
    ),
    AzureProfile(
        name="same-marker",
        title="an account whose listings repeat a marker",
        sources={"same_marker": REPEATED},
        same_marker=True,
    ),
    AzureProfile(
        name="no-crc64",
        title="an older Azurite",
        sources={"unsupported": "Azurite 3.35.0, StrictModelMiddlewareFactory"},
        unsupported=("x-ms-content-crc64",),
    ),
)

AZURE_PROFILES: Mapping[str, AzureProfile] = {profile.name: profile for profile in _PROFILES}
"""Profiles by name."""
