"""The pages of docs/ that `make pages` generates from the code. Needs every SDK."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tools.settings_page import settings_page

DOCS = Path(__file__).parents[1] / "docs"
PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
}
"""Name of the file -> its text."""

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), "utf-8")
