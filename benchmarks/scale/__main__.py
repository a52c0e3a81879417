"""`make bench-scale`: measure jobs on whole buckets, and write docs/scale.md.

First a server that pretends to hold its objects: listing, planning, and the comparison of a garbage collection. Then a
null server with real objects, where one process can be compared with two. Then SeaweedFS: saves, `verify` and `copy`,
beside rclone and a plain script. Then `verify` and `copy` beside the code before there were shards and engines. Last, jobs
on a cluster that are killed and resumed, one of them a copy to Azurite.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psutil

from benchmarks.environments import python_of
from benchmarks.null_server import REPOSITORY, Conditions, null_server
from benchmarks.null_server.simulated import PREFIX
from benchmarks.scale.before import run_before
from benchmarks.scale.killed import run_killed
from benchmarks.scale.report import RESULTS, TITLES, rows_of, write_page
from benchmarks.scale.runs import environment_of, make_public_bucket, run, run_work, timed, with_cpu
from lakery_cloud.emulators import SeaweedFS
from lakery_cloud.emulators.install import Environment
from lakery_cloud.emulators.servers.rclone import RcloneS3

SOURCE = "bench"
ENGINES = {"here": "1 process", "processes": "2 processes", "dask": "LocalCluster, 2 workers"}
AT_A_TIME = "32"
"""Objects that a copy or check has in work: as many as `verify` reads at a time."""
LATENCY = 20
"""Milliseconds, as in the condition `network` of `make bench`."""
MOST_IN_MEMORY = 50_000
"""Objects of the null server, which keeps them in memory, and looks at each for each page."""


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make bench-scale ARGS=...", description=__doc__)
    parser.add_argument("--keys", type=int, default=10**7, help="objects that the simulated bucket pretends to hold")
    parser.add_argument("--blobs", type=int, default=10**5, help="objects on SeaweedFS")
    parser.add_argument("--size", type=int, default=1024, help="their size in bytes")
    parser.add_argument("--only", choices=[*TITLES], help="one part")
    parser.add_argument("--write", action="store_true", help="write docs/scale.md and its results")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    began = time.monotonic()
    if options.only in (None, "simulated"):
        run_simulated(options, results)
    if options.only in (None, "null"):
        run_null(options, results)
    if options.only in (None, "real"):
        run_real(options, results)
    if options.only in (None, "before"):
        run_before(options, partial(_add, results))
    if options.only in (None, "killed"):
        run_killed(options, partial(_add, results))
    print(f"{time.monotonic() - began:.0f} seconds", file=sys.stderr)
    if options.write:
        from benchmarks.__main__ import machine

        kept = json.loads(RESULTS.read_text("utf-8"))["results"] if RESULTS.exists() else []
        here, measured = machine(), {result["part"] for result in results}
        results = [{**result, "date": here["date"]} for result in results]
        results += [result for result in kept if result["part"] not in measured]
        results.sort(key=lambda result: [*TITLES].index(result["part"]))
        RESULTS.write_text(json.dumps({"machine": here, "results": results}, indent=1) + "\n", "utf-8")
        write_page()
    return 0


def run_simulated(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Measure on the server that pretends."""
    bucket = f"{PREFIX}{options.keys}"
    with null_server("s3") as server:
        environment = environment_of(server.url, "test", "testtest")  # it accepts any
        make_public_bucket(server.url, bucket)
        for task, what in (("plan", "plan"), ("list", "list"), ("gc", "gc, dry run: half of the objects are garbage")):
            figures = run_work(environment, task, bucket)
            _add(
                results,
                {"part": "simulated", "what": what, "who": "lakery-cloud, 1 process", "of": options.keys, **figures},
            )


def run_null(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Measure on a server that takes little of the processor, here and behind a network."""
    blobs = min(options.blobs, MOST_IN_MEMORY)
    for latency, what in ((0, "verify"), (LATENCY, f"verify, {LATENCY} ms before each response")):
        with null_server("s3", Conditions(latency=latency)) as server:
            environment, process = environment_of(server.url, "test", "testtest"), psutil.Process(server.pid)
            make_public_bucket(server.url, SOURCE)
            run_work(environment, "fill", SOURCE, "--blobs", blobs, "--size", options.size)
            for engine in ("here", "processes"):
                figures = with_cpu(partial(run_work, environment, "verify", SOURCE, "--engine", engine), [process])
                who = f"lakery-cloud, {ENGINES[engine]}"
                _add(results, {"part": "null", "what": what, "who": who, "of": blobs, **figures})


def run_real(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Measure on SeaweedFS."""
    with SeaweedFS() as server:
        servers = [each for each in psutil.Process().children(recursive=True) if each.name() == "weed"]
        for bucket in (SOURCE, "ours", "theirs"):
            server.make_bucket(bucket)
        environment = environment_of(server.endpoint_url, server.access_key_id, server.secret_access_key)

        def add(what: str, who: str, measure: Callable[[], dict[str, Any]]) -> None:
            figures = with_cpu(measure, servers)
            _add(results, {"part": "real", "what": what, "who": who, "of": options.blobs, **figures})

        def work(*arguments: object) -> Callable[[], dict[str, Any]]:
            return partial(run_work, environment, *arguments)

        def command(arguments: Sequence[str]) -> Callable[[], dict[str, Any]]:
            return partial(timed, arguments, environment, options.blobs)

        blobs = ("--blobs", options.blobs, "--size", options.size)
        add("save", "lakery-cloud, 1 process", work("fill", SOURCE, *blobs))
        for engine, name in ENGINES.items():
            add("verify", f"lakery-cloud, {name}", work("verify", SOURCE, "--engine", engine))
        plain = [python_of("s3fs-dask"), str(REPOSITORY / "benchmarks" / "scale" / "plain.py"), SOURCE]
        add(
            "verify",
            "s3fs and dask.bag, LocalCluster, 2 workers",
            lambda: dict(json.loads(run(plain, environment))),
        )
        ours = [sys.executable, "-c", "from lakery_cloud.cli.main import main; main()", "copy", "--jobs", AT_A_TIME]
        add("copy", "lakery-cloud copy", command([*ours, f"s3://{SOURCE}", "s3://ours", "--quiet"]))
        add("gc, each second object to quarantine", "lakery-cloud, 1 process", work("collect", "ours", *blobs))
        rclone = Environment(f"{RcloneS3.name}-{RcloneS3.version}")
        rclone.install(lambda text: print(text, file=sys.stderr))
        buckets = f"bench:{SOURCE}", "bench:theirs"
        add("copy", "rclone copy", command(_rclone(rclone, "copy", *buckets)))
        checked = command(_rclone(rclone, "check", "--download", *buckets))
        add("verify", "rclone check --download, which reads both buckets", checked)


def _rclone(rclone: Environment, *arguments: str) -> list[str]:
    limits = ("--checkers", AT_A_TIME, "--transfers", AT_A_TIME, "--fast-list")
    return [str(rclone.executable("rclone")), "--config", "none.conf", *limits, *arguments]


def _add(results: list[dict[str, Any]], result: dict[str, Any]) -> None:
    results.append(result)
    print(*rows_of([result])[0], sep="  ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
