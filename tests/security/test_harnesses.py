"""No test, double or benchmark catches errors so broadly that it could swallow its own mistakes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests", "benchmarks", "tools", "src/lakery_cloud/testing")
BROAD = {"Exception", "BaseException"}
HINTS = ("Exception", "except:", "return_exceptions")
"""A file without these texts catches nothing broadly, so that most files need no parser."""
REPORTED = {
    ("benchmarks/client.py", "serve"): "the harness prints the error as the result of the client",
    ("benchmarks/client.py", "measured"): "the harness prints the error as the result of the client",
    ("tests/soak/load.py", "_work"): "an error that is not ours counts as a loss, which fails the soak",
    ("tests/security/test_hostile_records.py", "test_malformed_storage_data_is_refused_before_any_request"): "raises",
    ("src/lakery_cloud/testing/faults/flows.py", "_receive"): "raised again as a closed connection",
}
"""File and function -> what it does with any error that it catches."""


def names(node: ast.AST | None) -> set[str]:
    """The names in an expression of exception classes."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if node is not None else {"BaseException"}


def called(node: ast.AST) -> str:
    """The last name of a called function."""
    function = node.func if isinstance(node, ast.Call) else None
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def drops_errors(node: ast.AST) -> bool:
    """Whether a statement waits for tasks and throws their errors away."""
    waited = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Await) else None
    return (
        waited is not None
        and called(waited) == "gather"
        and any(keyword.arg == "return_exceptions" for keyword in waited.keywords)
    )


def broad(tree: ast.AST, function: str = "") -> Iterator[tuple[str, int, str]]:
    """Yield function, line and kind of each place that catches any error."""
    for node in ast.iter_child_nodes(tree):
        inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(node, ast.ExceptHandler) and names(node.type) & BROAD:
            yield inner, node.lineno, "except"
        elif called(node) in ("suppress", "raises") and any(names(each) & BROAD for each in node.args):
            yield inner, node.lineno, called(node)
        elif drops_errors(node):
            yield inner, node.lineno, "gather"
        yield from broad(node, inner)


def found_in(file: Path) -> list[tuple[str, int, str]]:
    text = file.read_text("utf-8")
    return [*broad(ast.parse(text))] if any(hint in text for hint in HINTS) else []


def test_only_what_reports_all_errors_catches_all() -> None:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 200
    found = {
        (str(file.relative_to(ROOT)), function): f"{file.relative_to(ROOT)}:{line} catches any error by {kind}"
        for file in files
        for function, line, kind in found_in(file)
    }
    assert [text for place, text in found.items() if place not in REPORTED] == []
    assert [place for place in REPORTED if place not in found] == []


@pytest.mark.parametrize(
    "source",
    [
        "try: x()\nexcept Exception: pass",
        "try: x()\nexcept (ValueError, Exception) as error: print(error)",
        "try: x()\nexcept BaseException: ...",
        "try: x()\nexcept: ...",
        "try: x()\nexcept* Exception: ...",
        "with suppress(Exception): x()",
        "with contextlib.suppress(KeyError, BaseException): x()",
        "with pytest.raises(Exception): x()",
        "with pytest.raises((ValueError, Exception), match='x'): x()",
        "async def f():\n    await asyncio.gather(*tasks, return_exceptions=True)",
    ],
)
def test_broad_place_is_found(source: str, tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(source)
    assert len(found_in(tmp_path / "file.py")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try: x()\nexcept ValueError: pass",
        "with suppress(LakeryCloudError): x()",
        "with pytest.raises(ExpiredToken): x()",
        "async def f():\n    return await asyncio.gather(*tasks, return_exceptions=True)",
        "async def f():\n    await asyncio.gather(*tasks)",
    ],
)
def test_narrow_place_is_none(source: str, tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(source)
    assert found_in(tmp_path / "file.py") == []
