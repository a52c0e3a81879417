"""Profiles of stores with S3's API: how each differs from Amazon S3, and the source that says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Conditions = Literal["supported", "refused", "ignored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Profile:
    """Behaviour of a store.

    Attributes:
        name: Name of the profile.
        title: Name of the store.
        sources: Attribute -> the source of its value.
        tags: Whether objects have tags. Without them, requests with tags are refused with 501.
        tag_directive: Whether copies accept `x-amz-tagging-directive`.
        copy_checksum: Whether copies accept `x-amz-checksum-algorithm`.
        checksums: Whether requests accept checksums, and compare them.
        conditions: Whether create-only puts, copies and completions are supported, refused with 501, or ignored.
        object_size: Whether completions accept `x-amz-mp-object-size`.
        equal_parts: Whether all parts but the last must have the same size.
        versioned: Whether the bucket keeps versions.
        locked: Whether versions can't be deleted, and puts need a checksum, as with Object Lock.
        archived: Whether objects are archived as soon as they are stored.
        encryption: The `x-amz-server-side-encryption` that a policy demands of each write.
        decodes: Whether gzip-encoded objects are decoded for clients that don't accept gzip.
        weak_etags: Whether ETags are weak, as behind compressing proxies.
        needs_md5: Whether lifecycle rules and deletions of several objects need `Content-MD5`.
        deletes_many: Whether several objects can be deleted by one request.
        copy_seconds: Seconds that a copy takes.
        copy_spaces: Whether the response to a copy begins at once, with white space until its end.
        missing: Headers that responses lack.
        invents: Whether a proxy answers puts and completions with an empty 200, and passes nothing on.
        page: Whether errors are pages of HTML.
    """

    name: str
    title: str
    sources: Mapping[str, str] = field(default_factory=dict)
    tags: bool = True
    tag_directive: bool = True
    copy_checksum: bool = True
    checksums: bool = True
    conditions: Conditions = "supported"
    object_size: bool = True
    equal_parts: bool = False
    versioned: bool = False
    locked: bool = False
    archived: bool = False
    encryption: str | None = None
    decodes: bool = False
    weak_etags: bool = False
    needs_md5: bool = False
    deletes_many: bool = True
    copy_seconds: float = 0
    copy_spaces: bool = False
    missing: tuple[str, ...] = ()
    invents: bool = False
    page: bool = False


R2 = 'Cloudflare R2 documentation, "S3 API compatibility"'
AWS = "S3 User Guide"
B2 = 'Backblaze B2 documentation, "S3-Compatible API"'
CEPH = 'Ceph documentation, "Ceph Object Gateway S3 API"'
OSS = "reports of milvus, rclone and iRODS users about copies on Alibaba OSS"

S3_PROFILES: Mapping[str, S3Profile] = {
    profile.name: profile
    for profile in (
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
            name="aws-slow-copy",
            title="Amazon S3, slow copies",
            sources={"copy_spaces": 'S3 API Reference, "CopyObject": 200 OK and white space before the result'},
            copy_seconds=3,
            copy_spaces=True,
        ),
        S3Profile(
            name="r2",
            title="Cloudflare R2",
            sources=dict.fromkeys(("tags", "tag_directive", "copy_checksum", "equal_parts", "object_size"), R2),
            tags=False,
            tag_directive=False,
            copy_checksum=False,
            equal_parts=True,
            object_size=False,
        ),
        S3Profile(
            name="b2",
            title="Backblaze B2",
            sources={"tags": B2, "conditions": B2, "needs_md5": B2},
            tags=False,
            conditions="refused",
            needs_md5=True,
        ),
        S3Profile(name="ceph", title="Ceph", sources={"conditions": CEPH}, conditions="ignored", needs_md5=True),
        S3Profile(
            name="minio-behind-proxy",
            title="MinIO behind a compressing proxy",
            sources={"weak_etags": 'nginx documentation, "ngx_http_gzip_module": strong ETags become weak'},
            weak_etags=True,
        ),
        S3Profile(
            name="oss",
            title="Alibaba OSS",
            sources={"copy_seconds": OSS},
            copy_seconds=3,
            conditions="ignored",
            tags=False,
        ),
        S3Profile(
            name="minimal",
            title="a minimal store",
            tags=False,
            tag_directive=False,
            copy_checksum=False,
            checksums=False,
            conditions="refused",
            object_size=False,
            deletes_many=False,
        ),
        S3Profile(
            name="decoding",
            title="a store that decodes gzip",
            sources={"decodes": 'Cloud Storage, "Transcoding of gzip-compressed files", and gateways alike'},
            decodes=True,
        ),
        S3Profile(name="gateway", title="a proxy that invents answers", invents=True),
        S3Profile(name="portal", title="a login page in front of the store", page=True),
    )
}
"""Profiles by name."""
