"""What Amazon S3 is told, what it can take, and the shape of its storage data. No SDK is imported here."""

from datetime import timedelta
from typing import NotRequired, TypedDict

from lakery_cloud.engine.model import (
    Limits,
)

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
    copy_part_size=512 * MiB,
)


MAX_URL_LIFETIME = timedelta(days=7)
"""S3 User Guide, "Download and upload objects with presigned URLs"."""


class S3StorageData(TypedDict):
    """Storage data of `S3Storage`. What labox wrote has neither hash nor size."""

    bucket: str
    key: str
    hash: NotRequired[str]
    size: NotRequired[int]


S3Settings = object
