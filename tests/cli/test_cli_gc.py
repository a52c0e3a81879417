"""`gc` on the command line: sources of records, dry runs, quarantine and restoration."""

import csv
import json
import os
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.helpers import hash_of

NEEDED, GARBAGE = hash_of("needed"), hash_of("garbage")


@pytest.fixture
def old(desk: Desk) -> Desk:
    """A storage with two objects that are a month old, and a record of one of them."""
    desk.run("put", *desk.files(needed="needed"), "--records", "records.jsonl", "--quiet")
    desk.run("put", *desk.files(garbage="garbage"), "--quiet")
    for path in desk.objects.iterdir():
        if path.is_file():
            os.utime(path, (time.time() - 30 * 86400,) * 2)
    return desk


def test_a_dry_run_says_what_would_happen(old: Desk):
    when = datetime.fromtimestamp((old.objects / GARBAGE).stat().st_mtime, UTC)
    done = old.run("gc", "--records", "records.jsonl")
    assert done.code == 0
    assert [line.split() for line in done.out] == [["would", "be", "quarantined", GARBAGE, "7"]]
    assert done.errors == [
        "2 objects, 13 bytes: 1 needed, 0 younger than the grace period; 0 in quarantine; the sources name 1",
        f"1 object, 7 bytes: would be quarantined, the oldest of {when:%Y-%m-%d}",
        "nothing was changed; add --yes to do it",
    ]
    assert old.stored() == {NEEDED, GARBAGE}
    assert not (old.objects / ".trash").exists()


def test_garbage_is_quarantined_read_and_restored(old: Desk):
    done = old.run("gc", "--records", "records.jsonl", "--yes", "--json")
    assert (done.code, done.json) == (0, [{"content_hash": GARBAGE, "size": 7, "result": "quarantined"}])
    assert (old.objects / ".trash" / GARBAGE).exists() and not (old.objects / GARBAGE).exists()
    again = old.run("gc", "--records", "records.jsonl", "--yes")
    assert (again.out, again.errors[0].count("1 in quarantine")) == ([], 1)
    read = old.run("get", GARBAGE)
    assert (read.code, read.out) == (0, ["garbage"])
    assert old.run("stat", GARBAGE, "--json").json[0]["size"] == 7
    listed = old.run("ls", "--json").json
    assert [line["content_hash"] for line in listed] == [NEEDED]
    back = old.run("gc", "--restore", GARBAGE)
    assert (back.code, back.errors) == (0, ["1 object, 7 bytes: restored"])
    assert (old.objects / GARBAGE).exists()
    assert old.run("gc", "--restore-all", "--json").json == [{"content_hash": GARBAGE, "size": 7, "result": "restored"}]
    assert old.run("gc", "--restore", hash_of("other")).code == 3


@pytest.mark.parametrize("kind", ["jsonl", "csv", "csv of records", "parquet", "sql"])
def test_each_source_of_records_keeps_what_it_names(old: Desk, kind: str):
    record = Path("records.jsonl").read_text().strip()
    match kind:
        case "jsonl":
            arguments = ["--records", "records.jsonl"]
        case "csv" | "csv of records":
            value = NEEDED if kind == "csv" else json.dumps(json.loads(record)["record"])
            with Path("table.csv").open("w", newline="") as file:
                csv.writer(file).writerows([["id", "digest"], ["1", value]])
            arguments = ["--records", "table.csv", "--column", "digest"]
        case "parquet":
            pyarrow = pytest.importorskip("pyarrow")
            parquet = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(pyarrow.table({"content_hash": [NEEDED] * 3}), "table.parquet")
            arguments = ["--records", "table.parquet"]
        case _:
            with sqlite3.connect("records.db") as database:
                database.execute("CREATE TABLE content (hash TEXT)")
                database.execute("INSERT INTO content VALUES (?)", (NEEDED,))
            database.close()
            arguments = ["--database", "sqlite:///records.db", "--query", "SELECT hash FROM content"]
    done = old.run("gc", *arguments, "--json")
    assert (done.code, [line["content_hash"] for line in done.json]) == (0, [GARBAGE])


def test_sources_add_up_and_processes_report_the_same(old: Desk):
    Path("more.csv").write_text(f"content_hash\n{GARBAGE}\n")
    both = ["--records", "records.jsonl", "--records", "more.csv", "--json"]
    assert old.run("gc", *both).out == []
    here = old.run("gc", "--records", "records.jsonl", "--json")
    there = old.run("gc", "--records", "records.jsonl", "--json", "--processes", "1", "--yes")
    assert [line["content_hash"] for line in there.json] == [line["content_hash"] for line in here.json]
    assert (old.objects / ".trash" / GARBAGE).exists()


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        ([], "name the sources of records"),
        (["--records", "missing.jsonl"], "can't be read"),
        (["--records", "missing.csv"], "can't be read"),
        (["--records", "empty.jsonl"], "everything would be garbage"),
        (["--records", "broken.jsonl"], "line 2 of broken.jsonl"),
        (["--records", "table.csv", "--column", "other"], "has no column 'other', but 'id', 'content_hash'"),
        (["--records", "nulls.csv"], "row 3 of nulls.csv: '' is neither a content hash nor a record"),
        (["--records", "broken.parquet"], "is no Parquet file"),
        (["--database", "sqlite:///x.db"], "belong together"),
        (["--query", "SELECT 1"], "belong together"),
        (["--database", "nonsense", "--query", "SELECT 1"], "is no URL of SQLAlchemy"),
        (["--database", "sqlite:///x.db", "--query", "SELECT 1"], "row 1 of sqlite:///x.db: 1 is neither"),
        (["--database", "sqlite://", "--query", "SELECT hash FROM nowhere"], "no such table"),
        (["--records", "records.jsonl", "--grace", "5m"], "at least an hour"),
    ],
)
def test_a_source_that_fails_ends_the_run_before_anything_is_touched(old: Desk, arguments: list[str], saying: str):
    Path("empty.jsonl").touch()
    Path("broken.jsonl").write_text(Path("records.jsonl").read_text() + "{}\n")
    Path("table.csv").write_text(f"id,content_hash\n1,{NEEDED}\n")
    Path("nulls.csv").write_text(f"id,content_hash\n1,{NEEDED}\n2,\n")
    Path("broken.parquet").write_text("no parquet")
    done = old.run("gc", *arguments, "--yes")
    assert done.code in (2, 6)
    assert done.out == []
    assert any(saying in line for line in done.errors), done.errors
    assert old.stored() == {NEEDED, GARBAGE}


def test_an_unfinished_run_is_continued_and_no_finished_one(old: Desk):
    path = old.folder / "kept" / "manifest.jsonl"
    arguments = ["gc", "--records", "records.jsonl", "--manifest", "kept", "--json"]

    def runs() -> list[tuple[str, int]]:
        entries = [json.loads(line) for line in path.read_text().splitlines() if line]
        plans = {hash_of(json.dumps(entry)): entry["job"]["began"] for entry in entries if "shards" in entry}
        return [(began, sum(entry.get("plan") == plan for entry in entries)) for plan, began in plans.items()]

    whole = old.run(*arguments)
    ((began, shards),) = runs()
    path.write_text("\n".join(path.read_text().splitlines()[:-8]))  # four results, each after an empty line
    old.run(*arguments, "--yes")
    assert runs()[0] == (began, shards - 4), "a run that changes something is another one"
    for trashed in (old.objects / ".trash").iterdir():
        trashed.rename(old.objects / trashed.name)
    assert old.run(*arguments) == whole
    assert [each for each in runs() if each[0] == began] == [(began, shards)], "it was continued"
    old.run(*arguments)
    assert len(runs()) == 3, "a later one begins anew"


def test_rm_keeps_what_a_record_needs(old: Desk):
    done = old.run("rm", NEEDED, GARBAGE, "--unless-referenced-by", "records.jsonl", "--json")
    assert [(line["content_hash"], line["result"]) for line in done.json] == [
        (NEEDED, "kept"),
        (GARBAGE, "deleted"),
    ]
    assert old.stored() == {NEEDED}
    Path("empty.jsonl").touch()
    refused = old.run("rm", NEEDED, "--unless-referenced-by", "empty.jsonl")
    assert (refused.code, old.stored()) == (2, {NEEDED})


def test_rm_deletes_from_quarantine_too(old: Desk):
    old.run("gc", "--records", "records.jsonl", "--yes")
    assert old.run("rm", GARBAGE).code == 0
    assert old.stored() == {NEEDED}


def test_without_quarantine_garbage_is_gone(old: Desk):
    done = old.run("gc", "--records", "records.jsonl", "--yes", "--no-quarantine", "--json")
    assert done.json == [{"content_hash": GARBAGE, "size": 7, "result": "deleted"}]
    assert old.stored() == {NEEDED}


def test_an_empty_set_must_be_allowed(old: Desk):
    done = old.run("gc", "--allow-empty", "--json")
    assert {line["content_hash"] for line in done.json} == {NEEDED, GARBAGE}
