"""The checks of the built site in a headless Chromium notice what is wrong. `make docs` runs them on the site itself."""

from pathlib import Path

import pytest

from tools.browser import Page, find_chromium
from tools.browser_checks import RESULTS, problems, serve
from tools.site_checks import FOUND

CHROMIUM = find_chromium()
pytestmark = [pytest.mark.docs, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]

SEARCH = """<!doctype html><meta name="viewport" content="width=device-width">
<div class="md-search-result__meta"></div><ol></ol><a class="md-footer__link"></a>
<script>
  const pages = %s[new URLSearchParams(location.search).get("q")] ?? [];
  setTimeout(() => {
    document.querySelector("ol").innerHTML = pages.map(
      each => `<li class="md-search-result__item"><a href="${each}?h=x#here"></a></li>`).join("");
    document.querySelector(".md-search-result__meta").textContent = `${pages.length} matching documents`;
  }, 100);
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = () => { document.body.dataset.mdColorScheme = system.matches ? "slate" : "default"; };
  addEventListener("load", show);
  system.addEventListener("change", show);
</script>"""
"""A page that searches and turns dark as those of the site do."""


def site(folder: Path, found: dict[str, list[str]], **pages: str) -> Path:
    (folder / "index.html").write_text(SEARCH % found, "utf-8")
    for name, body in pages.items():
        (folder / name).mkdir()
        (folder / name / "index.html").write_text(
            f'<!doctype html><meta name="viewport" content="width=device-width">{body}', "utf-8"
        )
    return folder


LINK = '<a class="md-footer__link"></a>'


def test_good_site_has_no_problem(tmp_path: Path) -> None:
    found = {word: ["/first/", f"/{page}"] for word, page in FOUND.items()}
    assert list(problems(site(tmp_path, found, one=LINK), CHROMIUM)) == []


def test_problems_are_noticed(tmp_path: Path) -> None:
    found = {word: ["/1/", "/2/", "/3/", f"/{page}"] for word, page in FOUND.items()}
    wide = f"<div style='width: 500px'>wide</div>{LINK}"
    noticed = list(problems(site(tmp_path, {**found, "qqxyzzyqq": ["/1/"]}, wide=wide, last=""), CHROMIUM))
    assert [each.partition(" does not")[0] for each in noticed[: len(FOUND)]] == [
        f"a search for {word!r}" for word in FOUND
    ]
    assert noticed[len(FOUND) :] == [
        "a search for an unknown word finds ['/1/']",
        "last/ has no link to the previous or next page",
        "wide/ is wider than 390 px",
    ]


def test_refused_call_is_an_error() -> None:
    with Page.open(CHROMIUM) as page:
        with pytest.raises(ConnectionError, match="No.Such"):
            page.call("No.Such")
        assert page.evaluate(f"{RESULTS}.length + 1") == 1


def test_waiting_ends(tmp_path: Path) -> None:
    site(tmp_path, {})
    with serve(tmp_path) as url, Page.open(CHROMIUM) as page:
        page.go(f"{url}/")
        assert page.wait_for("false", timeout=0.1) is False
