"""`make bench`: measures lakery-cloud beside its peers, and says which targets are met."""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from benchmarks.harness import Result, measure
from benchmarks.null_server import Conditions
from benchmarks.peers.catalog import PEERS, peers_of
from benchmarks.workloads import BY_NAME

CONDITIONS = {
    "plain": Conditions(),
    "tls": Conditions(tls=True),
    "latency": Conditions(latency=20),
}
PLAN = [
    ("s3", "plain", ["puts", "hits", "gets", "streams", "many", "write", "read", "read-verified"]),
    ("s3", "tls", ["puts", "streams", "write"]),
    ("s3", "latency", ["puts-256", "write", "read"]),
]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--only", default="", help="workloads, with commas: " + ",".join(BY_NAME))
    parser.add_argument("--peers", default="", help="peers, with commas; lakery-cloud is always there")
    parser.add_argument("--conditions", default="", help="conditions, with commas: " + ",".join(CONDITIONS))
    parser.add_argument("--api", default="", help="APIs, with commas: s3")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer at each workload")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    log_path = Path(os.environ.get("TMPDIR", "/tmp")) / "lakery-bench.log"  # noqa: S108
    results: list[Result] = []
    started = time.monotonic()
    with log_path.open("w") as log:
        for api, condition, names in PLAN:
            if not chosen(options.api, api) or not chosen(options.conditions, condition):
                continue
            entries = [e for e in peers_of(api) if chosen(options.peers, e.name) or e.name.startswith("lakery-cloud")]
            for name in names:
                if not chosen(options.only, name):
                    continue
                found = measure(
                    BY_NAME[name],
                    entries,
                    api=api,
                    condition=condition,
                    conditions=CONDITIONS[condition],
                    rounds=options.rounds,
                    report=lambda text: print(text, file=sys.stderr),
                    log=log,
                )
                show(found)
                results += found
    print(f"{time.monotonic() - started:.0f} s; what the clients said is in {log_path}", file=sys.stderr)
    if options.json is not None:
        options.json.write_text(json.dumps([result.as_json() for result in results], indent=1))
    return 0


def chosen(wanted: str, name: str) -> bool:
    """Whether an option with names, none of which means all, has a name."""
    return not wanted or name in wanted.split(",")


def show(results: list[Result]) -> None:
    """A table on the terminal."""
    import statistics

    workload = BY_NAME[results[0].workload]
    print(f"\n{results[0].api}, {results[0].condition}: {workload.title}")
    unit = "MB/s" if workload.is_large else "a second"
    print(f"{'peer':26}{unit:>10}{'min':>10}{'max':>10}{'CPU ms/op':>11}{'peak MB':>9}{'server':>8}")
    for result in results:
        turns = [turn for turn in result.turns if "error" not in turn]
        errors = [turn["error"] for turn in result.turns if "error" in turn]
        if turns:
            scale = workload.size / 1e6 if workload.is_large else 1
            rates = [turn["operations"] / turn["seconds"] * scale for turn in turns]
            cpu = statistics.median(turn["cpu"] / turn["operations"] * 1000 for turn in turns)
            peak = statistics.median(turn["peak"] for turn in turns) / 1e6
            busy = statistics.median(turn["server cpu"] / turn["seconds"] for turn in turns)
            print(
                f"{result.peer:26}{statistics.median(rates):>10,.0f}{min(rates):>10,.0f}{max(rates):>10,.0f}"
                f"{cpu:>11,.3f}{peak:>9,.0f}{busy:>8.0%}"
            )
        if errors or result.unavailable:
            print(f"{result.peer:26}  {result.unavailable or errors[0]}")


if __name__ == "__main__":
    sys.exit(main())
