"""The environment of whoever runs the tests: kept from them, and given back to those that use real accounts."""

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
    "NO_GCE_CHECK",
    "STORAGE_",
)
"""What the variables start with that configure a cloud's SDK, or our command."""


def _configuration() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}


USERS = _configuration()
"""As it was when the tests were collected."""


def take_away(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    """Leave neither credentials nor settings of the user."""
    for name in _configuration():
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(nowhere))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back what `take_away` took."""
    for name in _configuration():
        monkeypatch.delenv(name)
    for name, value in USERS.items():
        monkeypatch.setenv(name, value)
