"""Profiles of Cloud Storage and of what stands in for it: how each differs from a bucket without options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ErrorFormat = Literal["reasons", "details", "xml"]
"""The body of a refusal: JSON with `errors`, JSON with `details` of google.rpc, or XML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GCSProfile:
    """Behaviour of a bucket. Operations have the names of the reference of the JSON API; `upload` is a resumable upload.

    Attributes:
        name: Name of the profile.
        title: Name of the store.
        sources: Attribute -> the source of its value.
        versioned: Whether the bucket keeps noncurrent versions.
        soft_delete: Whether the bucket keeps deleted and replaced objects.
        retained: Whether objects can't be deleted or replaced, as under a retention policy.
        hold: The hold on each new object, such as `Event-Based`; none if empty.
        requester_pays: Whether each request must name the project to bill.
        seconds_per_change: Seconds between two changes of one object.
        errors: Format of refusals.
        compresses_errors: Whether refusals are compressed for clients that accept gzip.
        policy: Organization policy that refuses new objects; none if empty.
        no_operations: Operations that the store refuses with 400.
        ignores_conditions: Operations whose preconditions the store ignores.
        ignores_checksums: Whether the store stores bytes that don't match their checksum.
        ends_uploads_on_queries: Whether a query for the state of an upload completes it.
        tokens: What truncated listings have for a token: a new one, or always the same.
        missing: Headers that responses lack.
        missing_fields: Fields that descriptions of objects lack.
        null_fields: Fields that are null in descriptions of objects.
        session_host: Host of the URLs of upload sessions, if not the one that the client used.
        invents: Operations that a gateway answers with an empty JSON object, without passing them on.
        empties: Operations whose responses a gateway replaces by an empty JSON object, after the store has acted.
        answers: What a gateway answers to each request: a page of HTML, or 308 with a `Location` elsewhere.
    """

    name: str
    title: str
    sources: Mapping[str, str] = field(default_factory=dict)
    versioned: bool = False
    soft_delete: bool = False
    retained: bool = False
    hold: str = ""
    requester_pays: bool = False
    seconds_per_change: float = 0
    errors: ErrorFormat = "reasons"
    compresses_errors: bool = False
    policy: str = ""
    no_operations: tuple[str, ...] = ()
    ignores_conditions: tuple[str, ...] = ()
    ignores_checksums: bool = False
    ends_uploads_on_queries: bool = False
    tokens: Literal["new", "same"] = "new"
    missing: tuple[str, ...] = ()
    missing_fields: tuple[str, ...] = ()
    null_fields: tuple[str, ...] = ()
    session_host: str = ""
    invents: tuple[str, ...] = ()
    empties: tuple[str, ...] = ()
    answers: Literal["", "page", "redirect"] = ""


GOOGLE = "Cloud Storage documentation"
STATUS_CODES = f'{GOOGLE}, "HTTP status and error codes for JSON"'
XML_CODES = f'{GOOGLE}, "HTTP status and error codes for XML"'
HOLDS = f'{GOOGLE}, "Object holds"; its 403 has the reason `forbidden`, as users of googleapi report'
FAKE = "fake-gcs-server 1.54, tried"

_PROFILES = (
    GCSProfile(
        name="google",
        title="Cloud Storage",
        sources={"soft_delete": f'{GOOGLE}, "Soft delete": on by default, for 7 days'},
        soft_delete=True,
    ),
    GCSProfile(
        name="google-versioned",
        title="Cloud Storage, versioned bucket",
        sources={"versioned": f'{GOOGLE}, "Object Versioning"'},
        versioned=True,
    ),
    GCSProfile(
        name="google-retained",
        title="Cloud Storage, bucket with a retention policy",
        sources={"retained": f'{GOOGLE}, "Bucket Lock": 403 `retentionPolicyNotMet`'},
        retained=True,
    ),
    GCSProfile(
        name="google-held",
        title="Cloud Storage, bucket with a default event-based hold",
        sources={"hold": HOLDS},
        hold="Event-Based",
    ),
    GCSProfile(
        name="google-requester-pays",
        title="Cloud Storage, requester pays",
        sources={"requester_pays": f'{GOOGLE}, "Requester Pays"'},
        requester_pays=True,
    ),
    GCSProfile(
        name="google-one-change-a-second",
        title="Cloud Storage, one change a second and object",
        sources={"seconds_per_change": f'{GOOGLE}, "Quotas & limits", "Objects"'},
        seconds_per_change=1,
    ),
    GCSProfile(
        name="google-new-errors",
        title="Cloud Storage, refusals with details of google.rpc",
        sources={
            "errors": 'Google AIP-193, "Errors"; google/api/error_reason.proto',
            "compresses_errors": STATUS_CODES,
        },
        errors="details",
        compresses_errors=True,
    ),
    GCSProfile(
        name="google-xml-errors",
        title="Cloud Storage, refusals in XML",
        sources={"errors": XML_CODES},
        errors="xml",
        compresses_errors=True,
    ),
    GCSProfile(
        name="google-policy",
        title="Cloud Storage, organization policy that refuses new objects",
        sources={"policy": f"{STATUS_CODES}, 412 `orgPolicyConstraintFailed`"},
        policy="constraints/gcp.resourceLocations",
    ),
    GCSProfile(
        name="emulator-like",
        title="an emulator",
        sources={
            "no_operations": FAKE,
            "ignores_conditions": FAKE,
            "ignores_checksums": FAKE,
            "ends_uploads_on_queries": FAKE,
            "missing": FAKE,
        },
        no_operations=("objects.move",),
        ignores_conditions=("objects.get", "objects.delete", "objects.rewrite", "objects.compose", "upload"),
        ignores_checksums=True,
        ends_uploads_on_queries=True,
        missing=("x-goog-stored-content-length", "x-goog-stored-content-encoding"),
    ),
    GCSProfile(
        name="gateway",
        title="a proxy that invents answers",
        invents=("objects.insert", "objects.rewrite", "objects.compose", "objects.delete", "upload"),
    ),
    GCSProfile(name="redirecting", title="a proxy that redirects each request", answers="redirect"),
    GCSProfile(name="portal", title="a login page in front of the store", answers="page"),
    GCSProfile(
        name="other-host",
        title="a store whose upload sessions name another host",
        sources={"session_host": "fake-gcs-server's option `-external-url`; proxies that keep `Location`"},
        session_host="127.0.0.1:9",
    ),
    GCSProfile(
        name="stripping",
        title="a proxy that removes headers",
        missing=("location", "x-goog-generation", "x-goog-stored-content-length"),
    ),
    GCSProfile(name="same-token", title="a store whose listings repeat a token", tokens="same"),
)

GCS_PROFILES: Mapping[str, GCSProfile] = {profile.name: profile for profile in _PROFILES}
"""Profiles by name."""
