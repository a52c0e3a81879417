"""Links between pages lead to files and headings, in Markdown and in the built site."""

import json
import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from tests.docs.test_examples import PAGES, blocks_of
from tools.site_checks import FOUND, broken_links, missing_words

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
REPOSITORY = re.compile(
    r"https://github\.com/lakery-cloud/lakery-cloud/(?:blob|tree)/main/|https://raw\.githubusercontent\.com/lakery-cloud/lakery-cloud/main/"
)
"""The beginning of links to the repository."""
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)\)")


def prose_of(page: str, root: Path = ROOT) -> str:
    """The page without its code."""
    lines = (root / page).read_text("utf-8").splitlines()
    for block in blocks_of(page, root):
        end = block.line + block.source.count("\n")
        lines[block.line - 1 : end + 1] = [""] * (end + 2 - block.line)
    return re.sub(r"`[^`\n]+`", "code", "\n".join(lines))


def anchors_of(page: str, root: Path = ROOT) -> AbstractSet[str]:
    """The anchors of the headings of a page, as mkdocs and GitHub make them."""
    lines = (root / page).read_text("utf-8").splitlines()
    for block in blocks_of(page, root):
        for number in range(block.line, block.line + block.source.count("\n")):
            lines[number] = ""
    headings = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", line.lstrip("# ")) for line in lines if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def problems_of(page: str, root: Path = ROOT) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for target in (found["target"] for found in LINK.finditer(prose_of(page, root))):
        inside = REPOSITORY.match(target)
        if not inside and re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.removeprefix(inside[0] if inside else "").partition("#")
        file = (root if inside else (root / page).parent) / path if path else root / page
        if not file.exists():
            yield f"{page} links to {target}, which does not exist"
        elif anchor and file.suffix == ".md":
            name = str(file.resolve().relative_to(root.resolve()))
            if not name.startswith("docs/reference/") and anchor not in anchors_of(name, root):
                yield f"{page} links to {target}, but that page has no such heading"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    assert list(problems_of(page)) == []


def test_pages_have_links_at_all() -> None:
    assert sum(len(LINK.findall(prose_of(page))) for page in PAGES) > 300


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("[a](gone.md)", "which does not exist"),
        ("[`a`](index.md#gone)", "no such heading"),
        ("[a](https://github.com/lakery-cloud/lakery-cloud/blob/main/docs/gone.md)", "which does not exist"),
        ("[a](https://github.com/lakery-cloud/lakery-cloud/blob/main/docs/gc.md#gone)", "no such heading"),
        ("![a](pictures/gone.svg)", "which does not exist"),
    ],
)
def test_a_broken_link_is_noticed(link: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("index.md", "gc.md"):
        (tmp_path / "docs" / name).write_text("# A page\n\n## The costs, in `USD`\n", "utf-8")
    (tmp_path / "docs" / "page.md").write_text(
        f"{link}\n[b](gc.md#the-costs-in-usd)\n```text\n[c](d.md)\n```\n", "utf-8"
    )
    (found,) = problems_of("docs/page.md", tmp_path)
    assert problem in found


# The hook of the built site.


def site(folder: Path, **texts: str) -> Path:
    """A small site; its pages have these bodies."""
    for name, body in texts.items():
        (folder / name).mkdir()
        (folder / name / "index.html").write_text(f"<html><body>{body}</body></html>", "utf-8")
    return folder


def test_links_of_the_site_are_checked(tmp_path: Path) -> None:
    site(
        tmp_path,
        one='<h2 id="here">x</h2><a href="../two/#there">a</a><a href="../two/">b</a><a href="#here">c</a>'
        '<a href="https://example.com/#x">d</a><a href="mailto:a@example.com">e</a>',
        two='<h2 id="there">x</h2><a href="../three/">a</a><a href="../one/#gone">b</a><img src="gone.svg">',
    )
    assert sorted(problem.partition(", ")[0] for problem in broken_links(tmp_path)) == [
        "two/index.html links to ../one/#gone",
        "two/index.html links to ../three/",
        "two/index.html links to gone.svg",
    ]


def test_words_of_the_search_are_checked(tmp_path: Path) -> None:
    docs = [{"location": f"{page}#section", "title": "", "text": f"<p>({word})"} for word, page in FOUND.items()]
    (tmp_path / "search").mkdir()
    index = tmp_path / "search" / "search_index.json"
    index.write_text(json.dumps({"docs": docs}), "utf-8")
    assert list(missing_words(tmp_path)) == []
    docs[0]["text"] = "parquets"
    index.write_text(json.dumps({"docs": docs}), "utf-8")
    assert list(missing_words(tmp_path)) == ["a search for 'parquet' does not find recipes/tables/"]
