"""A whole `verify` and a copy to another cloud, whose worker and then whose whole run are killed, beside undisturbed ones.

The source is SeaweedFS, the destination Azurite. The run fails unless the resumed jobs report what one process reports, and
have done again only shards that were in flight.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.payload import unique
from benchmarks.scale.killed_job import REPORT, WORKER_KILLED, begun_in, done_of, entries_of
from benchmarks.scale.runs import Figures, environment_of, run_work
from lakery_cloud.emulators import Azurite, SeaweedFS
from lakery_cloud.maintenance.manifest import FILE_NAME

SOURCE, ALONE, KILLED = "killed", "alone", "killed"
WORKER_AT, ALL_AT = "0.3", "0.6"
EXPECTED = {"save": 0.9, "verify": 0.8, "copy": 2.6, "verify-destination": 1.8}
"""Milliseconds for an object on two idle cores of 2026, for the estimate at the beginning."""
STAGES = ("save", "verify", "verify", "copy", "copy", "verify-destination")


def run_killed(options: argparse.Namespace, add: Callable[[Figures], None]) -> None:
    """Run the jobs, compare what they report, and give each row of figures to `add`.

    Raises:
        SystemExit: A job has failed, or reports or manifests differ.
    """
    minutes = sum(EXPECTED[stage] for stage in STAGES) * options.blobs / 60_000
    _say(f"{options.blobs:,} blobs in {len(STAGES)} stages: about {minutes:.0f} minutes on two idle cores")
    with SeaweedFS() as source, Azurite() as destination, tempfile.TemporaryDirectory() as name:
        source.make_bucket(SOURCE)
        for container in (ALONE, KILLED):
            destination.make_bucket(container)
        keys = (source.endpoint_url, source.access_key_id, source.secret_access_key)
        environment = {**environment_of(*keys), **destination.environment()}
        folder, stages = Path(name), _Stages(Path(name), environment)
        _say(f"save: about {EXPECTED['save'] * options.blobs / 1000:.0f} s")
        filled = run_work(environment, "fill", SOURCE, "--blobs", options.blobs, "--size", options.size)
        row = {"part": "killed", "of": options.blobs}
        add({**row, "what": "save", "who": "1 process", **filled})
        for task in ("verify", "copy"):
            add({**row, "what": task, "who": "1 process", **stages.run(task, f"{task}-alone", ALONE)})
            figures = _interrupted(stages, task, folder / f"{task}-killed")
            compare(folder / f"{task}-alone", folder / f"{task}-killed")
            add({**row, "what": task, "who": "LocalCluster, killed twice and resumed", **figures})
        arrived = stages.run("verify-destination", "arrived", KILLED, "--engine", "dask")
        add({**row, "what": "verify the copy", "who": "LocalCluster", **arrived})
        check_complete(folder / "arrived", options.blobs, options.size)
    _say("the reports are those of one process; the copy is complete and intact")


class _Stages:
    """Runs each job in a process of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment

    def run(self, task: str, name: str, container: str, *arguments: str, is_killed: bool = False) -> Figures:
        """Run a job until it ends, or is killed as the arguments say."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        _say(f"{name}: {' '.join(arguments) or 'in one process'}")
        places = ("--bucket", SOURCE, "--container", container)
        command = [sys.executable, "-m", "benchmarks.scale.killed_job", task, str(folder), *places, *arguments]
        last = ""
        with (
            (folder / "log").open("w+") as log,
            subprocess.Popen(  # noqa: S603, our own program
                command,
                env=dict(self._environment),
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # since it kills its process group
            ) as process,
        ):
            assert process.stdout is not None
            for last in process.stdout:
                if last.startswith(" "):
                    print(last, end="", file=sys.stderr, flush=True)
            expected = -signal.SIGKILL if is_killed else 0
            if process.wait() != expected:
                log.seek(0)
                raise SystemExit(f"{name} ended with {process.returncode}, not {expected}:\n{log.read()[-4000:]}")
        return {} if is_killed else dict(json.loads(last))


def _interrupted(stages: _Stages, task: str, folder: Path) -> Figures:
    """Run a job on a cluster, kill a worker and then all of it, resume it, and check what was done again."""
    began = time.perf_counter()
    on_cluster = ("--engine", "dask")
    kills = ("--worker-at", WORKER_AT, "--all-at", ALL_AT)
    stages.run(task, folder.name, KILLED, *on_cluster, *kills, is_killed=True)
    done, begun = done_of(folder), begun_in(folder)
    figures = stages.run(task, folder.name, KILLED, *on_cluster)
    first = json.loads((folder / WORKER_KILLED).read_text("utf-8"))
    everything = begun_in(folder)
    lost = check_redone(first["begun"], first["done"], begun[len(first["begun"]) :])
    stopped = check_redone(begun, done, everything[len(begun) :])
    kept = done_of(folder)
    if sorted(kept) != sorted({*kept}) or len(kept) != figures["shards"]:
        raise SystemExit(f"the manifest of {folder.name} has {len(kept)} results of {figures['shards']} shards")
    _say(
        f"{folder.name}: a worker was killed with {lost[0]} shards in flight, of which {lost[1]} were done again; then the "
        f"run, with {stopped[0]} in flight, of which {stopped[1]} were done again; no shard of the manifest was"
    )
    seconds = time.perf_counter() - began
    return {"objects": figures["objects"], "seconds": seconds, "worker": lost, "run": stopped}


def check_redone(begun: Sequence[str], done: Sequence[str], later: Sequence[str]) -> tuple[int, int]:
    """Return how many shards were in flight at a kill, and how many of them were begun again.

    Args:
        begun: The shards that had begun.
        done: The shards that the manifest had.
        later: The shards that have begun since.

    Raises:
        SystemExit: A shard was done again although the manifest had it.
    """
    if wrong := {*done} & {*later}:
        raise SystemExit(f"shards of the manifest were done again: {sorted(wrong)}")
    return len({*begun} - {*done}), len({*begun} & {*later})


def compare(alone: Path, killed: Path) -> None:
    """Compare the reports and manifests of two runs.

    Raises:
        SystemExit: They differ.
    """
    for what in (REPORT, FILE_NAME):
        one, other = ([_same_for_all(entry) for entry in _in_order(folder / what)] for folder in (alone, killed))
        if one != other:
            differing = [first["shard"] for first, second in zip(one, other, strict=False) if first != second]
            raise SystemExit(f"{what} of {killed.name} differs from that of one process, in the shards {differing}")


def _in_order(path: Path) -> list[dict[str, Any]]:
    return sorted((entry for entry in entries_of(path) if "shard" in entry), key=lambda entry: str(entry["shard"]))


def _same_for_all(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A result without what depends on the kills: whether a copy was made by this attempt, or by the one before."""
    counts = dict(entry["counts"])
    for suffix in ("", " bytes"):
        made = sum(counts.pop(f"{outcome}{suffix}", 0) for outcome in ("copied", "deduplicated"))
        if made:
            counts[f"at the destination{suffix}"] = made
    findings = [
        {**finding, "result": "at the destination"}
        if finding.get("result") in ("copied", "deduplicated")
        else dict(finding)
        for finding in entry["findings"]
    ]
    return {"shard": entry["shard"], "counts": counts, "findings": findings}


def check_complete(folder: Path, blobs: int, size: int) -> None:
    """Check that the report of `verify` names exactly these blobs, and no problem.

    Raises:
        SystemExit: It does not.
    """
    found = {
        finding["content_hash"]: (finding["size"], finding["problem"])
        for entry in _in_order(folder / REPORT)
        for finding in entry["findings"]
    }
    expected = {sha256(unique(size, number)).hexdigest(): (size, None) for number in range(blobs)}
    if found != expected:
        wrong = [each for each in {**found, **expected} if found.get(each) != expected.get(each)]
        raise SystemExit(f"{len(wrong)} blobs are missing, damaged or too many at the destination, such as {wrong[0]}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
