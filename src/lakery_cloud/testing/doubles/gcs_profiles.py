"""Profiles of Cloud Storage and of what stands in for it: how each differs from a bucket without options."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from lakery_cloud.testing.doubles.s3_profiles import PORTAL, REPEATED, Difference

ErrorFormat = Literal["reasons", "details", "xml"]
"""The body of a refusal: JSON with `errors`, JSON with `details` of google.rpc, or XML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GCSProfile:
    """Behaviour of a bucket. Operations have the names of the reference of the JSON API; `upload` is a resumable upload.

    Attributes:
        name: Name of the profile.
        title: Name of the store.
        sources: Attribute -> the source of its value.
        storage_class: The bucket's default storage class.
        versioned: Whether the bucket keeps noncurrent versions.
        moves_keep_versions: Whether the bucket keeps a noncurrent version of a moved object at its old name.
        soft_delete: Whether the bucket keeps deleted and replaced objects.
        retained: Whether objects can't be deleted or replaced, as under a retention policy.
        hold: The hold on each new object, such as `Event-Based`; none if empty.
        requester_pays: Whether each request must name the project to bill.
        seconds_per_change: Seconds between two changes of one object.
        rewrite_seconds: Seconds that a call of rewriteTo takes.
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
    storage_class: str = "STANDARD"
    versioned: bool = False
    moves_keep_versions: bool = False
    soft_delete: bool = False
    retained: bool = False
    hold: str = ""
    requester_pays: bool = False
    seconds_per_change: float = 0
    rewrite_seconds: float = 0
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

    @property
    def differences(self) -> tuple[Difference, ...]:
        """All differences from a bucket without options."""
        changed = {
            each.name: value
            for each in fields(self)
            if each.name in CONSEQUENCES and (value := getattr(self, each.name)) != each.default
        }
        return tuple(
            Difference(
                name,
                ", ".join(value) if isinstance(value, tuple) else str(value),
                self.sources.get(name, ""),
                CONSEQUENCES[name],
            )
            for name, value in changed.items()
        )


CONSEQUENCES: Mapping[str, str] = {
    "storage_class": "Temporary objects are STANDARD all the same; content gets the bucket's class by a rewrite",
    "versioned": "Temporary objects are deleted by generation, so that no noncurrent version of them remains",
    "moves_keep_versions": "After its first move in a bucket, the storage deletes the generation of the temporary object. "
    "If the bucket has kept none, later moves need no deletion",
    "soft_delete": "Google keeps and bills deleted temporary objects for the configured time",
    "retained": "Streams are saved; each one longer than a part leaves its temporary object until the retention ends, with "
    "one warning in the log",
    "hold": "Streams are saved; each one longer than a part leaves its temporary object until the hold is released, with "
    "one warning in the log",
    "requester_pays": "Set `user_project`; each request names it, also the looks after a miss",
    "seconds_per_change": "A writer that is refused looks whether another one has stored the content, else it tries again",
    "rewrite_seconds": "After a time-out, the storage waits for the key before the write fails",
    "errors": "All formats are read",
    "compresses_errors": "Compressed errors are read",
    "policy": "Writes raise an error with the words of the policy",
    "no_operations": "Streams are rewritten to their content key instead of moved",
    "ignores_conditions": "Concurrent writers of one stream may replace each other's equal content",
    "ignores_checksums": "The storage compares the checksum that the store returns, except for blobs; reads verify them",
    "ends_uploads_on_queries": "An upload with a lost response raises an error, since its object is incomplete",
    "tokens": "Listings that never end raise an error",
    "missing": "Responses without a header that proves something raise an error that names it",
    "missing_fields": "Responses without a field that proves something raise an error that names it",
    "null_fields": "Responses without a field that proves something raise an error that names it",
    "session_host": "The upload continues at the storage's own endpoint",
    "invents": "The key is looked up; the write raises an error, since nothing was stored",
    "empties": "The key is looked up, and has the content",
    "answers": "Every request raises an error that names the endpoint",
}
"""Attribute -> what lakery-cloud does about it, or what you can do."""


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
        sources={
            "versioned": f'{GOOGLE}, "Object Versioning"',
            "moves_keep_versions": f'{GOOGLE}, "Object Versioning", and "Objects: move", which names no exception from it',
        },
        versioned=True,
        moves_keep_versions=True,
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
        name="google-slow-copy",
        title="Cloud Storage, slow copies",
        sources={"rewrite_seconds": f"{STATUS_CODES}, 413 `uploadTooLarge`: up to 30 seconds"},
        rewrite_seconds=2,
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
        title="a proxy that invents responses",
        sources={"invents": PORTAL},
        invents=("objects.insert", "objects.rewrite", "objects.compose", "objects.delete", "upload"),
    ),
    GCSProfile(
        name="redirecting",
        title="a proxy that redirects each request",
        sources={"answers": 'RFC 9110, "308 Permanent Redirect", which Cloud Storage uses for something else'},
        answers="redirect",
    ),
    GCSProfile(name="portal", title="a login page in front of the store", sources={"answers": PORTAL}, answers="page"),
    GCSProfile(
        name="other-host",
        title="a store whose upload sessions name another host",
        sources={"session_host": "fake-gcs-server's option `-external-url`; proxies that keep `Location`"},
        session_host="127.0.0.1:9",
    ),
    GCSProfile(
        name="stripping",
        title="a proxy that removes headers",
        sources={"missing": "proxies that pass on only headers that they know"},
        missing=("location", "x-goog-generation", "x-goog-stored-content-length"),
    ),
    GCSProfile(
        name="same-token", title="a store whose listings repeat a token", sources={"tokens": REPEATED}, tokens="same"
    ),
)

GCS_PROFILES: Mapping[str, GCSProfile] = {profile.name: profile for profile in _PROFILES}
"""Profiles by name."""
