"""The provider's own rules that remove what killed writers left behind, without anybody running `sweep`."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError
from lakery_cloud.maintenance.sweep import DEFAULT_AGE

DEFAULT_DAYS = DEFAULT_AGE.days


@runtime_checkable
class HasLifecycle(Protocol):
    """A storage whose provider removes objects by rules about their age."""

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """The rules for what is temporary, as the provider's own tool takes them. None of them can be about content."""


def lifecycle_rules(storage: ObjectStorage[Any], *, days: int = DEFAULT_DAYS) -> Mapping[str, Any]:
    """The rules that remove a storage's temporary objects and unfinished uploads, as the provider's own tool takes them.

    Nothing is sent, and no credentials are needed. That tool replaces all rules that the bucket has; `apply_lifecycle`
    keeps the others.

    Args:
        storage: Whose temporary objects.
        days: Age at which they go, at least 1. A write that takes longer would lose what it has sent.

    Raises:
        ConfigError: The days are fewer than 1; or the storage has no such rules, and needs `sweep`.
    """
    if not isinstance(days, int) or isinstance(days, bool) or days < 1:
        raise ConfigError(f"days must be a whole number of at least 1, not {days!r}")
    if not isinstance(storage, HasLifecycle):
        raise ConfigError(
            f"{type(storage).__name__} has no lifecycle rules; run `lakery-cloud sweep` from time to time"
        )
    return storage.lifecycle_rules(days)


async def apply_lifecycle(storage: ObjectStorage[Any], *, days: int = DEFAULT_DAYS) -> bool:
    """Put `lifecycle_rules` among those of the bucket, in place of earlier ones of the same storage.

    The others stay as they are, and nothing is sent if ours are there. Cloud Storage refuses what was read before
    somebody else changed the bucket, and it is read again then. S3 has no such condition: of two who change the rules of a
    bucket at the same moment, one loses his.

    Args:
        storage: Whose temporary objects.
        days: As for `lifecycle_rules`.

    Returns:
        Whether the rules were not there already.

    Raises:
        ConfigError: As for `lifecycle_rules`; the rules of the provider can't be set from here, as on Azure; or something
            that isn't temporary lies among what would expire.
        BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: See there.
    """
    rules = lifecycle_rules(storage, days=days)
    transport = await storage.transport()
    return await transport.apply_lifecycle(storage.keys, rules)
