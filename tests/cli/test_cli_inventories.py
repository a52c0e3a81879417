"""`--inventory` on the command line, and what a dry run of `gc` says about requests and their price."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.helpers import hash_of
from tests.inventories import Entry, rewrite_manifest, write_batch_report, write_inventory

TEXTS = {f"file{number}": f"text {number}" for number in range(20)}
HASHES = sorted(map(hash_of, TEXTS.values()))
OLD = time.time() - 30 * 86400


@pytest.fixture
def listed(desk: Desk) -> Path:
    """A storage with twenty objects, one of them damaged, and an inventory that lacks one, and has one that is gone."""
    desk.run("put", *desk.files(**TEXTS), "--records", "records.jsonl", "--quiet")
    lines = Path("records.jsonl").read_text().splitlines(keepends=True)
    Path("records.jsonl").write_text("".join(lines[2:]))
    (desk.objects / hash_of("text 7")).write_text("fext 7")
    for path in desk.objects.iterdir():
        os.utime(path, (OLD, OLD))
    os.utime(desk.objects / hash_of("text 1"))
    when = datetime.fromtimestamp(OLD, UTC)
    rows = [
        Entry(each, size=6, modified=when)
        for each in [*(each for each in HASHES if each != hash_of("text 9")), hash_of("gone")]
    ]
    return write_inventory(desk.folder / "inventory", "s3-csv", str(desk.objects), [rows, rows[:3]])


def test_commands_read_what_the_inventory_lists(desk: Desk, listed: Path):
    verified = desk.run("verify", "--inventory", listed, "--json")
    assert (verified.code, len(verified.json)) == (5, 19)
    assert hash_of("text 9") not in {line["content_hash"] for line in verified.json}
    spawned = desk.run("verify", "--inventory", listed.as_uri(), "--json", "--processes", 1, "--manifest", "kept")
    assert spawned == verified
    assert desk.run("verify", "--inventory", listed, "--json", "--manifest", "kept") == verified
    stock = desk.run("inventory", "--inventory", listed)
    assert {line["content_hash"] for line in stock.json} == {*HASHES, hash_of("gone")} - {hash_of("text 9")}
    orphans = desk.run("orphans", "--inventory", listed, "--records", "records.jsonl", "--json")
    assert {line["content_hash"] for line in orphans.json} == {hash_of(each) for each in ("text 0", "text 1", "gone")}


def test_an_inventory_is_copied_as_a_listing_is(desk: Desk, listed: Path):
    source = desk.objects.as_uri()
    arguments = ["copy", source, "--inventory", listed, "--json"]
    done = desk.run(*arguments, f"{desk.folder.as_uri()}/there")
    results = {line["record"]["content_hash"]: line["result"] for line in done.json if line["record"]}
    assert results == dict.fromkeys({*HASHES} - {hash_of("text 7"), hash_of("text 9")}, "copied")
    assert [line["result"] for line in done.json if not line["record"]] == ["failed"], (
        "the damaged one; not what is gone"
    )
    assert desk.stored("there") == set(results)
    spawned = desk.run(*arguments, f"{desk.folder.as_uri()}/others", "--processes", 1, "--manifest", "kept")
    assert [line["result"] for line in spawned.json] == [line["result"] for line in done.json]
    for refused in (["--records", "records.jsonl"], ["--max-size", "1k"]):
        wrong = desk.run(*arguments, f"{desk.folder.as_uri()}/nowhere", *refused)
        assert (wrong.code, "--inventory" in wrong.errors[0]) == (2, True)
    assert not (desk.folder / "nowhere").exists()


def test_what_an_inventory_lacks_is_looked_for_before_it_is_dangling(desk: Desk, listed: Path):
    missing = hash_of("missing")
    Path("more.csv").write_text(f"content_hash\n{missing}\n{hash_of('text 9')}\n")
    arguments = ["dangling", "--records", "records.jsonl", "--records", "more.csv", "--json"]
    done = desk.run(*arguments, "--inventory", listed)
    assert (done.code, [line["content_hash"] for line in done.json]) == (3, [missing])
    assert done.out == desk.run(*arguments).out == desk.run(*arguments, "--inventory", listed, "--processes", 1).out


def test_gc_looks_at_each_object_of_the_inventory_again(desk: Desk, listed: Path):
    arguments = ["gc", "--inventory", listed, "--records", "records.jsonl"]
    dry = desk.run(*arguments, "--prices", "list=5, read=1,write=10")
    assert (dry.code, len(dry.out)) == (0, 3)
    assert dry.errors[1:3] == [
        f"3 objects, 18 bytes: would be quarantined, the oldest of {datetime.fromtimestamp(OLD, UTC):%Y-%m-%d}",
        "nothing was changed; add --yes to do it",
    ]
    assert dry.errors[3] == (
        "--yes sends about 1 page, 3 looks, 3 writes, 3 deletions: 0.04 USD at list 5, read 1, write 10, delete 0 USD for "
        "a thousand"
    )
    done = desk.run(*arguments, "--yes", "--json")
    assert [(line["content_hash"], line["result"]) for line in done.json] == [(hash_of("text 0"), "quarantined")]
    assert desk.stored() == set(HASHES)
    assert (desk.objects / ".trash" / hash_of("text 0")).exists()


def test_prices_are_those_of_the_cloud_or_none(desk: Desk, listed: Path):
    quiet = desk.run("gc", "--records", "records.jsonl")
    assert not any("USD" in line for line in quiet.errors), "a folder costs nothing"
    for wrong in ("list", "list=many", "put=1", "list=1,,", "page=7"):
        refused = desk.run("gc", "--records", "records.jsonl", "--prices", wrong)
        assert (refused.code, refused.out) == (2, [])
        assert "prices are such as list=0.005" in refused.errors[0]
    refused = desk.run("gc", "--records", "records.jsonl", "--prices", "list=-1")
    assert (refused.code, "at least 0" in refused.errors[0]) == (2, True)


def test_an_inventory_that_is_refused_ends_the_run_before_anything_happens(desk: Desk, listed: Path):
    before = desk.stored()
    manifest = json.loads(listed.read_text())
    rewrite_manifest(listed, sourceBucket="other")
    for command in (
        ["verify"],
        ["inventory", "-o", "stock.csv"],
        ["orphans", "--records", "records.jsonl"],
        ["gc", "--yes", "--records", "records.jsonl"],
    ):
        done = desk.run(*command, "--inventory", listed)
        assert (done.code, done.out) == (2, [])
        assert "is of the bucket 'other'" in done.errors[0]
    rewrite_manifest(listed, **manifest)
    listed.with_suffix(".checksum").write_text("0" * 32)
    done = desk.run("gc", "--yes", "--records", "records.jsonl", "--inventory", listed)
    assert (done.code, done.out) == (5, [])
    assert "manifest.checksum says" in done.errors[0]
    assert desk.run("verify", "--inventory", "missing.json").code == 2
    assert desk.run("verify", "--inventory", "ftp://host/manifest.json").code == 2
    assert desk.stored() == before
    assert not Path("stock.csv").exists()


def test_the_command_says_what_could_not_be_compared(desk: Desk):
    desk.run("put", *desk.files(one="one", two="two"), "--quiet")
    done = desk.run("verify", "--by-checksum")
    assert (done.code, sorted(line.split("  ")[0] for line in done.out)) == (6, ["not comparable"] * 2)
    assert (
        "2 of 2 objects" in done.errors[-1]
        and "were not comparable" in done.errors[-1]
        and "verify them without --by-checksum" in done.errors[-1]
    )
    manifest = write_batch_report(
        desk.folder / "report", str(desk.objects), {hash_of(each): hash_of(each) for each in ("one", "two")}
    )
    done = desk.run("verify", "--by-checksum", "--inventory", manifest)
    assert (done.code, done.out, done.errors) == (
        0,
        [],
        ["2 objects, 0 bytes: all intact by their checksums (2 sha256)"],
    )
