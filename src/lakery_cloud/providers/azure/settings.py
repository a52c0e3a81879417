"""Settings of `AzureBlobStorage`, the limits of Azure, and the shape of the storage data. No SDK is imported here."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal, NotRequired, TypedDict

from lakery_cloud.engine.bucket_names import BucketNames
from lakery_cloud.engine.model import Limits, without_none
from lakery_cloud.engine.settings import (
    CloudSettings,
    EngineSettings,
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
    from adlfs import AzureBlobFileSystem
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
    from azure.core.credentials_async import AsyncTokenCredential

MiB = 1024**2
GiB = 1024**3

# Microsoft Learn, "Scalability and performance targets for Blob Storage", "Put Blob", and "Put Blob From
# URL".
AZURE_LIMITS = Limits(
    max_put_size=5000 * MiB,
    min_part_size=1,
    max_part_size=4000 * MiB,
    max_parts=50_000,
    max_object_size=50_000 * 4000 * MiB,
    max_copy_size=5000 * MiB,
    copy_part_size=16 * MiB,
)

# Microsoft Learn, "Naming and Referencing Containers, Blobs, and Metadata", and for the containers whose name starts with
# a dollar sign "Static website hosting", "Storage analytics logging" and "Change feed".
CONTAINER_NAMES = BucketNames(
    setting="container",
    forms=(r"(?=.{1,63}$)[a-z0-9]+(?:-[a-z0-9]+)*", r"\$(?:root|web|logs|blobchangefeed)"),
    rule="up to 63 lower-case letters, digits and single dashes between them, or is $root, $web or $logs",
    mistakes={
        r"[a-z0-9]+(?:\.[a-z0-9-]+)+(?::\d+)?": "Give the account as `account_name`, or the address as `endpoint_url`"
    },
)

MAX_SEGMENTS = 254
"""Microsoft Learn, "Naming and referencing containers, blobs, and metadata"."""

SDK_SINGLE_PUT_SIZE = 64 * MiB
"""azure-storage-blob's default: a client that was not opened here sends larger blobs in blocks."""

MAX_URL_LIFETIME = timedelta(days=7)
"""Microsoft Learn, "Get User Delegation Key". The account's key could sign for longer, but such a URL can't be revoked."""


class AzureStorageData(TypedDict):
    """Storage data of `AzureBlobStorage`. Storage data that labox wrote has neither hash nor size."""

    container: str
    blob: str
    hash: NotRequired[str]
    size: NotRequired[int]


# In the order in which adlfs looks for them.
CREDENTIAL_VARIABLES = (
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSettings(CloudSettings):
    """Settings of `AzureBlobStorage`."""

    container: str = field(
        kw_only=False, metadata={"meaning": "Name of the container. It must exist.", "in_files": False}
    )
    temporary_container: str | None = temporary_bucket_setting("container")
    fs: "AzureBlobFileSystem | None" = setting(
        None,
        "An `adlfs.AzureBlobFileSystem`, used as it is, with its own retries and time-outs. Its client belongs to one "
        "event loop, and the storage does not close it.",
        in_files=False,
        is_secret=True,
    )
    account_name: str | None = setting(None, "Name of the storage account.")
    account_key: str | None = setting(None, "Key of the account.", is_secret=True)
    connection_string: str | None = setting(None, "Account, key and endpoint in one text.", is_secret=True)
    sas_token: str | None = setting(
        None,
        "Shared access signature with the permissions read, create, write, delete, list and tags.",
        is_secret=True,
    )
    credential: "AsyncTokenCredential | AzureNamedKeyCredential | AzureSasCredential | None" = setting(
        None,
        "Asynchronous token credential, such as those of `azure.identity.aio`. The storage does not close it.",
        in_files=False,
        is_secret=True,
    )
    access_tier: Literal["Hot", "Cool", "Cold"] | None = setting(
        None,
        "Access tier of the content. By default the account decides. Temporary blobs are always in the account's own tier.",
    )
    blob_tags: bool = setting(
        True,
        "Whether tags become blob index tags. Accounts with a hierarchical namespace refuse these: set it to false there, "
        "and the storage keeps tags in the metadata.",
    )
    copy_threshold: int | None = copy_threshold_setting()
    copy_part_size: int | None = copy_part_size_setting()
    copy_timeout: float = copy_timeout_setting()
    limits: Limits = redefine(EngineSettings, "limits", AZURE_LIMITS)

    bucket_names: ClassVar[BucketNames] = CONTAINER_NAMES

    def timeout_of_copy(self, size: int) -> float:
        """Seconds to wait for the response to a copy of so many bytes."""
        return self.read_timeout + self.copy_timeout * size / GiB

    def __post_init__(self) -> None:
        CloudSettings.__post_init__(self)
        limits = limits_of_copies(self.limits, threshold=self.copy_threshold, part_size=self.copy_part_size)
        self._replace(limits=limits)
        if self.container == "$root" and self.prefix.strip("/"):
            # Microsoft Learn, "Naming and Referencing Containers, Blobs, and Metadata".
            raise ConfigError("the name of a blob in $root has no slash; remove prefix, or give another container")
        keys = without_none(account_key=self.account_key, sas_token=self.sas_token, credential=self.credential)
        if self.fs is not None and (self.account_name or self.connection_string or keys or self.endpoint_url):
            raise ConfigError("an fs has its own account, credentials and endpoint_url; give either these or the fs")
        if self.connection_string is not None and (self.account_name or keys or self.endpoint_url):
            raise ConfigError(
                "a connection_string has its own account, credentials and endpoint_url; give either these or the "
                "connection_string"
            )
        if len(keys) > 1:
            raise ConfigError(f"{' and '.join(keys)} exclude each other; give one of them")
        if self.fs is not None:
            largest = min(self.limits.max_put_size, SDK_SINGLE_PUT_SIZE)
            self._replace(limits=replace(self.limits, max_put_size=largest))


def check_segments(prefix: str) -> None:
    """Refuse a prefix that is valid for keys, but not for the names of blobs.

    Raises:
        ConfigError: It has a segment that ends with a dot, or too many segments.
    """
    segments = prefix.split("/")
    if any(segment.endswith(".") for segment in segments):
        raise ConfigError(f"the prefix {prefix!r} has a segment that ends with a dot, which Azure would remove")
    if len(segments) > MAX_SEGMENTS - 2:  # a temporary key has two more
        raise ConfigError(f"the prefix has {len(segments)} segments; the name of a blob has at most {MAX_SEGMENTS}")
