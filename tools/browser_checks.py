"""Checks the built site in a headless Chromium, if there is one: `python -m tools.browser_checks site`.

Searches find the right pages, no page is wider than a phone, and dark mode and the links to other pages are there.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tools.browser import Page, find_chromium
from tools.site_checks import FOUND

NEAR_TOP = 3
"""A search must find the page among the first so many pages."""
PHONE = 390
WIDTHS = (PHONE, 1280)
UNKNOWN_WORD = "qqxyzzyqq"
RESULTS = "[...document.querySelectorAll('.md-search-result__item > a')].map(each => new URL(each.href).pathname)"
IS_SEARCHED = (
    "document.querySelector('.md-search-result__item, .md-search-result__meta')?.textContent.match(/found|match/)"
)


def problems(site: Path, chromium: str) -> Iterator[str]:
    """What is wrong with a site of mkdocs-material."""
    with serve(site) as url, Page.open(chromium) as page:
        for word, expected in FOUND.items():
            found = search(page, url, word)
            if f"/{expected}" not in found[:NEAR_TOP]:
                yield f"a search for {word!r} does not begin with {expected}, but with {found[:NEAR_TOP]}"
        if found := search(page, url, UNKNOWN_WORD):
            yield f"a search for an unknown word finds {found}"
        for scheme, expected in (("dark", "slate"), ("light", "default")):
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            if not page.wait_for(f"document.body.dataset.mdColorScheme === {expected!r}", timeout=5):
                yield f"the site does not turn {scheme} with the system"
        for path in sorted(site.rglob("index.html")):
            name = f"{path.parent.relative_to(site).as_posix()}/".removeprefix("./")
            page.go(f"{url}/{name}")
            yield from (f"{name or 'home'} {problem}" for problem in problems_of_page(page))


def problems_of_page(page: Page) -> Iterator[str]:
    """What is wrong with the page that is shown."""
    for width in WIDTHS:
        page.resize(width)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            yield f"is wider than {width} px"
    if not page.evaluate("document.querySelector('.md-footer__link') !== null"):
        yield "has no link to the previous or next page"


def search(page: Page, url: str, word: str) -> list[str]:
    """Return the pages that a search finds, best first."""
    page.go(f"{url}/?q={quote(word)}")
    page.wait_for(IS_SEARCHED)
    return list(dict.fromkeys(page.evaluate(RESULTS)))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print no requests."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine, and give its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main() -> int:
    """Print the problems of a site."""
    chromium = find_chromium()
    if chromium is None:
        print("no Chromium is installed: the site is not checked in a browser")
        return 0
    found = list(problems(Path(sys.argv[1]), chromium))
    print("\n".join(found) if found else "checked in Chromium: search, widths, dark mode")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
