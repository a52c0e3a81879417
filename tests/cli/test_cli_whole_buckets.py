"""Where the commands on whole buckets run, what they keep, and what they select."""

import json
import sys

import pytest

from tests.cli.desk import Desk
from tests.helpers import hash_of

TEXTS = {f"file{number}": f"text {number}" for number in range(40)}


@pytest.fixture
def full(desk: Desk) -> Desk:
    """A storage with forty objects, one of them damaged."""
    desk.run("put", *desk.files(**TEXTS), "--quiet")
    (desk.objects / hash_of("text 7")).write_text("fext 7")
    return desk


def test_processes_report_the_same_and_a_manifest_is_continued(full: Desk):
    here = full.run("verify", "--json")
    assert (here.code, len(here.out)) == (5, 40)
    there = full.run("verify", "--json", "--processes", 2, "--manifest", "kept")
    assert (there.code, there.out, there.errors) == (here.code, here.out, here.errors)
    (full.objects / hash_of("text 8")).write_text("fext 8")
    again = full.run("verify", "--json", "--manifest", "kept")
    assert (again.out, again.errors) == (here.out, here.errors)
    lines = (full.folder / "kept" / "manifest.jsonl").read_text().splitlines()
    assert len([line for line in lines if line and "counts" in json.loads(line)]) == 16
    assert len([line for line in full.run("verify").out if line.startswith("damaged")]) == 2


def test_a_manifest_may_be_a_storage(full: Desk):
    url = (full.folder / "kept").as_uri()
    first = full.run("verify", "--manifest", url)
    assert len(full.stored("kept")) == 17
    assert full.run("verify", "--manifest", url) == first
    assert len(full.stored("kept")) == 17


def test_samples_differ_by_their_seed_and_share(full: Desk):
    samples = [
        {line["content_hash"] for line in full.run("verify", "--json", "--sample", "50%", "--seed", seed).json}
        for seed in (0, 0, 1)
    ]
    assert samples[0] == samples[1] != samples[2]
    assert 8 < len(samples[0]) < 32
    assert len(full.run("verify", "--json", "--sample", "1").json) == 40
    assert len(full.run("verify", "--json", "--sample", "0.001").json) < 4


def test_since_reads_what_is_young(full: Desk):
    assert len(full.run("verify", "--json", "--since", "1h").json) == 40
    assert full.run("verify", "--json", "--since", "0s").json == []


def test_since_continues_an_unfinished_run_and_no_finished_one(full: Desk):
    path, arguments = full.folder / "kept" / "manifest.jsonl", ["verify", "--json", "--manifest", "kept"]
    whole = full.run(*arguments, "--since", "1h")

    def runs() -> list[int]:
        entries = [json.loads(line) for line in path.read_text().splitlines() if line]
        plans = [hash_of(json.dumps(entry)) for entry in entries if "shards" in entry]
        return [sum(entry.get("plan") == plan for entry in entries) for plan in plans]

    assert runs() == [16]
    path.write_text("\n".join(path.read_text().splitlines()[:-8]))  # four results, each after an empty line
    assert runs() == [12]
    assert full.run(*arguments, "--since", "1h") == whole
    assert runs() == [16], "it was continued"
    full.run(*arguments, "--since", "1h")
    assert runs() == [16, 16], "a later one reads anew"
    path.write_text("\n".join(path.read_text().splitlines()[:-8]))
    full.run(*arguments, "--since", "2d")
    full.run(*arguments, "--since", "1h", "--sample", "50%")
    assert runs() == [16, 12, 16, 16], "others are other runs"


@pytest.mark.parametrize(
    ("arguments", "code", "saying"),
    [
        (["--sample", "0"], 2, "a sample is a share of the objects"),
        (["--sample", "200%"], 2, "a sample is a share of the objects"),
        (["--sample", "some"], 2, "a sample is a share of the objects"),
        (["--sample", "nan"], 2, "a sample is a share of the objects"),
        (["--processes", "0"], 2, "Must be >= 1"),
        (["--processes", "2", "--dask", "tcp://127.0.0.1:1"], 2, "select either --processes or --dask"),
        (["--manifest", "file1.txt"], 2, "'file1.txt' is a file"),
        (["--manifest", "ftp://host/x"], 2, "ftp"),
    ],
)
def test_wrong_options_end_before_any_work(full: Desk, arguments: list[str], code: int, saying: str):
    done = full.run("verify", *arguments)
    assert (done.code, done.out) == (code, [])
    assert any(saying in line for line in done.errors), done.errors


def test_dask_that_is_not_installed_is_named(full: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = full.run("verify", "--dask", "tcp://127.0.0.1:1")
    assert done.code != 0
    assert 'pip install "lakery-cloud[dask]"' in "".join(done.errors)
