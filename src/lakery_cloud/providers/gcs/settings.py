"""What Google Cloud Storage is told, what it can take, and the shape of its storage data. No SDK is imported here."""

import re
from datetime import timedelta
from typing import Any, NotRequired, TypedDict

from lakery_cloud.engine.model import (
    Limits,
)

KiB = 1024


MiB = 1024**2


TiB = 1024**4


CHUNK_MULTIPLE = 256 * KiB
"""Cloud Storage, "Resumable uploads": chunks are multiples of 256 KiB unless they are the last."""


# Cloud Storage, "Quotas & limits": 5 TiB for an object and for an upload. The number of chunks has no limit of its own.
GCS_LIMITS = Limits(
    max_put_size=5 * TiB,
    min_part_size=CHUNK_MULTIPLE,
    max_part_size=5 * TiB,
    max_parts=5 * TiB // CHUNK_MULTIPLE,
    max_object_size=5 * TiB,
    max_copy_size=None,
    copy_part_size=64 * MiB,
    ordered_parts=True,
    part_multiple=CHUNK_MULTIPLE,
)


# Cloud Resource Manager, "Projects": an id, which may stand behind a domain, or a number.
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")


MAX_URL_LIFETIME = timedelta(days=7)
"""Cloud Storage, "Signed URLs"."""


TOKEN_METHODS = frozenset({"google_default", "cache", "cloud", "anon"})
"""Values of `token` that name a place to look for credentials."""


class GCSStorageData(TypedDict):
    """Storage data of `GCSStorage`. What labox wrote has neither hash nor size."""

    bucket: str
    blob: str
    hash: NotRequired[str]
    size: NotRequired[int]
    user_project: NotRequired[str | None]


GCSSettings = Any
