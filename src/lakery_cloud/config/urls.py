"""The storage class of each URL scheme."""

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.urls import nearest, quoted
from lakery_cloud.errors import ConfigError

STORAGE_CLASSES = {
    "s3": ("lakery_cloud.providers.s3.storage", "S3Storage"),
    "gs": ("lakery_cloud.providers.gcs.storage", "GCSStorage"),
    "az": ("lakery_cloud.providers.azure.storage", "AzureBlobStorage"),
    "file": ("lakery_cloud.providers.file", "FileStorage"),
    "memory": ("lakery_cloud.providers.memory", "MemoryStorage"),
}
"""Module and class of each URL scheme. A module is imported when its scheme is used."""


def storage_from_url(url: str) -> ObjectStorage[Any]:
    """A storage from a URL such as `s3://bucket/prefix?region=eu-central-1` or `file:///srv/blobs`.

    Raises:
        ConfigError: The scheme is unknown, or the storage class can't read the URL.
        MissingDependency: The provider's SDK is not installed.
    """
    return class_of_url(url).from_url(url)


def class_of_url(url: str) -> type[ObjectStorage[Any]]:
    """The storage class of a URL.

    Raises:
        ConfigError: The scheme is unknown.
        MissingDependency: The provider's SDK is not installed.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme not in STORAGE_CLASSES:
        raise ConfigError(f"no storage class for URLs of the scheme {quoted(scheme)}{nearest(scheme, STORAGE_CLASSES)}")
    module, name = STORAGE_CLASSES[scheme]
    storage_class: type[ObjectStorage[Any]] = getattr(import_module(module), name)
    return storage_class


def split_target(given: str) -> tuple[str, str]:
    """Split `hot/<hash>` or `s3://bucket/prefix/<hash>?...` into key or URL of the storage, and hash or pattern.

    Raises:
        ConfigError: The argument is a malformed URL.
    """
    if "://" not in given:
        place, _, name = given.rpartition("/")
        return place, name
    try:
        parts = urlsplit(given)
    except ValueError as error:
        raise ConfigError(f"the URL of a target is malformed: {error}") from None
    path, _, name = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=path)), name
