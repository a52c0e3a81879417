"""Profiles of stores with S3's API: how each differs from Amazon S3, and the source that says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Answer = Literal["named", "unnamed", "invalid", "ignored"]
"""The answer to an unsupported header: 501 with its name, 501 without it, 400 InvalidArgument with its name, or nothing."""


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
        invents: Operations that a proxy answers with an empty 200, without passing them on.
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
    invents: tuple[str, ...] = ()
    page: bool = False


AWS = "S3 User Guide"
R2 = 'Cloudflare R2 documentation, "S3 API compatibility"'
R2_CONDITIONS = 'Cloudflare R2 documentation, "Conditional operations"'
B2 = 'Backblaze B2 documentation, "S3 Copy Object"'
B2_REPORTS = "Backblaze/b2-sdk-python issue 558, lance-format/lance issue 5614"
B2_TAGS = "Intrinsec/s3proxy issue 34"
CEPH = "open-rails/contentkit release 0.58.1, ceph/s3-tests issue 583"
OSS = "tobi/walgit issue 67"
OSS_COPIES = "reports of milvus, rclone and iRODS users about copies on Alibaba OSS"
MD5 = 'Huawei OBS documentation, "Deleting Objects"; Ncloud documentation, "DeleteMultipleObjects"'

_PROFILES = (
    S3Profile(name="aws", title="Amazon S3"),
    S3Profile(
        name="aws-versioned",
        title="Amazon S3, versioned bucket",
        sources={"versioned": f'{AWS}, "Retaining multiple versions of objects with S3 Versioning"'},
        versioned=True,
    ),
    S3Profile(
        name="aws-locked",
        title="Amazon S3 with Object Lock",
        sources={"locked": f'{AWS}, "Locking objects with Object Lock"'},
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
        sources={"copy_spaces": 'S3 API Reference, "CopyObject": 200 OK and white space before the result'},
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
        sources={"headers": "the intersection of the stores above", "needs_md5": MD5},
        headers=(
            HeaderRule("x-amz-tagging", "named"),
            HeaderRule("x-amz-checksum-", "named"),
            HeaderRule("x-amz-sdk-checksum-", "named"),
            HeaderRule("x-amz-mp-object-size", "named"),
            HeaderRule("if-none-match", "named"),
        ),
        no_operations=("GetObjectTagging", "DeleteObjects", "GetBucketLifecycleConfiguration"),
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
        title="a proxy that invents answers",
        invents=("PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject"),
    ),
    S3Profile(name="stripping", title="a proxy that removes headers", missing=("etag",)),
    S3Profile(name="portal", title="a login page in front of the store", page=True),
    S3Profile(name="same-token", title="a store whose listings repeat a token", tokens="same"),
    S3Profile(name="no-token", title="a store whose listings have no token", tokens="none"),
)

S3_PROFILES: Mapping[str, S3Profile] = {profile.name: profile for profile in _PROFILES}
"""Profiles by name."""
