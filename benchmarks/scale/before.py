"""`verify` and `copy` as they were before there were shards and engines, and as they are, in turns.

On SeaweedFS, and on a null server, which leaves the processor to the client. obstore, which makes its requests in Rust, and
bare connections show what a server allows: these send requests that were signed beforehand, and neither list nor hash.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.earlier import BEFORE_WHOLE_BUCKETS, extract
from benchmarks.environments import python_of
from benchmarks.null_server import REPOSITORY, null_server
from benchmarks.scale.runs import Figures, environment_of, make_public_bucket, run, run_work, with_cpu
from lakery_cloud.emulators import SeaweedFS

SOURCE = "source"
MOST = 10_000
"""Objects; with more, the old code would take long."""
TURNS = 3
BEFORE, NOW, OBSTORE, BARE = f"before, commit {BEFORE_WHOLE_BUCKETS[:7]}", "now", "obstore", "bare connections"
VERIFY = tuple(("verify", who) for who in (BEFORE, NOW, OBSTORE, BARE))
COPY = tuple(("copy", who) for who in (BEFORE, NOW))
SCRIPTS = Path(__file__).parent


@dataclass(frozen=True)
class Place:
    """A server.

    Attributes:
        title: Its name.
        environment: The environment of its clients.
        processes: Its processes.
        make_bucket: Makes a bucket.
    """

    title: str
    environment: dict[str, str]
    processes: list[psutil.Process]
    make_bucket: Callable[[str], object]


def run_before(options: argparse.Namespace, add: Callable[[Figures], None]) -> None:
    """Measure, and give each row to `add`: the median turn, and the rate of each turn divided by that of before."""
    blobs = min(options.blobs, MOST)
    with TemporaryDirectory(prefix="lakery-bench-") as name:
        before = extract(BEFORE_WHOLE_BUCKETS, Path(name))
        for open_place, steps in ((_seaweedfs, VERIFY + COPY), (_null_server, VERIFY)):
            with open_place() as place:
                place.make_bucket(SOURCE)
                run_work(place.environment, "fill", SOURCE, "--blobs", blobs, "--size", options.size)
                turns = [[_measure(place, step, turn, before) for step in steps] for turn in range(TURNS)]
            for (what, who), *took in zip(steps, *turns, strict=True):
                of_before = [turn[steps.index((what, BEFORE))]["seconds"] for turn in turns]
                ratios = [old / new["seconds"] for old, new in zip(of_before, took, strict=True)]
                median = sorted(took, key=lambda figures: figures["seconds"])[TURNS // 2]
                row = {"part": "before", "what": f"{what}, {place.title}", "who": who, "of": blobs}
                add({**row, **median, "ratios": ratios})


def _measure(place: Place, step: tuple[str, str], turn: int, before: Path) -> Figures:
    what, who = step
    source = before if who == BEFORE else REPOSITORY / "src"
    environment = place.environment | {"PYTHONPATH": f"{source}:{REPOSITORY}"}
    arguments = ["get" if who == BARE else what, SOURCE]
    if what == "copy":
        arguments.append(f"copy-{turn}-{'before' if who == BEFORE else 'now'}")
        place.make_bucket(arguments[-1])
    command = [sys.executable, str(SCRIPTS / "before_work.py"), *arguments]
    if who == OBSTORE:
        command = [python_of("obstore"), str(SCRIPTS / "obstore_verify.py"), SOURCE]
    return with_cpu(lambda: dict(json.loads(run(command, environment))), place.processes)


@contextmanager
def _seaweedfs() -> Iterator[Place]:
    with SeaweedFS() as server:
        servers = [each for each in psutil.Process().children(recursive=True) if each.name() == "weed"]
        environment = environment_of(server.endpoint_url, server.access_key_id, server.secret_access_key)
        yield Place("SeaweedFS", environment, servers, server.make_bucket)


@contextmanager
def _null_server() -> Iterator[Place]:
    with null_server("s3") as server:
        environment = environment_of(server.url, "test", "testtest")
        make_bucket = partial(make_public_bucket, server.url)
        yield Place("null server", environment, [psutil.Process(server.pid)], make_bucket)
