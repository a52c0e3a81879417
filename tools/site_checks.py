"""A hook of mkdocs that checks the built site: links, anchors, the search index. A finding fails `make docs`.

`browser_checks` does the searches in a browser.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

logger = logging.getLogger("mkdocs.hooks.site_checks")

FOUND: Mapping[str, str] = {
    "parquet": "recipes/tables/",
    "garbage": "gc/",
    "403": "errors/",
    "privilege": "permissions/",
    "IntegrityError": "reference/errors/",
}
"""A word -> a page that a search for it must find."""
LINKS = {"a": "href", "img": "src", "link": "href", "script": "src", "object": "data"}
"""Element -> its attribute with a link."""


def on_post_build(config: Mapping[str, Any], **_: Any) -> None:
    """Warn of each problem. With `--strict`, a warning fails the build."""
    site = Path(config["site_dir"])
    for problem in (*broken_links(site), *missing_words(site)):
        logger.warning(problem)


def missing_words(site: Path) -> Iterator[str]:
    """The words of `FOUND` for which the search does not find their page."""
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    for word, page in FOUND.items():
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
        sections = (entry for entry in index["docs"] if entry["location"].partition("#")[0] == page)
        if not any(pattern.search(f"{entry['title']} {entry['text']}") for entry in sections):
            yield f"a search for {word!r} does not find {page}"


def broken_links(site: Path) -> Iterator[str]:
    """The links inside the site that lead to no file, or to no anchor."""
    pages = {path: _Page.read(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute, from the site's URL
            continue
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            where = path.relative_to(site)
            if not target.is_file():
                yield f"{where} links to {link}, which does not exist"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where} links to {link}, but that page has no such anchor"


class _Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()

    @classmethod
    def read(cls, path: Path) -> "_Page":
        page = cls()
        page.feed(path.read_text("utf-8"))
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        if link := values.get(LINKS.get(tag, "")):
            self.links.add(link)
