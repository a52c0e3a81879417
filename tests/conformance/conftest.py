"""Leaves out tests that show the same on another server of their cloud."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if _can_differ(item)]


def _can_differ(item: pytest.Item) -> bool:
    pair = getattr(item, "callspec", None) and item.callspec.params.get("rig")  # type: ignore[attr-defined]
    only = getattr(pair, "only", None)
    return not only or item.originalname in only  # type: ignore[attr-defined]
