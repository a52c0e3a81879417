"""Results of benchmarks: figures of clients, reasons of failures, and targets met or missed."""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness, report
from benchmarks.__main__ import DOCS, RESULTS, machine
from benchmarks.environments import PeerEnvironment
from benchmarks.harness import measure, profile
from benchmarks.null_server import REPOSITORY
from benchmarks.payload import KNOWN, MiB, pattern, unique
from benchmarks.peers.base import Target
from benchmarks.peers.catalog import OURS, PEERS, Entry, peers_of
from benchmarks.peers.starts import LakeryCloudStarts
from benchmarks.plan import CONDITIONS, PLAN, PROFILED
from benchmarks.samples import LOOP, Sampler
from benchmarks.targets import TARGETS, Measured, figure, rows
from benchmarks.targets import Target as Bound
from benchmarks.workloads import BY_NAME

SIGNED = next(entry for entry in PEERS if entry.name == "signed-by-hand")
OURS_ON_S3 = next(entry for entry in PEERS if (entry.api, entry.name) == ("s3", OURS))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[io.TextIOWrapper]:
    with (tmp_path / "log").open("w") as file:
        yield file


def test_peers_are_measured_in_turns(log: Any) -> None:
    found = measure(BY_NAME["gets"], [OURS_ON_S3, SIGNED], api="s3", condition="plain", rounds=2, log=log)
    assert [(result.peer, len(result.turns), result.unavailable) for result in found] == [
        (OURS, 2, None),
        ("signed-by-hand", 2, None),
    ]
    figures = [
        turn[what] for result in found for turn in result.turns for what in ("operations", "seconds", "cpu", "peak")
    ]
    assert min(figures) > 0


def test_unavailable_client_reports_the_reason(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Entry("sha256-alone", "s3", "sha256_alone:SHA256Alone", "lakery-cloud")  # it only hashes
    (result,) = measure(BY_NAME["puts"], [broken], api="s3", condition="plain", rounds=1, log=log)
    assert result.turns == []
    assert result.unavailable == "Unavailable: it only hashes"


def test_client_that_exits_is_reported(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "python_of", lambda _: "/bin/false")
    (result,) = measure(BY_NAME["puts"], [SIGNED], api="s3", condition="plain", rounds=1, log=log)
    assert result.unavailable == "it ended with exit code 1"


def result(peer: str, *seconds: float, workload: str = "puts") -> dict[str, Any]:
    turn = {"operations": 100, "cpu": 0.5, "peak": 50_000_000, "server cpu": 0.1}
    turns = [{**turn, "seconds": second} if second else {"error": "it broke"} for second in seconds]
    place = {"api": "s3", "condition": "plain", "workload": workload, "peer": peer}
    return {**place, "version": "1", "does": "its work", "turns": turns, "unavailable": None}


def test_shrunk_content_counts_by_its_size(log: Any) -> None:
    workload = BY_NAME["write-file"].shrunk(64)
    (found,) = measure(workload, [OURS_ON_S3], api="s3", condition="network", rounds=1, log=log)
    assert workload.size == 16 * MiB
    (turn,) = found.turns
    assert figure(turn, "write-file", "rate") == pytest.approx(16 * MiB / 1e6 / turn["seconds"])
    assert "SHA-256" in report.page({"machine": machine(), "results": [found.as_json()]}, [])


def test_small_requests_are_divided_among_the_parts_of_the_program(log: Any) -> None:
    found = profile(BY_NAME["gets"], OURS_ON_S3, turns=2, log=log)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert min(found["shares"][part] for part in ("engine", LOOP, "requests of the API")) > 0
    head, _, row = report.shares([found], Measured([result(OURS, 1, workload="gets")]))
    assert head.count("|") == row.count("|")
    assert row.endswith("| 5000 | nan |"), "obstore was not measured"


def test_a_library_counts_for_the_part_that_calls_it() -> None:
    with Sampler() as sampler:
        while not sampler.counts:
            hashlib.sha256(bytes(10_000_000))
    assert {*sampler.counts} == {"content and its hash"}, "that of this file, whose folder has the same name"


@pytest.mark.parametrize("api", ["start", "start-gcs", "start-azure"])
def test_starts_are_measured_by_their_processes(log: Any, api: str) -> None:
    entries = [entry for entry in peers_of(api, "first-put") if entry.environment is None]
    found, *others = measure(BY_NAME["first-put"], entries, api=api, condition="plain", rounds=1, log=log)
    assert [turn["error"] for other in others for turn in other.turns if "error" in turn] == []
    (turn,) = found.turns
    assert "error" not in turn
    assert turn["cpu"] > 0


async def test_commands_that_are_started_do_their_work(tmp_path: Path) -> None:
    peer = LakeryCloudStarts(Target("http://localhost", "b", None, 1, verify=True))
    await peer.open()
    await peer.start("help", 1, tmp_path)
    await peer.start("put-to-folder", 2, tmp_path)
    stored = {path.name: path.read_bytes() for path in (tmp_path / "stored").rglob("*") if path.is_file()}
    content = unique(1024, 2)
    assert stored[hashlib.sha256(content).hexdigest()] == content
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        peer.run("-c", "exit(1)")


def test_table_says_what_the_server_has_seen() -> None:
    entry = result(OURS, 1, workload="write-file")
    seen = {"requests": 600, "checksums": ["CRC-32C"], "create_only": 100, "copied": 50_000_000}
    entry["turns"][0]["seen"] = seen
    (*_, line) = report.terminal([entry])
    assert line.endswith("its work; *seen:* 6.0 requests, CRC-32C, create-only, 0.5 MB copied")


def test_ratios_are_of_turns_of_one_round() -> None:
    measured = Measured([result(OURS, 1, 10, 1), result("labox", 4, 40, 0)])
    assert measured.ratios("s3", "plain", "puts", "labox") == [4, 4]


@pytest.mark.parametrize(("bound", "is_met"), [(3.9, True), (4.1, False)])
def test_targets_are_met_or_missed(bound: float, is_met: bool) -> None:
    target = Bound("s3", "plain", "puts", bound, ("labox", "s3fs"))
    reached = target.reached(Measured([result(OURS, 1), result("labox", 4), result("s3fs", 5)]))
    assert reached == (4, "labox")  # the best of them
    assert target.is_met(reached[0]) == is_met


def test_client_that_mostly_failed_is_not_the_best() -> None:
    target = Bound("s3", "plain", "puts", 1, ("*",))
    results = [result(OURS, 1, 1, 1), result("labox", 0, 0.5, 0), result("s3fs", 2, 0, 2)]
    assert target.reached(Measured(results)) == (2, "s3fs")


def test_missed_target_has_its_limit_beside_it() -> None:
    target = Bound("s3", "plain", "puts", 2, ("labox",), limit="s3fs")
    for ours, shown in ((1, f"s3fs: 1.50x; cores in use: {OURS} 0.25, labox 0.25"), (2, "")):
        results = [result(OURS, 2 / ours), result("labox", 2), result("s3fs", 2 / 1.5)]
        assert rows(Measured(results), [target])[0][4] == shown


def test_limit_can_be_compared_with_another_client() -> None:
    target = Bound("s3", "plain", "puts", 5, ("labox",), measure="cpu", limit="s3fs", limit_of="boto3")
    results = [result(OURS, 4), result("labox", 1), result("s3fs", 1), result("boto3", 2)]
    for entry in results:
        entry["turns"][0]["cpu"] = entry["turns"][0]["seconds"]
    assert rows(Measured(results), [target])[0][4] == "s3fs: 0.50x the CPU of boto3"


def test_a_target_that_was_not_measured_is_not_met() -> None:
    assert {verdict for _, _, _, verdict, _ in rows(Measured([]))} == {"not measured"}


def test_whatever_a_target_needs_is_measured() -> None:
    planned = {(step.api, step.condition, name) for step in PLAN for name in step.workloads}
    assert {(target.api, target.condition, target.workload) for target in TARGETS} <= planned
    names = {(entry.api, entry.name) for entry in PEERS}
    assert {(target.api, peer) for target in TARGETS for peer in target.peers if peer != "*"} <= names
    limits = {(target.api, name) for target in TARGETS for name in (target.limit, target.limit_of) if name}
    assert limits <= names
    assert {step.condition for step in PLAN} == set(CONDITIONS)
    assert {(api, "plain", name) for api in ("s3", "gcs", "azure") for name in PROFILED} <= planned


def test_every_peer_has_pins() -> None:
    for environment in {entry.environment for entry in PEERS if entry.environment} | {"plots"}:
        lines = PeerEnvironment(environment).constraints.read_text("utf-8").splitlines()
        assert all("==" in line for line in lines if not line.startswith("#"))


def test_table_distinguishes_failures_from_figures() -> None:
    lines = report.terminal([result(OURS, 1), result("labox", 0), result("s3fs", 2, 0)])
    _, _, ours, labox, s3fs = lines
    assert "1.00" in ours
    assert labox.split()[1:] == ["it", "broke"]
    assert "2.00" in s3fs


def test_the_page_is_that_of_the_results() -> None:
    results = json.loads(RESULTS.read_text("utf-8"))
    pictures = sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / "pictures").glob("*.svg"))
    assert pictures
    assert (DOCS / "performance.md").read_text("utf-8") == report.page(results, pictures)


def test_a_wrong_option_names_the_right_ones() -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "putz"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "'putz' is not one of puts, hits, gets" in done.stderr


def test_hashes_known_in_advance_are_right() -> None:
    for size, known in KNOWN.items():
        hasher = hashlib.sha256()
        for piece in pattern(0, size):
            hasher.update(piece)
        assert hasher.hexdigest() == known


def test_whatever_is_read_whole_has_a_hash_known_in_advance() -> None:
    assert {workload.size for workload in BY_NAME.values() if workload.is_large} == set(KNOWN)


@pytest.mark.parametrize(("does", "patience", "code"), [("exit 3", 300, 3), ("exec sleep 600", 0.2, -9)])
def test_client_that_exits_or_hangs_in_a_turn_is_reported(
    does: str, patience: float, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "PATIENCE", patience)
    process = subprocess.Popen(["sh", "-c", does], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with harness.ending(process):
        assert harness.Client(process).turn(1) == {"error": f"it ended with exit code {code}"}
