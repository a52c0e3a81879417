"""The pages of docs/ that `make pages` generates from the code. Needs every SDK."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tools.command_page import command_page
from tools.errors_page import errors_page
from tools.settings_page import settings_page
from tools.stores_page import stores_page

DOCS = Path(__file__).parents[1] / "docs"
PAGES: Mapping[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "reference/command.md": command_page,
    "settings.md": settings_page,
    "stores.md": stores_page,
}
"""Name of the file -> its text."""

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), "utf-8")
