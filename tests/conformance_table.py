"""Writes docs/conformance-results.md from a test run: each case on each storage and server, and why tests are left out.

`make test` requests it with `--conformance-table`; a run of only some tests must not, since it would drop the others.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CASES = Path(__file__).parent.parent / "docs" / "conformance.md"
HEAD = """# Conformance results

Written by `make test`: each case of the [conformance suite](conformance.md) on each storage and server. "yes" means that all tests of
the case passed. A number refers to a note below, which says why a test was left out on that server. A dash means that the case concerns
another storage's API, or is tested on another server of the same cloud. "Also" names the storage layers that test the case themselves:
A arrow object_store, G go-cloud, I icechunk, K kopia, O opendal, R restic, Z zarr; "nobody" if none of them does, empty if not known.
"""
ELSEWHERE = {
    **dict.fromkeys((3, 6, 9, 17, 18, 20, 21, 26, 29, 30, 31, 32, 33, 35, 40, 41), "nobody"),
    1: "A G K O Z",
    2: "K",
    4: "A",
    5: "A",
    8: "A",
    10: "A G O",
    11: "K",
    12: "A G",
    13: "G",
    14: "I",
    16: "R",
    19: "R",
    24: "A R",
    25: "A",
    27: "A R",
    28: "I",
    34: "K",
    45: "I Z",
}
"""Case -> the storage layers that test it too, in whole or in part."""


@dataclass
class Result:
    """Outcomes of the tests of one case on one rig."""

    passed: int = 0
    failed: int = 0
    reasons: set[str] = field(default_factory=set)


def note_case(request: pytest.FixtureRequest, rig: str) -> None:
    """Record case and rig of a test in its report, which xdist sends to the main process."""
    request.node.user_properties.append(("rig", rig))
    for marker in request.node.iter_markers("case"):
        request.node.user_properties.append(("case", marker.args[0]))


def write_table(path: Path, reports: Iterable[pytest.TestReport]) -> None:
    """Write the table of all reports that carry a case and a rig."""
    results: dict[str, dict[str, Result]] = defaultdict(lambda: defaultdict(Result))
    for report in reports:
        properties = dict(report.user_properties)
        if "case" not in properties or "rig" not in properties:
            continue
        result = results[str(properties["case"])][str(properties["rig"])]
        if report.skipped:
            result.reasons.add(_reason(report))
        elif report.failed:
            result.failed += 1
        elif report.when == "call":
            result.passed += 1
    path.write_text(_page(results))


def _page(results: Mapping[str, Mapping[str, Result]]) -> str:
    rigs = sorted({rig for of_case in results.values() for rig in of_case})
    reasons = sorted(
        {reason for of_case in results.values() for result in of_case.values() for reason in result.reasons}
    )
    texts = dict(re.findall(r"^\| (\d+) \| (.+) \|$", CASES.read_text(), re.MULTILINE))
    lines = [HEAD, f"| case | what must hold | also | {' | '.join(rigs)} |", "|---|---|---|" + "---|" * len(rigs)]
    for case in sorted(results, key=int):
        cells = [_cell(results[case].get(rig), reasons) for rig in rigs]
        lines.append(f"| {case} | {texts.get(case, '')} | {ELSEWHERE.get(int(case), '')} | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))]
    return "\n".join(lines).rstrip() + "\n"


def _cell(result: Result | None, reasons: list[str]) -> str:
    if result is None:
        return "-"
    notes = ", ".join(str(reasons.index(reason) + 1) for reason in sorted(result.reasons))
    if result.failed:
        return "**fails**"
    if not result.passed:
        return notes
    return f"yes ({notes})" if notes else "yes"


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
