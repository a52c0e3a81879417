"""`make bench`: measure lakery-cloud beside other clients, and show which targets it meets."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.environments import python_of
from benchmarks.harness import measure, profile
from benchmarks.null_server import REPOSITORY
from benchmarks.peers.catalog import OURS, PEERS, peers_of
from benchmarks.plan import CONDITIONS, PLAN, PROFILED, PROFILED_TURNS
from benchmarks.report import page, shares, terminal
from benchmarks.targets import Measured, rows
from benchmarks.workloads import BY_NAME
from lakery_cloud.emulators.system import clean_environment

RESULTS = REPOSITORY / "benchmarks" / "results.json"
DOCS = REPOSITORY / "docs"
PAIRS = [(step, name) for step in PLAN for name in step.workloads]


def main() -> int:
    """Run the command."""
    options = parse()
    if options.render:
        results = json.loads(RESULTS.read_text("utf-8"))
    else:
        results = run(options)
        if options.json is not None:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
        if options.is_whole:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print("\nTargets")
    for what, aimed, reached, verdict, limit in rows(Measured(results["results"])):
        if reached or options.is_whole:
            print(f"  {verdict.strip('*'):14}{what:56}{reached:38}  {aimed}{f' ({limit})' if limit else ''}")
    if options.is_whole or options.render:
        render(results)
    return 0


def parse() -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    choices = {
        "only": (list(BY_NAME), "workloads"),
        "peers": (list(dict.fromkeys(entry.name for entry in PEERS)), f"other clients than {OURS}"),
        "conditions": (list(CONDITIONS), "conditions"),
        "api": (list(dict.fromkeys(step.api for step in PLAN)), "APIs"),
    }
    for name, (known, what) in choices.items():
        text = f"{what}, separated by commas: {', '.join(known)}"
        parser.add_argument(f"--{name}", type=some_of(known), metavar="NAME,...", help=text)
    parser.add_argument("--rounds", type=int, help="turns of each client at each workload; by default 2 to 9")
    parser.add_argument("--quick", action="store_true", help="one turn each; write no page")
    text = "divide the size of large content by this number, to try the programs; write no page"
    parser.add_argument("--shrink", type=int, default=1, metavar="N", help=text)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--render", action="store_true", help=f"measure nothing; make the page from {RESULTS.name}")
    options = parser.parse_args()
    options.is_whole = (
        not options.quick and options.shrink == 1 and all(getattr(options, name) is None for name in choices)
    )
    for name, (known, _) in choices.items():
        setattr(options, name, getattr(options, name) or known)
    return options


def some_of(known: list[str]) -> Callable[[str], list[str]]:
    """Return a parser of known names that are separated by commas."""

    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return read


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the selected workloads, and print each table when it is complete."""
    results: list[dict[str, Any]] = []
    started = time.monotonic()
    log_path = Path(tempfile.gettempdir()) / "lakery-bench.log"
    entries = [entry for entry in PEERS if entry.name in options.peers or entry.name.startswith(OURS)]
    for environment in {entry.environment for entry in entries}:
        python_of(environment)  # install everything before measuring
    with log_path.open("w") as log:
        measured = set()
        for step, name in PAIRS:
            if step.api not in options.api or step.condition not in options.conditions or name not in options.only:
                continue
            found = measure(
                BY_NAME[name].shrunk(options.shrink),
                [entry for entry in peers_of(step.api, name) if entry in entries],
                api=step.api,
                condition=step.condition,
                rounds=1 if options.quick else options.rounds or step.rounds,
                log=log,
            )
            results += [result.as_json() for result in found]
            if step.condition == "plain":
                measured.add((step.api, name))
            print("\n".join(terminal(results[-len(found) :])), flush=True)
        profiles = [
            profile(BY_NAME[name], entry, turns=1 if options.quick else PROFILED_TURNS, log=log)
            for entry in entries
            for name in PROFILED
            if entry.name == OURS and entry.api in options.api and (entry.api, name) in measured
        ]
    profiles = [found for found in profiles if found["samples"]]
    if profiles:
        print("\n".join(shares(profiles, Measured(results))))
    print(f"\n{time.monotonic() - started:.0f} seconds; the output of the clients is in {log_path}", file=sys.stderr)
    return {"machine": machine(), "results": results, "profiles": profiles}


def machine() -> dict[str, Any]:
    """Describe this machine."""
    text = Path("/proc/cpuinfo").read_text("utf-8")
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def render(results: dict[str, Any]) -> None:
    """Write the page and its pictures."""
    environment = {**clean_environment(), "PYTHONPATH": str(REPOSITORY)}
    command = [python_of("plots"), "-m", "benchmarks.plots", str(RESULTS), str(DOCS / "pictures")]
    subprocess.run(command, check=True, env=environment, cwd=REPOSITORY)  # noqa: S603, our own module
    pictures = sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / "pictures").glob("*.svg"))
    (DOCS / "performance.md").write_text(page(results, pictures), "utf-8")
    print(f"wrote {DOCS / 'performance.md'}, its pictures and {RESULTS}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
