"""Each promise of SECURITY.md names tests that hold it: they exist, and are not skipped everywhere."""

import ast
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("Store and network", "Records and names", "Configuration and environment", "Other users of the machine")
HEAD = ["promise", "tests"]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@dataclass(frozen=True)
class Promise:
    """A row of a table of SECURITY.md."""

    part: str
    text: str
    tests: str


def sections(text: str) -> dict[str, str]:
    """Return heading -> the text below it, of the second and third level."""
    found = re.split(r"^#{2,3} (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def promises(text: str) -> list[Promise]:
    found = []
    for part in PARTS:
        rows = [line for line in sections(text).get(part, "").splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in row.strip().strip("|").split(" | ")] for row in rows]
        assert cells[:1] == [HEAD], f"{part} has no table of promises"
        for row in cells[2:]:
            assert len(row) == 2, row
            found.append(Promise(part, *row))
    return found


@functools.cache
def functions(file: str) -> dict[str, ast.AST]:
    """Return the tests of a file by name; those that never run are left out."""
    path = ROOT / file
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text("utf-8"))
    if any(is_skip(node.value) for node in ast.walk(tree) if isinstance(node, ast.Assign) and is_pytestmark(node)):
        return {}
    return dict(running(tree.body))


def running(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not any(map(is_skip, node.decorator_list)):
            yield from running(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            statements = [
                each.value
                for each in node.body
                if isinstance(each, ast.Expr) and not isinstance(each.value, ast.Constant)
            ]
            begins_with_skip = bool(statements[:1]) and ast.unparse(statements[0]).startswith("pytest.skip(")
            if not any(map(is_skip, node.decorator_list)) and not begins_with_skip:
                yield node.name, node


def is_pytestmark(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def is_skip(mark: ast.expr) -> bool:
    """Whether a mark, or one of a list, skips its tests, or expects them to fail, on every machine."""
    if isinstance(mark, ast.List | ast.Tuple):
        return any(map(is_skip, mark.elts))
    name, _, _ = ast.unparse(mark).partition("(")
    if name == "pytest.mark.skipif":
        condition = mark.args[0] if isinstance(mark, ast.Call) and mark.args else ast.Constant(True)
        return isinstance(condition, ast.Constant) and bool(condition.value)
    return name in ("pytest.mark.skip", "pytest.mark.xfail", "pytest.mark.full_size", "unittest.skip")


def faults(text: str, tests_of: Callable[[str], dict[str, ast.AST]] = functions) -> list[str]:
    """Say what the promises lack."""
    found = []
    for promise in promises(text):
        named = TEST.findall(promise.tests)
        if not named:
            found.append(f"no test: {promise.text}")
        leftover = TEST.sub("", promise.tests).strip(" ,;")
        if leftover:
            found.append(f"no test id: {leftover}")
        for file, name in named:
            if not tests_of(file) or (name and name not in tests_of(file)):
                found.append(f"no test that runs: {file}::{name}")
    found += [
        f"{part} does not say what is not promised"
        for part in PARTS
        if "**Not promised**" not in sections(text).get(part, "")
    ]
    return found


def security() -> str:
    return (ROOT / "SECURITY.md").read_text("utf-8")


def test_each_promise_has_a_test_that_runs() -> None:
    assert faults(security()) == []


def test_each_part_has_promises() -> None:
    assert {promise.part for promise in promises(security())} == {*PARTS}
    assert len(promises(security())) > 30


@pytest.mark.parametrize(
    ("tests", "fault"),
    [
        ("", "no test: text"),
        ("soon", "no test: text"),
        ("`test_each_part_has_promises`", "no test: text"),
        ("`tests/security/test_threat_model.py::test_that_is_missing`", "no test that runs"),
        ("`tests/security/test_missing.py`", "no test that runs"),
        ("`tests/security/test_threat_model.py::security`", "no test that runs"),
        ("`tests/security/test_threat_model.py::test_each_part_has_promises`, and more", "no test id: and more"),
    ],
)
def test_fault_is_found(tests: str, fault: str) -> None:
    tables = "\n".join(f"## {part}\n\n| promise | tests |\n|---|---|\n\n**Not promised**\n" for part in PARTS)
    assert faults(tables) == []
    broken = tables.replace("|---|---|\n", f"|---|---|\n| text | {tests} |\n", 1)
    assert any(found.startswith(fault) for found in faults(broken))


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.skip\ndef test_a(): ...",
        "@pytest.mark.skip(reason='later')\nasync def test_a(): ...",
        "@pytest.mark.skipif(True, reason='later')\ndef test_a(): ...",
        "@pytest.mark.xfail(strict=True)\ndef test_a(): ...",
        "def test_a():\n    'Says why.'\n    pytest.skip('later')",
        "@pytest.mark.skip\nclass TestAll:\n    def test_a(self): ...",
        "pytestmark = [pytest.mark.skip]\ndef test_a(): ...",
        "pytestmark = pytest.mark.skip(reason='later')\ndef test_a(): ...",
        "def a(): ...",
    ],
)
def test_test_that_never_runs_is_none(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_file.py").write_text(source)
    assert functions(str(tmp_path / "test_file.py")) == {}


def test_test_that_runs_somewhere_counts(tmp_path: Path) -> None:
    source = "@pytest.mark.skipif(sys.platform == 'win32', reason='x')\nclass TestAll:\n    async def test_a(self): ..."
    (tmp_path / "test_file.py").write_text(source)
    assert set(functions(str(tmp_path / "test_file.py"))) == {"test_a"}
