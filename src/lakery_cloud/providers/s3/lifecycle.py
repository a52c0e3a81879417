"""The lifecycle rules of Amazon S3."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from lakery_cloud.engine.keys import KeySpace

MAX_RULE_ID = 255
"""Characters; S3 API Reference, "LifecycleRule"."""


def _rule_id(purpose: str, keys: KeySpace) -> str:
    """The name of a rule, another one for each prefix; permanent, since by it the rule is found again."""
    rule_id = f"{purpose} below /{quote(keys.prefix)}"
    if len(rule_id) > MAX_RULE_ID:
        rule_id = f"{purpose} below {hashlib.sha256(keys.prefix.encode()).hexdigest()}"
    return rule_id


def _has_rules(there: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each of our rules is there as it should be."""
    return all(rule in [{**each, "Filter": _filter(each)} for each in there] for rule in ours)


def _has_other_filters(there: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of our rules is there, but for other keys."""
    filters = {rule["ID"]: rule["Filter"] for rule in ours}
    return any(_filter(rule) != filters.get(rule.get("ID"), _filter(rule)) for rule in there)


def _filter(rule: Mapping[str, Any]) -> dict[str, Any]:
    """The filter of a rule; one without a prefix is for all keys."""
    return {"Prefix": "", **rule.get("Filter", {})}
