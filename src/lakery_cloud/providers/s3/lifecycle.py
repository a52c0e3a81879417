"""The lifecycle rules of Amazon S3."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from lakery_cloud.engine.keys import Address, KeySpace
from lakery_cloud.engine.lifecycle import BucketRules, Rule
from lakery_cloud.engine.model import KeyMissing, without_none
from lakery_cloud.errors import ConfigError, LakeryCloudError

MAX_RULE_ID = 255
"""Characters; S3 API Reference, "LifecycleRule"."""
VERSIONS = "NoncurrentVersionExpiration"
"""Part of a rule; S3 User Guide, "Lifecycle configuration elements". It also removes expired delete markers."""


def lifecycle_rules(keys: KeySpace, days: int) -> dict[str, Any]:
    """The configuration for `aws s3api put-bucket-lifecycle-configuration`: temporary objects and uploads expire.

    Uploads end below the whole prefix, since a large copy is an upload to a content key. Objects expire below the
    temporary root alone, and in a bucket that keeps versions, so do the versions of deleted ones.
    """
    return {
        "Rules": [
            {
                "ID": _rule_id("lakery-cloud temporary keys", keys),
                "Status": "Enabled",
                "Filter": {"Prefix": keys.temporary_root},
                "Expiration": {"Days": days},
                VERSIONS: {"NoncurrentDays": days},
            },
            {
                "ID": _rule_id("lakery-cloud incomplete uploads", keys),
                "Status": "Enabled",
                "Filter": {"Prefix": keys.root},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
            },
        ]
    }


def _rule_id(purpose: str, keys: KeySpace) -> str:
    """A name for each prefix; permanent, since it finds the rule again."""
    rule_id = f"{purpose} below /{quote(keys.prefix)}"
    if len(rule_id) > MAX_RULE_ID:
        rule_id = f"{purpose} below {hashlib.sha256(keys.prefix.encode()).hexdigest()}"
    return rule_id


class S3LifecycleRequests:
    """Reads and writes the rules of one bucket. S3 has no condition for this: a concurrent change can be lost.

    Args:
        call: Calls an operation on the bucket: name, address, parameters.
        keys: The storage's keys.
        ours: The storage's rules.
    """

    def __init__(self, call: Callable[..., Awaitable[Mapping[str, Any]]], keys: KeySpace, ours: Sequence[Rule]) -> None:
        self._call = call
        self._address = Address(keys.bucket, keys.temporary_root)
        self._ours = ours
        self._is_written = False

    async def read(self) -> BucketRules:
        try:
            answer = await self._call("get_bucket_lifecycle_configuration", self._address)
        except KeyMissing:
            return BucketRules([], {})
        size = answer.get("TransitionDefaultMinimumObjectSize")
        return BucketRules(answer.get("Rules", []), without_none(TransitionDefaultMinimumObjectSize=size))

    async def write(self, rules: Sequence[Rule], version: Any) -> None:
        if not rules:  # a configuration must have one
            await self._call("delete_bucket_lifecycle", self._address)
            return
        try:
            await self._put(rules, version)
        except LakeryCloudError as refusal:
            ours = [_without_versions(rule) for rule in rules if rule in self._ours]
            if not (type(refusal) is LakeryCloudError or isinstance(refusal, ConfigError)) or not ours:
                raise
            await self._put([*(rule for rule in rules if rule not in self._ours), *ours], version)
        self._is_written = True

    async def _put(self, rules: Sequence[Rule], version: Any) -> None:
        await self._call(
            "put_bucket_lifecycle_configuration", self._address, LifecycleConfiguration={"Rules": rules}, **version
        )

    def has_ours(self, rules: Sequence[Rule]) -> bool:
        found = [{**rule, "Filter": _filter(rule)} for rule in rules]
        # A store without versions may refuse or drop that part.
        return all(ours in found or (self._is_written and _without_versions(ours) in found) for ours in self._ours)

    def with_ours(self, rules: Sequence[Rule]) -> Sequence[Rule]:
        names = {rule["ID"] for rule in self._ours}
        return [*(rule for rule in rules if rule.get("ID") not in names), *self._ours]

    def has_lost_filters(self, rules: Sequence[Rule]) -> bool:
        filters = {rule["ID"]: rule["Filter"] for rule in self._ours}
        return any(_filter(rule) != filters.get(rule.get("ID"), _filter(rule)) for rule in rules)


def _without_versions(rule: Rule) -> Rule:
    return {name: value for name, value in rule.items() if name != VERSIONS}


def _filter(rule: Rule) -> dict[str, Any]:
    """The filter of a rule; a rule without a prefix is for all keys."""
    return {"Prefix": "", **rule.get("Filter", {})}
