"""What Azure Blob Storage is told, what it can take, and the shape of its storage data. No SDK is imported here."""

from datetime import timedelta
from typing import NotRequired, TypedDict

from lakery_cloud.engine.model import (
    Limits,
)
from lakery_cloud.errors import (
    ConfigError,
)

MiB = 1024**2


GiB = 1024**3


# Microsoft Learn, "Scalability and performance targets for Blob Storage", "Put Blob", "Copy Blob From URL" and "Put Block
# From URL" (whose older versions take blocks of 100 MiB).
AZURE_LIMITS = Limits(
    max_put_size=5000 * MiB,
    min_part_size=1,
    max_part_size=4000 * MiB,
    max_parts=50_000,
    max_object_size=50_000 * 4000 * MiB,
    max_copy_size=256 * MiB,
    copy_part_size=100 * MiB,
)


MAX_SEGMENTS = 254
"""Microsoft Learn, "Naming and referencing containers, blobs, and metadata"."""


SDK_SINGLE_PUT_SIZE = 64 * MiB
"""azure-storage-blob's default: a client that was not opened here sends larger blobs in blocks."""


MAX_URL_LIFETIME = timedelta(days=7)
"""Microsoft Learn, "Get User Delegation Key". The account's key could sign for longer, which nobody could take back."""


class AzureStorageData(TypedDict):
    """Storage data of `AzureBlobStorage`. What labox wrote has neither hash nor size."""

    container: str
    blob: str
    hash: NotRequired[str]
    size: NotRequired[int]


def _check_segments(prefix: str) -> None:
    """Refuse what a blob name can't hold, beyond what no key can."""
    segments = prefix.split("/")
    if any(segment.endswith(".") for segment in segments):
        raise ConfigError(f"the prefix {prefix!r} has a segment that ends with a dot, which Azure does not keep")
    if len(segments) > MAX_SEGMENTS - 2:  # a temporary key has two more
        raise ConfigError(f"the prefix has {len(segments)} segments; Azure takes at most {MAX_SEGMENTS} in a blob name")


# In the order in which adlfs takes them.
CREDENTIAL_VARIABLES = (
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
)
