"""Settings of `S3Storage`, the limits of Amazon S3, and the shape of the storage data. No SDK is imported here."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal, NotRequired, TypedDict

from lakery_cloud.engine.bucket_names import IS_IP_ADDRESS, BucketNames
from lakery_cloud.engine.model import Limits
from lakery_cloud.engine.settings import (
    CloudSettings,
    EngineSettings,
    Setting,
    copy_part_size_setting,
    copy_threshold_setting,
    copy_timeout_setting,
    limits_of_copies,
    redefine,
    setting,
    temporary_bucket_setting,
)
from lakery_cloud.errors import ConfigError

if TYPE_CHECKING:
    import aioboto3
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3 import S3Client

    from lakery_cloud.providers.s3.credentials import KeySession

MiB = 1024**2
GiB = 1024**3

# S3 User Guide, "Amazon S3 multipart upload limits", and API Reference, "PutObject" and "CopyObject".
S3_LIMITS = Limits(
    max_put_size=5 * GiB,
    min_part_size=5 * MiB,
    max_part_size=5 * GiB,
    max_parts=10_000,
    max_object_size=10_000 * 5 * GiB,
    max_copy_size=5 * GiB,
    copy_part_size=16 * MiB,
)

COPY_THRESHOLD = 128 * MiB
"""Larger objects are copied in parts, many at the same time: one long copy takes longer, and may outlast time-outs."""

_NAME = rf"(?!\.{{1,2}}$)(?!{IS_IP_ADDRESS}$)[A-Za-z0-9._-]{{1,255}}"

BUCKET_NAMES = BucketNames(
    forms=(
        # S3 User Guide, "General purpose bucket naming rules", without those that buckets made in us-east-1 before March
        # 2018 may break: up to 255 characters, capitals, underscores. Aliases of access points look the same.
        _NAME,
        # S3 User Guide, "Referencing access points", and S3 on Outposts, "Referencing ARNs".
        r"arn:aws[a-z-]*:(?:s3|s3-object-lambda):[a-z0-9-]*:\d{12}:accesspoint[/:][A-Za-z0-9.-]{1,63}",
        r"arn:aws[a-z-]*:s3-outposts:[a-z0-9-]+:\d{12}:outpost[/:][A-Za-z0-9-]{1,63}[/:]accesspoint[/:][A-Za-z0-9-]{1,63}",
        # Ceph documentation, "RGW Multi-tenancy": `tenant:bucket`. A number after the colon is the port of a host.
        rf"[A-Za-z0-9_-]*:(?!\d{{1,5}}$){_NAME}",
    ),
    rule="up to 255 letters, digits, dots, dashes and underscores, or is the ARN of an access point",
    special=(
        # S3 User Guide, "General purpose bucket naming rules": what is reserved for other kinds of buckets, for aliases of
        # access points (on Outposts `--op-s3`), and for multi-region access points.
        r"(?i:.*(?:-s3alias|--ol-s3|--op-s3|--x-s3|--xa-s3|--table-s3|\.mrap))",
        r".*:.*|[^A-Za-z0-9].*",
    ),
    mistakes={
        r"arn:aws[a-z-]*:s3:::[^/]+": "Give the bucket's name, which follows `:::`",
        r"arn:.*": "Give the bucket's name, or the ARN of an access point",
        rf"{IS_IP_ADDRESS}(?::\d+)?|[A-Za-z0-9.-]+:\d+": "Give the address of the API as `endpoint_url`",
    },
)

MAX_URL_LIFETIME = timedelta(days=7)
"""S3 User Guide, "Download and upload objects with presigned URLs"."""


class S3StorageData(TypedDict):
    """Storage data of `S3Storage`. Storage data that labox wrote has neither hash nor size."""

    bucket: str
    key: str
    hash: NotRequired[str]
    size: NotRequired[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings(CloudSettings):
    """Settings of `S3Storage`."""

    bucket: str = field(kw_only=False, metadata={"meaning": "Name of the bucket. It must exist.", "in_files": False})
    temporary_bucket: str | None = temporary_bucket_setting()
    session: "aioboto3.Session | AioSession | KeySession | None" = setting(
        None,
        "Session of aioboto3 or aiobotocore to take credentials and region from.",
        in_files=False,
        is_secret=True,
    )
    client: "S3Client | None" = setting(
        None,
        "An open client of aiobotocore or aioboto3, used as it is, with its own retries, time-outs and connections. It "
        "belongs to one event loop, and the storage does not close it.",
        in_files=False,
        is_secret=True,
    )
    region: str | None = setting(None, "Region of the bucket.")
    profile: str | None = setting(None, "Profile of the AWS configuration files.")
    addressing_style: Literal["path", "virtual", "auto"] | None = setting(
        None,
        "Whether the bucket is part of the path or of the host name. By default part of the path if `endpoint_url` or "
        "`AWS_ENDPOINT_URL_S3` is set; otherwise the SDK decides.",
    )
    sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = setting(
        None, "Server-side encryption. By default the bucket decides."
    )
    kms_key_id: str | None = setting(None, "Key of the server-side encryption by KMS.")
    storage_class: str | None = setting(
        None, "Storage class of the content, such as `STANDARD_IA`. Temporary objects are always `STANDARD`."
    )
    requester_pays: bool = setting(False, "Whether the requester pays for requests and transfer.")
    conditional_writes: bool = setting(
        True,
        "Whether the endpoint supports `If-None-Match`. The storage notices an endpoint that refuses the header; for one "
        "that ignores it, set this to false, and the storage looks for the object before it writes.",
    )
    equal_parts: bool = setting(
        False,
        "Whether all parts of a stream but the last have the same size, as Cloudflare R2 requires. Parts don't grow then: "
        "the largest stream has 10,000 parts of `part_size`, with the default of 5 MiB 48 GiB.",
    )
    copy_threshold: int | None = copy_threshold_setting("128 MiB, or less where the store's limit is less")
    copy_part_size: int | None = copy_part_size_setting()
    copy_timeout: float = copy_timeout_setting()
    limits: Limits = redefine(EngineSettings, "limits", S3_LIMITS)

    bucket_names: ClassVar[BucketNames] = BUCKET_NAMES
    file_credentials: ClassVar[tuple[Setting, ...]] = (
        Setting(
            name="access_key_id",
            meaning="Access key, used instead of the credentials that the AWS SDK finds. Needs `secret_access_key`.",
            is_secret=True,
        ),
        Setting(name="secret_access_key", meaning="Secret of the access key.", is_secret=True),
        Setting(
            name="session_token", meaning="Session token of the access key, if it is a temporary one.", is_secret=True
        ),
    )

    def timeout_of_copy(self, size: int) -> float:
        """Seconds to wait for the response to a copy of so many bytes."""
        return self.read_timeout + self.copy_timeout * size / GiB

    def __post_init__(self) -> None:
        CloudSettings.__post_init__(self)
        threshold = self.copy_threshold
        if threshold is None and self.limits.max_copy_size is not None:
            threshold = min(COPY_THRESHOLD, self.limits.max_copy_size)
        limits = limits_of_copies(self.limits, threshold=threshold, part_size=self.copy_part_size)
        self._replace(limits=replace(limits, equal_parts=self.equal_parts or limits.equal_parts))
        if self.client is not None and (self.session or self.endpoint_url or self.region or self.profile):
            raise ConfigError(
                "a client has its own session, endpoint_url, region and profile; give either these or the client"
            )
        if self.session is not None and self.profile is not None:
            raise ConfigError("a session has its own profile; remove profile")
        if self.kms_key_id is not None and not (self.sse or "").startswith("aws:kms"):
            raise ConfigError("kms_key_id needs sse='aws:kms' or sse='aws:kms:dsse'")
