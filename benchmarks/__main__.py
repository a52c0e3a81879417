"""`make bench`: measures lakery-cloud beside its peers, and says which targets are met."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.environments import python_of
from benchmarks.harness import measure
from benchmarks.null_server import REPOSITORY
from benchmarks.peers.catalog import OURS, PEERS, peers_of
from benchmarks.plan import CONDITIONS, PLAN
from benchmarks.report import page, terminal
from benchmarks.targets import Measured, rows
from benchmarks.workloads import BY_NAME
from lakery_cloud.emulators.server import clean_environment

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
    for what, aimed, reached, verdict in rows(Measured(results["results"])):
        if reached or options.is_whole:
            print(f"  {verdict.strip('*'):14}{what:46}{reached:30}{aimed}")
    if options.is_whole or options.render:
        render(results)
    return 0


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    names_of_peers = ", ".join(f"'{name}'" for name in dict.fromkeys(entry.name for entry in PEERS))
    several = {"action": "extend", "nargs": "+", "type": lambda text: [name for name in text.split(",") if name]}
    parser.add_argument("--only", **several, metavar="WORKLOAD", help="of " + ", ".join(BY_NAME))
    parser.add_argument("--peers", **several, metavar="PEER", help=f"beside {OURS}: of {names_of_peers}")
    parser.add_argument("--conditions", **several, metavar="CONDITION", help="of " + ", ".join(CONDITIONS))
    parser.add_argument("--api", **several, metavar="API", help="of s3, gcs, azure")
    parser.add_argument("--rounds", type=int, help="turns of each peer at each workload; by default 2 to 5")
    parser.add_argument("--quick", action="store_true", help="one turn each, and no page")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: make the page from benchmarks/results.json"
    )
    options = parser.parse_args()
    known = {
        "only": set(BY_NAME),
        "peers": {entry.name for entry in PEERS},
        "conditions": set(CONDITIONS),
        "api": {step.api for step in PLAN},
    }
    options.is_whole = not (options.quick or any(getattr(options, name) for name in known))
    for name, names in known.items():
        chosen = [each for group in getattr(options, name) or [] for each in group]
        unknown = sorted(set(chosen) - names)
        if unknown:
            parser.error(f"--{name}: {unknown[0]!r} is none of {', '.join(sorted(names))}")
        setattr(options, name, set(chosen) or names)
    options.rounds = 1 if options.quick else options.rounds
    return options


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what was chosen, showing each table as it is there."""
    results: list[dict[str, Any]] = []
    started = time.monotonic()
    log_path = Path(tempfile.gettempdir()) / "lakery-bench.log"
    entries = [entry for entry in PEERS if entry.name in options.peers or entry.name.startswith(OURS)]
    for environment in {entry.environment for entry in entries}:
        python_of(environment)  # what has to be installed is installed before anything is measured
    with log_path.open("w") as log:
        for step, name in PAIRS:
            if step.api not in options.api or step.condition not in options.conditions or name not in options.only:
                continue
            found = measure(
                BY_NAME[name],
                [entry for entry in peers_of(step.api, name) if entry in entries],
                api=step.api,
                condition=step.condition,
                rounds=options.rounds or step.rounds,
                log=log,
            )
            results += [result.as_json() for result in found]
            print("\n".join(terminal(results[-len(found) :])), flush=True)
    print(f"\n{time.monotonic() - started:.0f} seconds; what the clients said is in {log_path}", file=sys.stderr)
    return {"machine": machine(), "results": results}


def machine() -> dict[str, Any]:
    """What this runs on."""
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
