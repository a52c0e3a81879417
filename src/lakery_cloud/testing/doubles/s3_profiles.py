"""Profiles of stores with S3's API: how each differs from Amazon S3, and the source that says so."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Literal, NamedTuple

Answer = Literal["named", "unnamed", "invalid", "ignored"]
"""The answer to an unsupported header: 501 with its name, 501 without it, 400 InvalidArgument with its name, or nothing."""


class Difference(NamedTuple):
    """One line of the table of a profile.

    Attributes:
        feature: What is different: a header, an operation, or an attribute of `S3Profile`.
        value: What the store does.
        source: Where this is documented.
        consequence: What lakery-cloud does about it, or what you can do.
    """

    feature: str
    value: str
    source: str
    consequence: str


class HeaderRule(NamedTuple):
    """A header that a store does not support.

    Attributes:
        header: Its name, or the start of several names, in lower case.
        answer: What the store does with it.
        operations: The operations to which this applies; all without any.
        source: Where this is documented.
    """

    header: str
    answer: Answer
    operations: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Profile:
    """Behaviour of a store. Operations have the names of the S3 API Reference.

    Attributes:
        name: Name of the profile.
        title: Name of the store.
        sources: Attribute -> the source of its value.
        headers: Headers that the store does not support.
        no_operations: Operations that the store refuses with 501.
        equal_parts: Whether all parts but the last must have the same size.
        versioned: Whether the bucket keeps versions.
        locked: Whether versions can't be deleted, and puts need a checksum, as with Object Lock.
        archived: Whether objects are archived as soon as they are stored.
        encryption: The `x-amz-server-side-encryption` that a policy demands of each write.
        requester_pays: Whether each request must name the payer.
        decodes: Whether gzip-encoded objects are decoded for clients that don't accept gzip.
        weak_etags: Whether ETags are weak, as behind compressing proxies.
        needs_md5: Whether lifecycle rules and deletions of several objects need `Content-MD5`.
        copy_seconds: Seconds that a copy takes.
        copy_spaces: Whether the response to a copy begins at once, with white space until its end.
        tokens: What truncated listings have for a token: a new one, always the same, or none.
        missing: Headers that responses lack.
        missing_from: The operations whose responses lack them; all without any.
        invents: Operations that a proxy answers with an empty 200, without passing them on.
        empties: Operations whose responses a proxy replaces by an empty 200, after the store has acted.
        page: Whether every response is a page of HTML with status 200.
    """

    name: str
    title: str
    sources: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[HeaderRule, ...] = ()
    no_operations: tuple[str, ...] = ()
    equal_parts: bool = False
    versioned: bool = False
    locked: bool = False
    archived: bool = False
    encryption: str | None = None
    requester_pays: bool = False
    decodes: bool = False
    weak_etags: bool = False
    needs_md5: bool = False
    copy_seconds: float = 0
    copy_spaces: bool = False
    tokens: Literal["new", "same", "none"] = "new"
    missing: tuple[str, ...] = ()
    missing_from: tuple[str, ...] = ()
    invents: tuple[str, ...] = ()
    empties: tuple[str, ...] = ()
    page: bool = False

    @property
    def differences(self) -> tuple[Difference, ...]:
        """All differences from Amazon S3 without options."""
        headers = [
            Difference(
                rule.header + (f" on {' and '.join(rule.operations)}" if rule.operations else ""),
                _ANSWERS[rule.answer],
                rule.source or self.sources.get("headers", ""),
                CONSEQUENCES[rule.header],
            )
            for rule in self.headers
        ]
        operations = [
            Difference(name, "501", self.sources.get("no_operations", ""), CONSEQUENCES[name])
            for name in self.no_operations
        ]
        others = [
            Difference(name, _value(value), self.sources.get(name, ""), CONSEQUENCES[name])
            for name, value in self._changed().items()
            if name not in ("headers", "no_operations", "missing_from")
        ]
        return (*headers, *operations, *others)

    def _changed(self) -> dict[str, object]:
        known = {each.name: each for each in fields(self) if each.name not in ("name", "title", "sources")}
        values = {name: getattr(self, name) for name in known}
        return {name: value for name, value in values.items() if known[name].default not in (MISSING, value)}


_ANSWERS: Mapping[Answer, str] = {
    "named": "501, which names the header",
    "unnamed": "501, which does not name the header",
    "invalid": "400, which names the header",
    "ignored": "ignored",
}

CONSEQUENCES: Mapping[str, str] = {
    "x-amz-tagging": "Content without tags is saved, and has no tags in `stat`; content with tags raises an error",
    "x-amz-tagging-directive": "Nothing: streams with tags are refused for the header x-amz-tagging",
    "x-amz-checksum-": "Puts and parts carry Content-MD5 instead",
    "x-amz-sdk-checksum-": "The SDK's requests carry Content-MD5 instead",
    "x-amz-checksum-algorithm": "Copies of streams have no SHA-256 in the store; reads verify the content",
    "x-amz-mp-object-size": "Uploads are completed without it; the size is compared afterwards",
    "if-none-match": "If it is refused, the storage looks for the key before each write. If it is ignored, set "
    "conditional_writes=false for the same; until then, a concurrent write of the same content may replace it",
    "GetObjectTagging": "`stat` and `copy` find no tags",
    "DeleteObjects": "`sweep` and `gc` delete objects one by one",
    "GetBucketLifecycleConfiguration": "`lifecycle --apply` raises an error; run `sweep` from time to time",
    "ListObjectVersions": "`sweep` looks for no noncurrent versions",
    "equal_parts": "Set `equal_parts`; without it, streams that are so long that their parts grow are refused at their end",
    "versioned": "Temporary objects are deleted by version, so that nothing of them is kept",
    "locked": "Temporary objects become noncurrent versions until the lock ends; a lifecycle rule deletes them then",
    "archived": "Reads raise an error that says to restore the object; `verify` and `copy` name it and go on",
    "encryption": "Set `sse`; without it, writes raise an error that names the policy",
    "requester_pays": "Set `requester_pays`",
    "decodes": "Reads ask for the stored bytes",
    "weak_etags": "Resumed reads compare the ETag themselves, since a weak one can't be a condition",
    "needs_md5": "Requests carry Content-MD5 after the first refusal",
    "copy_seconds": "Copies have a longer time-out, by size; after it the storage waits for the key before it copies again",
    "copy_spaces": "Nothing: white space before the result is no time-out",
    "tokens": "Listings that never end raise an error",
    "missing": "Responses without the header raise an error, once the storage has looked for the key",
    "invents": "The key is looked up; the write raises an error, since nothing was stored",
    "empties": "The key is looked up, and has the content",
    "page": "Every request raises an error that names the endpoint",
}
"""Feature -> what lakery-cloud does about it, or what you can do."""


def _value(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


AWS = "S3 User Guide"
VERSIONS = {"versioned": f'{AWS}, "Retaining multiple versions of objects with S3 Versioning"'}
R2 = 'Cloudflare R2 documentation, "S3 API compatibility"'
R2_CONDITIONS = 'Cloudflare R2 documentation, "Conditional operations"'
B2 = 'Backblaze B2 documentation, "S3 Copy Object"'
B2_REPORTS = "Backblaze/b2-sdk-python issue 558, lance-format/lance issue 5614"
B2_TAGS = "Intrinsec/s3proxy issue 34"
CEPH = "open-rails/contentkit release 0.58.1, ceph/s3-tests issue 583"
OSS = "tobi/walgit issue 67"
OSS_COPIES = "reports of milvus, rclone and iRODS users about copies on Alibaba OSS"
NO_ETAG = "gaul/s3proxy issue 615, FilenCloudDienste/filen-s3 issue 146"
PORTAL = 'RFC 8952, "Captive Portal Architecture"'
REPEATED = "runpod/runpod-python issue 505, aws/aws-cli issue 3917"
UNPAGED = "minio/minio-go pull request 1704, taylorfinnell/awscr-s3 issue 71"
MD5 = 'Huawei OBS documentation, "Deleting Objects"; Ncloud documentation, "DeleteMultipleObjects"'

_PROFILES = (
    S3Profile(name="aws", title="Amazon S3"),
    S3Profile(
        name="aws-versioned",
        title="Amazon S3, versioned bucket",
        sources=VERSIONS,
        versioned=True,
    ),
    S3Profile(
        name="aws-locked",
        title="Amazon S3 with Object Lock",
        sources={**VERSIONS, "locked": f'{AWS}, "Locking objects with Object Lock"'},
        versioned=True,
        locked=True,
    ),
    S3Profile(
        name="aws-archive",
        title="Amazon S3 Glacier classes",
        sources={"archived": f'{AWS}, "Restoring an archived object"'},
        archived=True,
    ),
    S3Profile(
        name="aws-encrypted",
        title="Amazon S3, policy that demands SSE-KMS",
        sources={"encryption": f'{AWS}, "Protecting data with server-side encryption"'},
        encryption="aws:kms",
    ),
    S3Profile(
        name="aws-requester-pays",
        title="Amazon S3, requester pays",
        sources={"requester_pays": f'{AWS}, "Using Requester Pays buckets for storage transfers and usage"'},
        requester_pays=True,
    ),
    S3Profile(
        name="aws-slow-copy",
        title="Amazon S3, slow copies",
        sources=dict.fromkeys(
            ("copy_seconds", "copy_spaces"), 'S3 API Reference, "CopyObject": 200 OK and white space before the result'
        ),
        copy_seconds=3,
        copy_spaces=True,
    ),
    S3Profile(
        name="r2",
        title="Cloudflare R2",
        sources={"no_operations": R2, "equal_parts": R2},
        headers=(
            HeaderRule("x-amz-tagging", "named", source=R2),
            HeaderRule("x-amz-checksum-algorithm", "named", ("CopyObject",), R2),
            HeaderRule("x-amz-mp-object-size", "named", source=R2),
            HeaderRule("if-none-match", "ignored", ("CopyObject",), R2_CONDITIONS),
        ),
        no_operations=("GetObjectTagging",),
        equal_parts=True,
    ),
    S3Profile(
        name="b2",
        title="Backblaze B2",
        sources={"no_operations": B2, "versioned": 'Backblaze B2 documentation, "File Versions"'},
        headers=(
            HeaderRule("x-amz-tagging-directive", "ignored", source=B2),
            HeaderRule("x-amz-tagging", "invalid", source=B2_TAGS),
            HeaderRule("x-amz-checksum-algorithm", "invalid", ("CopyObject",), B2),
            HeaderRule("if-none-match", "unnamed", source=B2_REPORTS),
        ),
        no_operations=("GetObjectTagging",),
        versioned=True,
    ),
    S3Profile(
        name="ceph",
        title="Ceph",
        headers=(HeaderRule("if-none-match", "ignored", source=CEPH),),
    ),
    S3Profile(
        name="minio-behind-proxy",
        title="MinIO behind a compressing proxy",
        sources={"weak_etags": 'nginx documentation, "ngx_http_gzip_module": strong ETags become weak'},
        weak_etags=True,
    ),
    S3Profile(
        name="oss",
        title="Alibaba OSS",
        sources={"copy_seconds": OSS_COPIES, "needs_md5": 'Alibaba OSS documentation, "DeleteMultipleObjects"'},
        headers=(HeaderRule("if-none-match", "unnamed", source=OSS),),
        needs_md5=True,
        copy_seconds=3,
    ),
    S3Profile(
        name="minimal",
        title="a minimal store",
        sources={
            **dict.fromkeys(("headers", "no_operations"), "the intersection of the stores above"),
            "needs_md5": MD5,
        },
        headers=(
            HeaderRule("x-amz-tagging", "named"),
            HeaderRule("x-amz-checksum-", "named"),
            HeaderRule("x-amz-sdk-checksum-", "named"),
            HeaderRule("x-amz-mp-object-size", "named"),
            HeaderRule("if-none-match", "named"),
        ),
        no_operations=("GetObjectTagging", "DeleteObjects", "GetBucketLifecycleConfiguration", "ListObjectVersions"),
        needs_md5=True,
    ),
    S3Profile(
        name="needs-md5",
        title="a store that wants Content-MD5",
        sources={"needs_md5": MD5},
        needs_md5=True,
    ),
    S3Profile(
        name="decoding",
        title="a store that decodes gzip",
        sources={"decodes": 'Cloud Storage, "Transcoding of gzip-compressed files", and gateways alike'},
        decodes=True,
    ),
    S3Profile(
        name="gateway",
        title="a proxy that invents responses",
        sources={"invents": PORTAL},
        invents=("PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject"),
    ),
    S3Profile(name="stripping", title="a proxy that removes headers", sources={"missing": NO_ETAG}, missing=("etag",)),
    S3Profile(name="portal", title="a login page in front of the store", sources={"page": PORTAL}, page=True),
    S3Profile(
        name="same-token", title="a store whose listings repeat a token", sources={"tokens": REPEATED}, tokens="same"
    ),
    S3Profile(
        name="no-token", title="a store whose listings have no token", sources={"tokens": UNPAGED}, tokens="none"
    ),
)

S3_PROFILES: Mapping[str, S3Profile] = {profile.name: profile for profile in _PROFILES}
"""Profiles by name."""
