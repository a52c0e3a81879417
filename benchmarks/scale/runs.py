"""Programs that the measurements run, with the CPU time that they and the servers use."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.request import Request, urlopen

import psutil

from benchmarks.null_server import REPOSITORY
from lakery_cloud.emulators.system import clean_environment

PATIENCE = 7200.0
"""Seconds after which a program is ended."""

Figures = dict[str, Any]


def with_cpu(measure: Callable[[], Figures], servers: Sequence[psutil.Process]) -> Figures:
    """Measure something, and add the CPU seconds of its processes and of the servers."""

    def used() -> tuple[float, float]:
        of_clients = resource.getrusage(resource.RUSAGE_CHILDREN)  # that have ended
        of_servers = [server.cpu_times() for server in servers]
        return of_clients.ru_utime + of_clients.ru_stime, sum(times.user + times.system for times in of_servers)

    before, figures, after = used(), measure(), used()
    return {**figures, "client cpu": after[0] - before[0], "server cpu": after[1] - before[1]}


def environment_of(url: str, access_key_id: str, secret_access_key: str) -> dict[str, str]:
    """Return the environment of programs that use a server."""
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


def make_public_bucket(url: str, bucket: str) -> None:
    """Make a bucket on a server that wants no signature."""
    with urlopen(Request(f"{url}/{bucket}", method="PUT")) as response:  # noqa: S310, our own server
        response.read()


def run_work(environment: dict[str, str], *arguments: object) -> Figures:
    """Run `benchmarks.scale.work`, and return its figures."""
    command = [sys.executable, "-m", "benchmarks.scale.work", *map(str, arguments)]
    return dict(json.loads(run(command, environment)))


def timed(command: Sequence[str], environment: dict[str, str], objects: int) -> Figures:
    """Run a program, and return its time as figures."""
    began = time.perf_counter()
    run(command, environment)
    return {"objects": objects, "seconds": time.perf_counter() - began}


def run(command: Sequence[str], environment: dict[str, str]) -> str:
    """Run a program in a folder of its own, and return the last line that it prints.

    Raises:
        SystemExit: It failed.
    """
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
            raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{errors.read()[-4000:]}")
    return done.stdout.strip().rpartition("\n")[2]
