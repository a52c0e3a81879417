"""The lifecycle rules of Google Cloud Storage."""

from asyncio import Semaphore
from collections.abc import Mapping, Sequence
from typing import Any

from lakery_cloud.engine.keys import Address, KeySpace
from lakery_cloud.engine.lifecycle import BucketRules, Rule
from lakery_cloud.providers.gcs.requests import GCSRequests


def lifecycle_rules(keys: KeySpace, days: int) -> dict[str, Any]:
    """The configuration for `gcloud storage buckets update --lifecycle-file`: temporary objects and parts expire.

    In a bucket that keeps versions, the rule deletes noncurrent versions too, since it doesn't say `isLive` (Cloud
    Storage, "Object Lifecycle Management"). Uploads need no rule: AbortIncompleteMultipartUpload applies to the XML
    API, and resumable uploads expire after a week.
    """
    condition = {"age": days, "matchesPrefix": [keys.temporary_root]}
    return {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}


class GCSLifecycleRequests:
    """Reads and writes the rules of one bucket.

    Args:
        api: Sends the requests.
        limiter: Limits concurrent requests.
        keys: The storage's keys.
        ours: The storage's rules.
    """

    def __init__(self, api: GCSRequests, limiter: Semaphore, keys: KeySpace, ours: Sequence[Rule]) -> None:
        self._api = api
        self._limiter = limiter
        self._address = Address(keys.bucket, keys.temporary_root)
        self._ours = ours

    async def read(self) -> BucketRules:
        async with self._limiter:
            return await self._api.rules(self._address)

    async def write(self, rules: Sequence[Rule], version: Any) -> None:
        async with self._limiter:
            await self._api.set_rules(self._address, rules, version)

    def has_ours(self, rules: Sequence[Rule]) -> bool:
        return all(ours in rules for ours in self._ours)

    def with_ours(self, rules: Sequence[Rule]) -> Sequence[Rule]:
        # Rules have no names here: an older one of ours differs in its age alone.
        ours = [_without(rule, "age") for rule in self._ours]
        others = [rule for rule in rules if "age" not in rule["condition"] or _without(rule, "age") not in ours]
        return [*others, *self._ours]

    def has_lost_filters(self, rules: Sequence[Rule]) -> bool:
        ours = [_without(rule, "matchesPrefix") for rule in self._ours]
        return any(rule in ours for rule in rules)


def _without(rule: Rule, condition: str) -> Mapping[str, Any]:
    """A rule without one of its conditions."""
    conditions = {name: value for name, value in rule["condition"].items() if name != condition}
    return {**rule, "condition": conditions}
