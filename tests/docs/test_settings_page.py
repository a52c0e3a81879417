"""The page of settings is what the code says."""

from pathlib import Path

import pytest

from lakery_cloud.config.reference import reference

pytestmark = pytest.mark.docs

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_settings_reference_is_current() -> None:
    assert PAGE.read_text("utf-8") == reference(), "docs/settings.md is not current: run `make settings`"
