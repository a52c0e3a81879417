"""The tables of docs/scale.md, made from the results of `make bench-scale`."""

import json
import statistics
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.null_server import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "scale.json"
PAGE = REPOSITORY / "docs" / "scale.md"
BEGIN, END = "<!-- figures: make bench-scale -->", "<!-- end of figures -->"
HEAD = (
    "| what | who | objects | seconds | objects a second | client, ms | server, ms | peak MB |\n"
    "|---|---|---|---|---|---|---|---|"
)
COLUMNS = (
    "The peak is that of the process that plans and lists. *Client* and *server*: their CPU time for an object. Their sum, "
    "multiplied by the objects a second, says how many cores were busy: if these are nearly all of the machine, more "
    "processes gain nothing there."
)
TITLES = {
    "simulated": "A simulated bucket, whose keys are made from their numbers",
    "null": "A null server, which takes little of the processor, with objects of 1 KiB",
    "real": "SeaweedFS on the same machine, with objects of 1 KiB",
    "before": "Today's code beside that of before there were shards and engines, objects of 1 KiB, medians of turns",
    "killed": "Jobs that are killed and resumed, on SeaweedFS, with a copy to Azurite",
}


def rows_of(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the cells of the table."""
    return [
        (
            result["what"],
            result["who"],
            f"{result['of']:,}",
            f"{result['seconds']:.1f}",
            f"{result['objects'] / result['seconds']:,.0f}" if "objects" in result else f"{result['shards']} shards",
            *(_milliseconds(result, name) for name in ("client cpu", "server cpu")),
            f"{result['peak'] / 1e6:.0f}" if "peak" in result else "",
        )
        for result in results
    ]


def _milliseconds(result: dict[str, Any], name: str) -> str:
    return f"{result[name] / result['objects'] * 1000:.2f}" if name in result else ""


def figures(results: Path = RESULTS) -> str:
    """Return the part of the page between its marks, made from a file of results."""
    if not results.exists():
        return "Not measured yet."
    document = json.loads(results.read_text("utf-8"))
    machine = document["machine"]
    computer = f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    parts = [f"{computer}. {COLUMNS}"]
    for part, grouped in groupby(document["results"], key=lambda result: result["part"]):
        of_part = [*grouped]
        rows = "\n".join(f"| {' | '.join(row)} |" for row in rows_of(of_part))
        title = f"{TITLES[part]} (measured on {of_part[0]['date']}):"
        parts += [title, f"{HEAD}\n{rows}", *_ratios(of_part), *_kills(of_part)]
    return "\n\n".join(parts)


def _ratios(results: Sequence[dict[str, Any]]) -> list[str]:
    """A list of how many times the rate of before each result has, in the median and in single turns."""
    lines = [
        f"- {result['what']}, {result['who']}: {statistics.median(ratios):.1f} times the rate of before "
        f"({min(ratios):.1f} to {max(ratios):.1f} in single turns)."
        for result in results
        if len({*(ratios := result.get("ratios", []))}) > 1  # it is always 1 for the code of before itself
    ]
    return ["\n".join(lines)] if lines else []


def _kills(results: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each job that was killed."""
    return [
        f"`{result['what']}`: a worker was killed with {in_flight} shards in flight, of which {again} had begun again when "
        f"the whole run was killed. Of the {left} that were in flight then, {redone} were done again; no shard of the "
        "manifest was. The report is that of one process."
        for result in results
        if "worker" in result
        for (in_flight, again), (left, redone) in [(result["worker"], result["run"])]
    ]


def with_figures(page: str, results: Path = RESULTS) -> str:
    """Return a page with the figures of a file of results."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{figures(results)}\n\n{END}{after}"


def write_page() -> None:
    """Write the page."""
    PAGE.write_text(with_figures(PAGE.read_text("utf-8")), "utf-8")
