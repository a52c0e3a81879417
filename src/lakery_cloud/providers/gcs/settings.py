"""Settings of `GCSStorage`, the limits of Cloud Storage, and the shape of the storage data. No SDK is imported here."""

import os
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, TypedDict

from lakery_cloud.engine.bucket_names import IS_IP_ADDRESS, BucketNames
from lakery_cloud.engine.model import Limits
from lakery_cloud.engine.settings import (
    CloudSettings,
    EngineSettings,
    Setting,
    redefine,
    setting,
    temporary_bucket_setting,
)
from lakery_cloud.errors import ConfigError

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem

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

# Cloud Storage, "Bucket names". Emulators accept names of one or two characters.
_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
BUCKET_NAMES = BucketNames(
    forms=(rf"(?=.{{1,222}}$)(?!{IS_IP_ADDRESS}$){_LABEL}(?:\.{_LABEL})*",),
    rule="lower-case letters, digits, dashes and underscores, up to 63 at a time between dots, and a letter or digit at "
    "both ends",
    mistakes={rf"{IS_IP_ADDRESS}(?::\d+)?|[A-Za-z0-9.-]+:\d+": "Give the address of the API as `endpoint_url`"},
)

MAX_COMPONENTS = 10_000
"""Our own limit: beyond it, larger parts cost less than more parts."""

# Cloud Resource Manager, "Projects": an id, which may follow a domain, or a number.
PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")

MAX_URL_LIFETIME = timedelta(days=7)
"""Cloud Storage, "Signed URLs"."""

TOKEN_METHODS = frozenset({"google_default", "cache", "cloud", "anon"})
"""Values of `token` that say where gcsfs looks for credentials."""


class GCSStorageData(TypedDict):
    """Storage data of `GCSStorage`. Storage data that labox wrote has neither hash nor size."""

    bucket: str
    blob: str
    hash: NotRequired[str]
    size: NotRequired[int]
    user_project: NotRequired[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class GCSSettings(CloudSettings):
    """Settings of `GCSStorage`."""

    bucket: str = field(kw_only=False, metadata={"meaning": "Name of the bucket. It must exist.", "in_files": False})
    temporary_bucket: str | None = temporary_bucket_setting()
    fs: "GCSFileSystem | None" = setting(
        None,
        "A `GCSFileSystem` made with `asynchronous=True`, used as it is, with its own credentials, time-outs and "
        "connections. It belongs to one event loop, and the storage does not close it.",
        in_files=False,
        is_secret=True,
    )
    project: str | None = setting(None, "Project of the credentials.")
    token: Any = setting(
        None,
        "Credentials as in gcsfs: the name of a method (`google_default`, `cache`, `cloud`, `anon`), an access token or, "
        "in programs, the path of a file with credentials or its content. By default gcsfs looks for credentials; outside "
        "of Google Cloud, `NO_GCE_CHECK=true` makes that faster. Over plain HTTP none are sent.",
        is_secret=True,
    )
    user_project: str | None = setting(None, "Project that pays for requests to a bucket for which the requester pays.")
    kms_key_name: str | None = setting(None, "Key of the encryption by KMS. By default the bucket decides.")
    storage_class: str | None = setting(
        None, "Storage class of the content, such as `NEARLINE`. Temporary objects are always `STANDARD`."
    )
    composite_uploads: bool = setting(
        False,
        "Whether the parts of a stream are uploaded at the same time, as temporary objects that the store composes. This "
        "is faster if one connection is slower than the network. Each part is charged as a write, and soft delete keeps "
        "parts as it keeps any deleted object.",
    )
    limits: Limits = redefine(EngineSettings, "limits", GCS_LIMITS)

    bucket_names: ClassVar[BucketNames] = BUCKET_NAMES
    file_credentials: ClassVar[tuple[Setting, ...]] = (
        Setting(
            name="credentials_file",
            meaning="Path of a file with credentials, such as a service account's, relative to the configuration's folder.",
        ),
        Setting(name="credentials_json", meaning="Content of such a file.", is_secret=True),
    )

    def secrets(self) -> dict[str, Any]:
        given = CloudSettings.secrets(self)
        if isinstance(self.token, str) and (self.token in TOKEN_METHODS or os.path.exists(self.token)):
            del given["token"]  # it says where the credentials are
        return given

    def __post_init__(self) -> None:
        if self.composite_uploads:
            max_parts = min(self.limits.max_parts, MAX_COMPONENTS)
            self._replace(limits=replace(self.limits, ordered_parts=False, max_parts=max_parts))
        CloudSettings.__post_init__(self)
        if self.fs is not None and (self.project or self.token is not None or self.endpoint_url or self.user_project):
            raise ConfigError(
                "an fs has its own project, token, endpoint_url and user_project; give either these or the fs"
            )
        if self.fs is not None and not self.fs.asynchronous:
            raise ConfigError("an fs must be made with asynchronous=True; otherwise it runs on its own event loop")
