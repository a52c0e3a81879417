"""The lifecycle rules of Google Cloud Storage."""

from collections.abc import Mapping, Sequence
from typing import Any


def _rules(bucket: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The lifecycle rules in what is said about a bucket."""
    rules: Sequence[Mapping[str, Any]] = bucket.get("lifecycle", {}).get("rule", ())
    return rules


def _is_for_same(rule: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a rule differs from ours in its age at most. Rules have no names here."""
    condition = rule.get("condition", {})
    return "age" in condition and {**rule, "condition": {**condition, "age": ours["condition"]["age"]}} == ours
