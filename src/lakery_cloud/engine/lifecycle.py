"""Puts a storage's lifecycle rules among those of its bucket, the same way on every cloud."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from lakery_cloud.engine.keys import KeySpace, is_temporary
from lakery_cloud.engine.model import VersionChanged
from lakery_cloud.engine.requests import backoff
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError, StorageUnavailable

ATTEMPTS = 5
"""Attempts to set rules that others change at the same time, and to see rules that a store shows late."""

Rule = Mapping[str, Any]


class BucketRules(NamedTuple):
    """The lifecycle rules of a bucket.

    Attributes:
        rules: All of them.
        version: Passed back with a change: a version that it depends on, or settings that it must keep.
    """

    rules: Sequence[Rule]
    version: Any


class LifecycleRequests(Protocol):
    """One provider's requests and rules."""

    async def read(self) -> BucketRules:
        """The bucket's rules."""

    async def write(self, rules: Sequence[Rule], version: Any) -> None:
        """Replace the bucket's rules.

        Raises:
            VersionChanged: They are no longer those that were read.
        """

    def has_ours(self, rules: Sequence[Rule]) -> bool:
        """Whether our rules are among these."""

    def with_ours(self, rules: Sequence[Rule]) -> Sequence[Rule]:
        """These rules with ours, which replace older ones of the same storage."""

    def has_lost_filters(self, rules: Sequence[Rule]) -> bool:
        """Whether the store has kept our rules without their filters, so that content would expire."""


async def apply_rules(requests: LifecycleRequests, transport: Transport, keys: KeySpace) -> bool:
    """Add a storage's rules to those of its bucket; return whether that changed anything.

    Raises:
        ConfigError: Objects below the temporary root are not temporary, or the store does not keep filters.
        StorageUnavailable: Others changed the rules at the same time, or the store does not show them.
    """
    before, version = await requests.read()
    if requests.has_ours(before):
        return False
    await _check_only_temporary(transport, keys)
    is_written = False
    for attempt in range(1, ATTEMPTS + 1):
        if not is_written:
            try:
                await requests.write(requests.with_ours(before), version)
                is_written = True
            except VersionChanged:  # by another client, or by an earlier attempt whose response was lost
                await asyncio.sleep(backoff(attempt))
        found, version = await requests.read()
        if requests.has_ours(found):
            return True
        if not is_written:
            before = found
            continue
        if requests.has_lost_filters(found):
            await requests.write(before, version)
            raise ConfigError(
                f"the store of bucket {keys.bucket!r} does not keep the filters of lifecycle rules, so content could "
                "expire; the earlier rules were restored. Run `lakery-cloud sweep` instead"
            )
        await asyncio.sleep(backoff(attempt))
    raise StorageUnavailable(
        f"the lifecycle rules are not among those of the bucket {keys.bucket!r} after {ATTEMPTS} attempts: the store keeps "
        "none, or another client changes them at the same time. Apply them again"
    )


async def _check_only_temporary(transport: Transport, keys: KeySpace) -> None:
    """Refuse to let content expire: that of a storage whose prefix is our temporary folder.

    Raises:
        ConfigError: An object below the temporary root has no temporary key.
    """
    async for info in transport.list(keys.bucket, keys.temporary_root):
        if not is_temporary(info.address.key):
            raise ConfigError(
                f"{info.address} is not temporary, but would expire with everything below {keys.temporary_root!r}; "
                "move it away first. Nothing was changed"
            )
