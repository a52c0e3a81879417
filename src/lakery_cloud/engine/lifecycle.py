"""What applying lifecycle rules has in common on every cloud."""

from lakery_cloud.engine.keys import KeySpace, is_temporary
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import (
    ConfigError,
    StorageUnavailable,
)

LIFECYCLE_ATTEMPTS = 5
"""How often to look for rules that were set, which may show later, and to set them if somebody else changes others."""


async def check_only_temporary(transport: Transport, keys: KeySpace) -> None:
    """Refuse to let objects expire among which there is content, of a storage whose prefix is our temporary folder.

    Raises:
        ConfigError: An object below the temporary root has no temporary key.
    """
    async for info in transport.list(keys.bucket, keys.temporary_root):
        if not is_temporary(info.address.key):
            raise ConfigError(
                f"{info.address} is not temporary, but would expire with all that lies below {keys.temporary_root!r}; "
                "move it away first. Nothing was changed"
            )


def not_kept(bucket: str) -> StorageUnavailable:
    """The error for rules that were accepted, but don't show."""
    return StorageUnavailable(
        f"the lifecycle rules that were set are not among those of the bucket {bucket!r}: the store keeps none, or "
        "somebody else set others at the same moment. Apply them again"
    )
