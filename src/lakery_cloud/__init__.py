"""Persist serialized data by content hash: to Amazon S3, Google Cloud Storage, Azure Blob Storage, or files.

Names are imported on first use, so an SDK that you don't use need not be installed and costs no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidRecord,
    InvalidTags,
    LakeryCloudError,
    MissingDependency,
    NameConflict,
    NoStorageData,
    NotRegistered,
    ReadOnlyStorage,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from lakery_cloud import sync as sync
    from lakery_cloud.batches import Loaded, Saved
    from lakery_cloud.config.building import load_registry
    from lakery_cloud.config.configuration import Configuration
    from lakery_cloud.config.urls import storage_from_url
    from lakery_cloud.digest import DigestingStream, digest_data
    from lakery_cloud.engine.model import PresignedURL
    from lakery_cloud.engine.object_storage import ObjectStorage
    from lakery_cloud.providers.azure.storage import AzureBlobStorage
    from lakery_cloud.providers.file import FileStorage
    from lakery_cloud.providers.gcs.storage import GCSStorage
    from lakery_cloud.providers.memory import MemoryStorage
    from lakery_cloud.providers.s3.storage import S3Storage
    from lakery_cloud.records import ContentRecord
    from lakery_cloud.registry import StorageRegistry
    from lakery_cloud.routes import Content, Explanation, Route
    from lakery_cloud.storage import (
        Digest,
        GetStreamDigest,
        SerializedData,
        SerializedDataStream,
        Storage,
        StreamDigest,
        TagMap,
    )

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AzureBlobStorage",
    "BucketNotFound",
    "ConfigError",
    "Configuration",
    "Content",
    "ContentRecord",
    "CredentialsError",
    "Digest",
    "DigestingStream",
    "Explanation",
    "FileStorage",
    "GCSStorage",
    "GetStreamDigest",
    "IntegrityError",
    "InvalidRecord",
    "InvalidTags",
    "LakeryCloudError",
    "Loaded",
    "MemoryStorage",
    "MissingDependency",
    "NameConflict",
    "NoStorageData",
    "NotRegistered",
    "ObjectStorage",
    "PresignedURL",
    "ReadOnlyStorage",
    "Route",
    "S3Storage",
    "Saved",
    "SerializedData",
    "SerializedDataStream",
    "Storage",
    "StorageRegistry",
    "StorageUnavailable",
    "StreamDigest",
    "TagMap",
    "digest_data",
    "load_registry",
    "storage_from_url",
]

_LAZY = {
    "AzureBlobStorage": "lakery_cloud.providers.azure.storage",
    "Configuration": "lakery_cloud.config.configuration",
    "Content": "lakery_cloud.routes",
    "ContentRecord": "lakery_cloud.records",
    "Digest": "lakery_cloud.storage",
    "DigestingStream": "lakery_cloud.digest",
    "Explanation": "lakery_cloud.routes",
    "FileStorage": "lakery_cloud.providers.file",
    "GCSStorage": "lakery_cloud.providers.gcs.storage",
    "GetStreamDigest": "lakery_cloud.storage",
    "Loaded": "lakery_cloud.batches",
    "MemoryStorage": "lakery_cloud.providers.memory",
    "ObjectStorage": "lakery_cloud.engine.object_storage",
    "PresignedURL": "lakery_cloud.engine.model",
    "Route": "lakery_cloud.routes",
    "S3Storage": "lakery_cloud.providers.s3.storage",
    "Saved": "lakery_cloud.batches",
    "SerializedData": "lakery_cloud.storage",
    "SerializedDataStream": "lakery_cloud.storage",
    "Storage": "lakery_cloud.storage",
    "StorageRegistry": "lakery_cloud.registry",
    "StreamDigest": "lakery_cloud.storage",
    "TagMap": "lakery_cloud.storage",
    "digest_data": "lakery_cloud.digest",
    "load_registry": "lakery_cloud.config.building",
    "storage_from_url": "lakery_cloud.config.urls",
}
"""Name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    if name == "sync":
        return import_module("lakery_cloud.sync")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "sync"})
