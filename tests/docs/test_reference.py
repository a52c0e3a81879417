"""Every public name has a place in the reference."""

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "lakery_cloud",
    "lakery_cloud.sync",
    "lakery_cloud.maintenance",
    "lakery_cloud.testing",
    "lakery_cloud.testing.faults",
    "lakery_cloud.emulators",
)
DIRECTIVE = re.compile(r"^::: (?P<path>\S+)\n(?P<options>(?:    .*\n)*)", re.MULTILINE)


def directives() -> Mapping[str, set[str] | None]:
    """What the pages show: a module or object -> the names of its members; None for all."""
    found: dict[str, set[str] | None] = {}
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for each in DIRECTIVE.finditer(page.read_text("utf-8")):
            members = re.search(r"members: \[(.*)\]", each["options"])
            found[each["path"]] = set(members[1].split(", ")) if members else None
    return found


def home_of(package: str, name: str) -> str:
    """The module that defines a public name, whichever packages pass it on."""
    source = Path(importlib.import_module(package).__file__ or "").read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lakery_cloud.")
        if ours and name in {alias.asname or alias.name for alias in node.names}:
            return home_of(node.module, name)
    return package


def missing(package: str, shown: Mapping[str, set[str] | None]) -> Iterator[str]:
    """The public names of a package that no page shows."""
    for name in importlib.import_module(package).__all__:
        home = home_of(package, name)
        members = shown.get(home, set())
        if f"{home}.{name}" not in shown and members is not None and name not in members:
            yield f"{home}.{name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    assert list(missing(package, directives())) == []


def test_a_missing_name_is_noticed() -> None:
    assert "lakery_cloud.records.ContentRecord" in missing("lakery_cloud", {})
    assert list(missing("lakery_cloud.sync", {"lakery_cloud.sync": {"open"}})) != []


def test_every_page_of_the_reference_is_in_its_index() -> None:
    folder = ROOT / "docs" / "reference"
    index = (folder / "index.md").read_text("utf-8")
    assert {page.name for page in folder.glob("*.md")} == {"index.md", *re.findall(r"\]\((\w+\.md)\)", index)}
