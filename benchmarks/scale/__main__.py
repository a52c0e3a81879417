"""`make bench-scale`: measure jobs on whole buckets, and write docs/scale.md.

First a server that pretends to hold its objects: listing, planning, and the comparison of a garbage collection. Then a
null server with real objects, where one process can be compared with two. Then SeaweedFS: saves, `verify` and `copy`,
beside rclone and a plain script. Last, jobs on a cluster that are killed and resumed, one of them a copy to Azurite.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psutil

from benchmarks.environments import python_of
from benchmarks.null_server import REPOSITORY, Conditions, null_server
from benchmarks.null_server.simulated import PREFIX
from benchmarks.scale.killed import run_killed
from benchmarks.scale.report import RESULTS, TITLES, rows_of, write_page
from lakery_cloud.emulators import SeaweedFS
from lakery_cloud.emulators.install import Environment
from lakery_cloud.emulators.servers.rclone import RcloneS3
from lakery_cloud.emulators.system import clean_environment

SOURCE = "bench"
ENGINES = {"here": "1 process", "processes": "2 processes", "dask": "LocalCluster, 2 workers"}
AT_A_TIME = "32"
"""Objects that a copy or check has in work: as many as `verify` reads at a time."""
LATENCY = 20
"""Milliseconds, as in the condition `network` of `make bench`."""
MOST_IN_MEMORY = 50_000
"""Objects of the null server, which keeps them in memory, and looks at each for each page."""
PATIENCE = 7200.0


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
    if options.only in (None, "killed"):
        run_killed(options, partial(_add, results), _run_work, _environment)
    print(f"{time.monotonic() - began:.0f} seconds", file=sys.stderr)
    if options.write:
        from benchmarks.__main__ import machine

        kept = json.loads(RESULTS.read_text("utf-8"))["results"] if RESULTS.exists() else []
        measured = {result["part"] for result in results}
        results += [result for result in kept if result["part"] not in measured]
        results.sort(key=lambda result: [*TITLES].index(result["part"]))
        RESULTS.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n", "utf-8")
        write_page()
    return 0


def run_simulated(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Measure on the server that pretends."""
    bucket = f"{PREFIX}{options.keys}"
    with null_server("s3") as server:
        environment = _environment(server.url, "test", "testtest")  # it accepts any
        _request_bucket(server.url, bucket)
        for task, what in (("plan", "plan"), ("list", "list"), ("gc", "gc, dry run: half of the objects are garbage")):
            figures = _run_work(environment, task, bucket)
            _add(
                results,
                {"part": "simulated", "what": what, "who": "lakery-cloud, 1 process", "of": options.keys, **figures},
            )


def run_null(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Measure on a server that takes little of the processor, here and behind a network."""
    blobs = min(options.blobs, MOST_IN_MEMORY)
    for latency, what in ((0, "verify"), (LATENCY, f"verify, {LATENCY} ms before each response")):
        with null_server("s3", Conditions(latency=latency)) as server:
            environment, process = _environment(server.url, "test", "testtest"), psutil.Process(server.pid)
            _request_bucket(server.url, SOURCE)
            _run_work(environment, "fill", SOURCE, "--blobs", blobs, "--size", options.size)
            for engine in ("here", "processes"):
                figures = _with_cpu(partial(_run_work, environment, "verify", SOURCE, "--engine", engine), [process])
                who = f"lakery-cloud, {ENGINES[engine]}"
                _add(results, {"part": "null", "what": what, "who": who, "of": blobs, **figures})


def run_real(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Measure on SeaweedFS."""
    with SeaweedFS() as server:
        servers = [each for each in psutil.Process().children(recursive=True) if each.name() == "weed"]
        for bucket in (SOURCE, "ours", "theirs"):
            server.make_bucket(bucket)
        environment = _environment(server.endpoint_url, server.access_key_id, server.secret_access_key)

        def add(what: str, who: str, measure: Callable[[], dict[str, Any]]) -> None:
            figures = _with_cpu(measure, servers)
            _add(results, {"part": "real", "what": what, "who": who, "of": options.blobs, **figures})

        def work(*arguments: object) -> Callable[[], dict[str, Any]]:
            return partial(_run_work, environment, *arguments)

        def command(arguments: Sequence[str]) -> Callable[[], dict[str, Any]]:
            return partial(_timed, arguments, environment, options.blobs)

        blobs = ("--blobs", options.blobs, "--size", options.size)
        add("save", "lakery-cloud, 1 process", work("fill", SOURCE, *blobs))
        for engine, name in ENGINES.items():
            add("verify", f"lakery-cloud, {name}", work("verify", SOURCE, "--engine", engine))
        plain = [python_of("s3fs-dask"), str(REPOSITORY / "benchmarks" / "scale" / "plain.py"), SOURCE]
        add(
            "verify",
            "s3fs and dask.bag, LocalCluster, 2 workers",
            lambda: dict(json.loads(_run(plain, environment))),
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


def _with_cpu(measure: Callable[[], dict[str, Any]], servers: Sequence[psutil.Process]) -> dict[str, Any]:
    """Measure something, and add the CPU seconds of its processes and of the servers."""

    def used() -> tuple[float, float]:
        of_clients = resource.getrusage(resource.RUSAGE_CHILDREN)  # that have ended
        of_servers = [server.cpu_times() for server in servers]
        return of_clients.ru_utime + of_clients.ru_stime, sum(times.user + times.system for times in of_servers)

    before, figures, after = used(), measure(), used()
    return {**figures, "client cpu": after[0] - before[0], "server cpu": after[1] - before[1]}


def _environment(url: str, access_key_id: str, secret_access_key: str) -> dict[str, str]:
    return {
        **clean_environment("AWS_", "LAKERY_CLOUD_", "RCLONE_"),
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}",
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": access_key_id,
        "AWS_SECRET_ACCESS_KEY": secret_access_key,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
        "RCLONE_CONFIG_BENCH_ENDPOINT": url,
    }


def _rclone(rclone: Environment, *arguments: str) -> list[str]:
    limits = ("--checkers", AT_A_TIME, "--transfers", AT_A_TIME, "--fast-list")
    return [str(rclone.executable("rclone")), "--config", "none.conf", *limits, *arguments]


def _request_bucket(url: str, bucket: str) -> None:
    from urllib.request import Request, urlopen

    with urlopen(Request(f"{url}/{bucket}", method="PUT")) as response:  # noqa: S310, our own server
        response.read()


def _run_work(environment: dict[str, str], *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale.work", *map(str, arguments)]
    return dict(json.loads(_run(command, environment)))


def _timed(command: Sequence[str], environment: dict[str, str], objects: int) -> dict[str, Any]:
    began = time.perf_counter()
    _run(command, environment)
    return {"objects": objects, "seconds": time.perf_counter() - began}


def _run(command: Sequence[str], environment: dict[str, str]) -> str:
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603, our own programs
            command,
            check=False,
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=PATIENCE,
        )
        if done.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{errors.read()[-4000:]}")
    return done.stdout.strip().rpartition("\n")[2]


def _add(results: list[dict[str, Any]], result: dict[str, Any]) -> None:
    results.append(result)
    print(*rows_of([result])[0], sep="  ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
