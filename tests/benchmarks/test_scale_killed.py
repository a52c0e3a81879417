"""The checks of the run whose jobs are killed: they find what was lost, done twice or reported differently."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from benchmarks.payload import unique
from benchmarks.scale.killed import check_complete, check_redone, compare
from benchmarks.scale.killed_job import REPORT
from benchmarks.scale.report import figures as figures_of
from lakery_cloud.maintenance.manifest import FILE_NAME

Entry = dict[str, Any]


def test_only_shards_in_flight_may_be_done_again():
    assert check_redone(["0", "1", "2", "3"], ["0", "1"], ["3", "4"]) == (2, 1)
    with pytest.raises(SystemExit, match="done again: \\['1'\\]"):
        check_redone(["0", "1", "2"], ["0", "1"], ["1", "2"])


def _write(folder: Path, *entries: Entry) -> Path:
    folder.mkdir()
    lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    (folder / REPORT).write_text(lines)
    (folder / FILE_NAME).write_text('{"version": 1, "shards": ["0"]}\n' + lines)
    return folder


def _copied(outcome: str, content_hash: str = "0a") -> Entry:
    counts = {"objects": 1, outcome: 1, f"{outcome} bytes": 3}
    return {"shard": "0", "counts": counts, "findings": [{"content_hash": content_hash, "result": outcome}]}


def test_a_copy_that_an_earlier_attempt_has_made_is_the_same_report(tmp_path: Path):
    alone = _write(tmp_path / "alone", _copied("copied"))
    compare(alone, _write(tmp_path / "resumed", _copied("deduplicated")))
    for name, entries in {
        "failed": [_copied("failed")],
        "other": [_copied("copied", "0b")],
        "twice": [_copied("copied")] * 2,
        "none": [],
    }.items():
        with pytest.raises(SystemExit, match="differs from that of one process"):
            compare(alone, _write(tmp_path / name, *entries))


def test_a_copy_is_complete_with_exactly_the_intact_blobs(tmp_path: Path):
    found: list[Entry] = [
        {"content_hash": sha256(unique(64, number)).hexdigest(), "size": 64, "problem": None} for number in range(3)
    ]

    def verified(name: str, findings: list[Entry]) -> Path:
        return _write(tmp_path / name, {"shard": "", "counts": {}, "findings": findings})

    check_complete(verified("whole", found), 3, 64)
    for name, findings in {
        "missing": found[1:],
        "damaged": [*found[1:], {**found[0], "problem": "damaged"}],
        "too-many": [*found, {**found[0], "content_hash": "0" * 64}],
    }.items():
        with pytest.raises(SystemExit, match="1 blobs are missing, damaged or too many"):
            check_complete(verified(name, findings), 3, 64)


def test_the_page_says_what_was_done_again(tmp_path: Path):
    results = tmp_path / "scale.json"
    machine = {"processor": "CPU", "cores": 2, "system": "Linux", "python": "3.11"}
    figures = {"part": "killed", "what": "copy", "who": "us", "of": 1000, "objects": 1000, "seconds": 2.0}
    figures |= {"worker": [3, 1], "run": [5, 4], "date": "2026-02-03"}
    results.write_text(json.dumps({"machine": machine, "results": [figures]}))
    found = figures_of(results)
    assert "`copy`: a worker was killed with 3 shards in flight, of which 1 had begun again" in found
    assert "Of the 5 that were in flight then, 4 were done again" in found
