"""Lifecycle rules of the providers, which remove the leftovers of killed writers as `sweep` does."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lakery_cloud.engine.keys import KeySpace
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError
from lakery_cloud.maintenance.sweep import DEFAULT_AGE

DEFAULT_DAYS = DEFAULT_AGE.days


@runtime_checkable
class HasLifecycle(Protocol):
    """A storage whose provider can remove objects by their age."""

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """Return rules in the format of the provider's own tool. They must never match content."""


def lifecycle_rules(storage: ObjectStorage[Any], *, days: int = DEFAULT_DAYS) -> Mapping[str, Any]:
    """Return rules that remove temporary objects and unfinished uploads, in the format of the provider's own tool.

    With a `temporary_bucket`, set them in both buckets. Sends no request and needs no credentials. The provider's tool
    replaces all rules of the bucket; `apply_lifecycle` keeps the other rules.

    Args:
        storage: The storage whose temporary objects expire.
        days: Age at which they expire, at least 1. It must exceed the duration of the longest write.

    Raises:
        ConfigError: `days` is less than 1, or the storage's provider has no lifecycle rules.
    """
    if not isinstance(days, int) or isinstance(days, bool) or days < 1:
        raise ConfigError(f"days must be a whole number of at least 1, not {days!r}")
    if not isinstance(storage, HasLifecycle):
        raise ConfigError(
            f"{type(storage).__name__} does not support lifecycle rules; run `lakery-cloud sweep` regularly instead"
        )
    return storage.lifecycle_rules(days)


async def apply_lifecycle(storage: ObjectStorage[Any], *, days: int = DEFAULT_DAYS) -> bool:
    """Add `lifecycle_rules` to the bucket, or replace earlier rules of the same storage.

    With a `temporary_bucket`, both buckets get the rules. All other rules stay unchanged. If the bucket already has the
    rules, no change is sent. Cloud Storage refuses a change if the bucket was changed since it was read; it is read
    again then. S3 has no such check: of two concurrent changes, one is lost.

    Args:
        storage: The storage whose temporary objects expire.
        days: As for `lifecycle_rules`.

    Returns:
        Whether a bucket was changed.

    Raises:
        ConfigError: As for `lifecycle_rules`; or the provider's rules can't be set by a storage request, as on Azure; or
            an object that is not temporary would expire.
        BucketNotFound: The bucket does not exist.
        AccessDenied: The permission to read or change the rules is missing.
        CredentialsError: Credentials are missing or refused.
        StorageUnavailable: The store could not be reached, or failed.
    """
    rules = lifecycle_rules(storage, days=days)
    transport = await storage.transport()
    buckets = [KeySpace(bucket, storage.keys.prefix) for bucket in storage.keys.buckets]
    return any([await transport.apply_lifecycle(keys, rules) for keys in buckets])
