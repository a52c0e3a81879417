"""Settings of `ToyStorage`, the limits of its store, and the shape of its storage data."""

from dataclasses import dataclass, field
from typing import TypedDict

from lakery_cloud.engine.model import Limits
from lakery_cloud.engine.settings import CloudSettings, EngineSettings, redefine, setting

MiB = 1024**2

TOY_LIMITS = Limits(
    max_put_size=64 * MiB,
    min_part_size=1,
    max_part_size=64 * MiB,
    max_parts=10_000,
    max_object_size=1024 * MiB,
    max_copy_size=None,
    copy_part_size=64 * MiB,
)


class ToyStorageData(TypedDict):
    """Storage data of `ToyStorage`."""

    bucket: str
    key: str
    hash: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToySettings(CloudSettings):
    """Settings of `ToyStorage`."""

    bucket: str = field(kw_only=False, metadata={"meaning": "Name of the bucket. It must exist.", "in_files": False})
    token: str | None = setting(None, "Token of the store's user. By default that of `TOY_TOKEN`.", is_secret=True)
    limits: Limits = redefine(EngineSettings, "limits", TOY_LIMITS)
