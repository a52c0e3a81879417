"""`inventory`, `orphans` and `dangling` on the command line."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.helpers import hash_of

TEXTS = {f"file{number}": f"text {number}" for number in range(20)}
HASHES = sorted(map(hash_of, TEXTS.values()))


@pytest.fixture
def full(desk: Desk) -> Desk:
    """A storage with twenty objects; records name all but one, and one that is not stored."""
    desk.run("put", *desk.files(**TEXTS), "--records", "records.jsonl", "--quiet")
    lines = Path("records.jsonl").read_text().splitlines(keepends=True)
    Path("records.jsonl").write_text("".join(lines[1:]))
    Path("more.csv").write_text(f"content_hash\n{hash_of('missing')}\n")
    return desk


@pytest.mark.parametrize("name", ["stock.csv", "stock.jsonl", "stock.parquet", "-"])
def test_an_inventory_has_a_row_for_each_object(full: Desk, name: str):
    done = full.run("inventory", "-o", name)
    assert (done.code, done.errors[-1].startswith("20 objects")) == (0, True)
    match name:
        case "stock.csv":
            with Path(name).open(newline="") as file:
                rows = list(csv.DictReader(file))
        case "stock.parquet":
            rows = pytest.importorskip("pyarrow.parquet").read_table(name).to_pylist()
        case "-":
            rows = done.json
        case _:
            rows = [json.loads(line) for line in Path(name).read_text().splitlines()]
    assert [row["content_hash"] for row in rows] == HASHES
    assert {int(row["size"]) for row in rows} == {len(text) for text in TEXTS.values()}
    assert all(row["modified"] and row["version"] for row in rows)
    assert full.stored() == set(HASHES)


def test_an_inventory_is_a_source_of_records(full: Desk):
    for name in ("stock.csv", "stock.parquet"):
        full.run("inventory", "-o", name, "--quiet")
        assert full.run("orphans", "--records", name, "--json").out == []


def test_processes_write_row_groups_of_the_same_rows(full: Desk):
    parquet = pytest.importorskip("pyarrow.parquet")
    full.run("inventory", "-o", "here.parquet", "--quiet")
    full.run("inventory", "-o", "there.parquet", "--quiet", "--processes", "1")
    assert parquet.read_table("here.parquet") == parquet.read_table("there.parquet")
    assert parquet.ParquetFile("there.parquet").num_row_groups > 1


def test_an_inventory_that_fails_leaves_no_file(full: Desk):
    assert full.run("inventory", "-o", "missing/stock.csv").code == 2
    assert full.run("inventory", "-o", "stock.csv", "--storage", "file:///nowhere?create=false").code == 3
    assert not Path("stock.csv").exists()
    assert not list(Path().glob(".stock*"))


def test_orphans_are_in_no_record(full: Desk):
    done = full.run("orphans", "--records", "records.jsonl", "--records", "more.csv", "--json")
    assert (done.code, done.json) == (
        0,
        [{"content_hash": hash_of("text 0"), "size": 6, "result": "orphan"}],
    )
    shown = full.run("orphans", "--records", "records.jsonl")
    assert shown.out == [f"orphan  {hash_of('text 0')}               6"]
    assert shown.errors == ["20 objects, 130 bytes: 1 in no record"]


def test_dangling_records_name_what_is_not_stored(full: Desk):
    arguments = ["dangling", "--records", "records.jsonl", "--records", "more.csv"]
    done = full.run(*arguments, "--json")
    assert (done.code, done.json) == (3, [{"content_hash": hash_of("missing"), "size": None, "result": "dangling"}])
    assert full.run(*arguments, "--processes", "1", "--json").out == done.out
    assert full.run("dangling", "--records", "records.jsonl").code == 0
    (full.objects / ".trash").mkdir()
    (full.objects / hash_of("text 1")).rename(full.objects / ".trash" / hash_of("text 1"))
    quarantined = full.run("dangling", "--records", "records.jsonl")
    assert (quarantined.code, quarantined.out) == (0, [f"quarantined  {hash_of('text 1')}               6"])
    assert quarantined.errors == ["the records name 19 objects: 0 not stored, 1 in quarantine"]


def test_records_are_needed(full: Desk):
    for command in ("orphans", "dangling"):
        done = full.run(command)
        assert (done.code, done.out) == (2, [])
        assert "name the sources of records" in done.errors[0]
