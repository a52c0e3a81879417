"""Tools to test storages, also your own: the conformance suite, a tap for requests, proxies that inject faults.

They need pytest and pytest-asyncio: `pip install "lakery-cloud[test]"`. Names are imported on first use, since pytest loads
the plugin of this package in every environment with lakery-cloud.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Imported now: after a lazy import of the module `content`, the name would be the module instead of the function.
from lakery_cloud.testing.content import chunked, content, digest_of, stream_of

if TYPE_CHECKING:
    from lakery_cloud.testing.conformance import StorageConformance
    from lakery_cloud.testing.doubles.azure import AzureDouble
    from lakery_cloud.testing.doubles.azure_profiles import AZURE_PROFILES, AzureProfile
    from lakery_cloud.testing.doubles.gcs import StrictGCS
    from lakery_cloud.testing.doubles.gcs_profiles import GCS_PROFILES, GCSProfile
    from lakery_cloud.testing.doubles.s3 import StrictS3
    from lakery_cloud.testing.doubles.s3_profiles import S3_PROFILES, S3Profile
    from lakery_cloud.testing.faults import Exchange, FaultNotFired, FaultProxy, Rule
    from lakery_cloud.testing.faults.scripted import ScriptedProxy
    from lakery_cloud.testing.rig import RawObject, Rig
    from lakery_cloud.testing.wire import Wire, tap

__all__ = [
    "AZURE_PROFILES",
    "GCS_PROFILES",
    "S3_PROFILES",
    "AzureDouble",
    "AzureProfile",
    "Exchange",
    "FaultNotFired",
    "FaultProxy",
    "GCSProfile",
    "RawObject",
    "Rig",
    "Rule",
    "S3Profile",
    "ScriptedProxy",
    "StorageConformance",
    "StrictGCS",
    "StrictS3",
    "Wire",
    "chunked",
    "content",
    "digest_of",
    "stream_of",
    "tap",
]

_MODULES = {
    "conformance": ("StorageConformance",),
    "doubles.gcs": ("StrictGCS",),
    "doubles.gcs_profiles": ("GCS_PROFILES", "GCSProfile"),
    "doubles.azure": ("AzureDouble",),
    "doubles.azure_profiles": ("AZURE_PROFILES", "AzureProfile"),
    "doubles.s3": ("StrictS3",),
    "doubles.s3_profiles": ("S3_PROFILES", "S3Profile"),
    "faults": ("Exchange", "FaultNotFired", "FaultProxy", "Rule"),
    "faults.scripted": ("ScriptedProxy",),
    "rig": ("RawObject", "Rig"),
    "wire": ("Wire", "tap"),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
