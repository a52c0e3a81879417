"""The generated pages agree with the code."""

import pytest

from tools.pages import DOCS, PAGES

pytestmark = pytest.mark.docs


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == PAGES[name](), f"docs/{name} is not current: run `make pages`"
