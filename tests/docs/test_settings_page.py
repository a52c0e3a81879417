"""The page of settings agrees with the code."""

from pathlib import Path

import pytest

from tools.settings_page import settings_page

pytestmark = pytest.mark.docs

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_settings_reference_is_current() -> None:
    assert PAGE.read_text("utf-8") == settings_page(), "docs/settings.md is not current: run `make settings`"
