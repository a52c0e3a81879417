"""The user's environment: removed for all tests, and restored for tests on real accounts."""

import os
from pathlib import Path

import pytest

PREFIXES = (
    "AWS_",
    "AZURE_",
    "CLOUDSDK_",
    "GCLOUD_",
    "GCSFS_",
    "GOOGLE_",
    "LAKERY_CLOUD_CONFIG",
    "LAKERY_CLOUD_DEFAULT",
    "LAKERY_CLOUD_RETIRED",
    "LAKERY_CLOUD_ROUTES",
    "LAKERY_CLOUD_STORAGE",
    "LAKERY_CLOUD_TEST_",
    "NO_GCE_CHECK",
    "STORAGE_",
)
"""Prefixes of variables that configure an SDK, our command (which takes any LAKERY_CLOUD_ for its own) or the tests."""


def _configuration() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}


USERS = _configuration()
"""The user's variables at the start."""


def take_away(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    """Remove the credentials and settings of the user."""
    for name in _configuration():
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(nowhere))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the variables that `take_away` removed."""
    for name in _configuration():
        monkeypatch.delenv(name)
    for name, value in USERS.items():
        monkeypatch.setenv(name, value)
