"""`make soak MINUTES=5`: a long soak on SeaweedFS, fake-gcs-server and Azurite, with a table of its figures.

It ends with 1 if anything was lost, is left, or if memory, tasks or sockets did not come back to where they were.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lakery_cloud.emulators import Azurite, FakeGCS, SeaweedFS
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig
from tests.rigs.gcs import GCSRig
from tests.rigs.s3 import S3Rig
from tests.soak.levels import MiB, levels, settled
from tests.soak.soak import FAULTS, Figures, soak

ROUND = 30.0
WARM_UP = 15.0
"""Seconds of the same work before the levels of the start are taken: what libraries load once is not a leak."""
MEMORY_MAY_RISE = 32 * MiB

HEAD = """# The soak

Made by `make soak MINUTES={minutes:g}`: mixed load of {workers} workers on one storage for {minutes:g} minutes on each server, with faults on
its wire, and an audit around both every {round:g} seconds; [testing](testing.md#the-soak) says what it does. A loss is content that was
reported as stored and is not there byte for byte, content that nobody wrote, an object that is not whole, a wrong answer, or
an error that is not one of ours.
"""


def server_of(name: str) -> AbstractContextManager[Any]:
    """The server of a pair."""
    return {"s3-seaweedfs": SeaweedFS, "gcs-fake": FakeGCS, "azure-azurite": Azurite}[name]()


def rig_of(name: str, server: Any) -> CloudRig:
    """A new rig on a running server."""
    if name == "s3-seaweedfs":
        return S3Rig("SeaweedFS", server)
    return GCSRig("FakeGCS", server.endpoint_url) if name == "gcs-fake" else AzureRig("Azurite", server)


async def soak_on(name: str, server: Any, options: argparse.Namespace, progress: Progress) -> tuple[Figures, list[str]]:
    """Warm up, soak, and compare the levels."""
    work = {"workers": options.workers, "round_seconds": ROUND}
    seconds = options.minutes * 60
    task = progress.add_task(f"{name}: warming up", total=seconds)

    def report(figures: Figures) -> None:
        losses = len(figures.ledger.losses)
        text = f"{name}: {figures.ledger.operations.total():,} operations, {figures.faults.total():,} faults, {losses} losses"
        progress.update(task, completed=min(figures.rounds * ROUND, seconds), description=text)

    async with rig_of(name, server) as rig:
        os.environ.update(rig.environment)
        await soak(rig, seconds=min(WARM_UP, seconds), seed=options.seed + 1, **work)
    start = levels()
    async with rig_of(name, server) as rig:
        os.environ.update(rig.environment)
        figures = await soak(rig, seconds=seconds, seed=options.seed, report=report, **work)
    end = await settled(start)
    faults = {type(fault).__name__ for fault, _, _ in FAULTS}
    problems = [*figures.ledger.losses, *end.rise(start, memory=MEMORY_MAY_RISE)]
    problems += [f"the fault {fault} never happened" for fault in sorted(faults - set(figures.faults))]
    figures.levels = (start, end)
    return figures, problems


def row_of(figures: Figures) -> Mapping[str, Any]:
    """The figures that are shown."""
    ledger = figures.ledger
    assert figures.levels is not None
    start, end = figures.levels
    return {
        "operations": ledger.operations.total(),
        "requests": figures.requests,
        "faults": figures.faults.total(),
        "cancelled": ledger.cancelled,
        "ended by an error of ours": ledger.errors.total(),
        "objects audited": figures.checked,
        "removed by `sweep`": figures.swept,
        "left after it, or lost": len(ledger.losses),
        "memory, MiB": f"{start.memory // MiB} → {end.memory // MiB}",
        "tasks": f"{start.tasks} → {end.tasks}",
        "sockets": f"{start.sockets} → {end.sockets}",
    }


def page_of(found: Mapping[str, Figures], options: argparse.Namespace) -> str:
    """The page of the documentation."""
    rows = {name: row_of(figures) for name, figures in found.items()}
    head = HEAD.format(minutes=options.minutes, workers=options.workers, round=ROUND)
    lines = [head, f"| | {' | '.join(rows)} |", "|---|" + "---:|" * len(rows)]
    for what in next(iter(rows.values())):
        cells = [row[what] for row in rows.values()]
        lines.append(f"| {what} | {' | '.join(f'{cell:,}' if isinstance(cell, int) else cell for cell in cells)} |")
    lines += ["", "Faults that took effect:", "", f"| fault | {' | '.join(rows)} |", "|---|" + "---:|" * len(rows)]
    for fault in sorted({fault for figures in found.values() for fault in figures.faults}):
        lines.append(f"| `{fault}` | {' | '.join(f'{figures.faults[fault]:,}' for figures in found.values())} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="how long on each server")
    parser.add_argument("--workers", type=int, default=12, help="operations at a time")
    parser.add_argument("--seed", type=int, default=1, help="what work and faults are drawn from")
    parser.add_argument(
        "--on", choices=["s3-seaweedfs", "gcs-fake", "azure-azurite"], action="append", help="one server"
    )
    parser.add_argument("--table", type=Path, help="write the figures to this file")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, one object a line")
    options = parser.parse_args()
    console = Console(stderr=True)
    found, failed = {}, False
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    for name in options.on or ["s3-seaweedfs", "gcs-fake", "azure-azurite"]:
        with server_of(name) as server, Progress(*columns, console=console, transient=True) as progress:
            figures, problems = asyncio.run(soak_on(name, server, options, progress))
        found[name] = figures
        row = row_of(figures)
        if options.json:
            print(json.dumps({"server": name, **row, "faults by kind": figures.faults, "problems": problems}))
        else:
            print(f"{name}: " + ", ".join(f"{what}: {value}" for what, value in row.items()))
        for problem in problems:
            failed = True
            console.print(f"  {problem}", style="red", highlight=False)
    if options.table is not None and not failed:
        options.table.write_text(page_of(found, options))
    print("failed" if failed else "0 losses, nothing left", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
