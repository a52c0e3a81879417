"""`copy` between folders, and across clouds."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from lakery_cloud.testing import content, digest_of
from tests.cli.desk import tree
from tests.helpers import hash_of
from tests.rigs.pairs import LOCAL_PAIRS

PAIRS = {pair.name: pair for pair in LOCAL_PAIRS}


@pytest.fixture
def there(desk):
    return f"{desk.folder.as_uri()}/there"


def test_copied_content_loads_from_its_new_records(desk, there):
    desk.files(a="one", b="three")
    desk.run("put", "a.txt", "b.txt")
    done = desk.run("copy", desk.objects.as_uri(), there)
    assert done.code == 0
    assert done.errors[0].startswith("2 objects, 8 bytes copied, 0 bytes deduplicated, ")
    (desk.folder / "new.jsonl").write_text("\n".join(done.out))
    assert desk.run("get", "--records", "new.jsonl", "--storage", there, "-o", "out").code == 0
    assert tree(desk.folder / "out") == {hash_of("one"): "one", hash_of("three"): "three"}


def test_names_of_files_travel_with_a_records_file(desk, there):
    desk.files(docs_a="one", docs_b="two", c="three")
    desk.run("put", "-r", "docs", "--records", "docs.jsonl")
    desk.run("put", "c.txt")
    done = desk.run("copy", desk.objects.as_uri(), there, "--records", "docs.jsonl", "--json")
    assert done.results == [("docs/a.txt", "copied"), ("docs/b.txt", "copied")]
    assert desk.stored("there") == {hash_of("one"), hash_of("two")}
    (desk.folder / "new.jsonl").write_text("\n".join(done.out))
    desk.run("get", "--records", "new.jsonl", "--storage", there, "-o", "out")
    assert tree(desk.folder / "out") == {"docs/a.txt": "one", "docs/b.txt": "two"}


def test_second_copy_skips_existing_content(desk, there):
    desk.files(a="one")
    desk.run("put", "a.txt")
    first, second = (desk.run("copy", desk.objects.as_uri(), there) for _ in range(2))
    assert second.out == first.out
    assert second.errors[0].startswith("1 object, 0 bytes copied, 3 bytes deduplicated, ")


def test_empty_records_file_copies_nothing(desk, there):
    desk.files(a="one", empty="")
    desk.run("put", "a.txt")
    done = desk.run("copy", desk.objects.as_uri(), there, "--records", "empty.txt")
    assert (done.code, done.out, desk.stored("there")) == (0, [], set())


def test_dry_run_lists_the_content_to_copy(desk, there):
    desk.files(a="one")
    desk.run("put", "a.txt")
    done = desk.run("copy", desk.objects.as_uri(), there, "--dry-run")
    assert done.out == [f"would be copied  {hash_of('one')}  3"]
    assert done.errors[0].startswith("1 object, 3 bytes would be copied, ")
    assert not (desk.folder / "there").exists()


def test_content_that_fails_is_named_and_exits_with_its_code(desk, there):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    (desk.objects / hash_of("one")).write_text("onE")
    done = desk.run("copy", desk.objects.as_uri(), there, "--records", "all.jsonl", "--json")
    assert (done.code, done.results) == (5, [("a.txt", "failed"), ("b.txt", "copied")])
    assert done.errors[0].startswith("IntegrityError: a.txt: ")
    assert desk.stored("there") == {hash_of("two")}


def test_a_job_prints_the_same_and_continues_by_its_manifest(desk, there):
    desk.run("put", *desk.files(**{f"file{number}": str(number) for number in range(20)}), "--quiet")
    source, other = desk.objects.as_uri(), f"{desk.folder.as_uri()}/other"
    here = desk.run("copy", source, there)
    job = ["copy", source, other, "--processes", 2, "--manifest", "kept"]
    done = desk.run(*job)
    assert (done.code, done.out) == (0, here.out)
    assert done.errors[0].startswith("20 objects, 30 bytes copied, 0 bytes deduplicated, ")
    for content_hash in desk.stored("other"):
        (desk.folder / "other" / content_hash).unlink()
    again = desk.run(*job)
    assert (again.out, again.errors[0].rpartition(" copied")[0]) == (done.out, done.errors[0].rpartition(" copied")[0])
    assert desk.stored("other") == set(), "what is done is not done again"
    assert [line["result"] for line in desk.run(*job[:3], "--manifest", "more", "--json").json] == ["copied"] * 20


def test_without_new_records_only_failures_are_named(desk, there):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt")
    (desk.objects / hash_of("one")).write_text("onE")
    done = desk.run("copy", desk.objects.as_uri(), there, "--no-new-records")
    assert (done.code, done.out) == (5, [])
    assert done.errors[0].startswith(f"IntegrityError: {hash_of('one')}: ")
    assert done.errors[1].startswith("1 object, 3 bytes copied, 0 bytes deduplicated, 1 failed, ")
    again = desk.run("copy", desk.objects.as_uri(), there, "--no-new-records", "--json")
    assert again.results == [(None, "failed")]


def test_content_in_quarantine_is_listed_and_copied_if_asked_for(desk, there):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt")
    trash = desk.objects / ".trash"
    trash.mkdir()
    (desk.objects / hash_of("one")).rename(trash / hash_of("one"))
    hashes = [
        {line["content_hash"] for line in desk.run("ls", *options, "--json").json}
        for options in ([], ["--quarantine"], ["--quarantine", desk.objects.as_uri()])
    ]
    assert hashes == [{hash_of("two")}, {hash_of("one")}, {hash_of("one")}]
    desk.run("copy", desk.objects.as_uri(), there)
    assert desk.stored("there") == {hash_of("two")}
    assert desk.run("copy", desk.objects.as_uri(), there, "--quarantine").code == 0
    assert desk.stored("there") == {hash_of("one"), hash_of("two")}


def test_records_are_not_copied_by_a_job(desk, there):
    desk.files(a="one")
    desk.run("put", "a.txt", "--records", "all.jsonl")
    done = desk.run("copy", desk.objects.as_uri(), there, "--records", "all.jsonl", "--manifest", "kept")
    assert (done.code, desk.stored("there")) == (2, set())
    assert "leave out --records" in done.errors[0]


@pytest.mark.parametrize("names", [("s3-seaweedfs", "azure-azurite"), ("azure-azurite", "gcs-fake")], ids="-to-".join)
async def test_content_goes_from_cloud_to_cloud(desk, names, request, monkeypatch):
    async with AsyncExitStack() as stack:
        source, destination = [
            await stack.enter_async_context(PAIRS[name].open(request, monkeypatch)) for name in names
        ]
        blobs = [content(size) for size in (0, 100, 3 * max(source.part_size, destination.part_size))]
        async with source.storage(prefix="from") as storage:
            for blob in blobs:
                await storage.write_data(blob, digest_of(blob, content_encoding="gzip"), {"project": "apollo"})
        urls = source.url("from", part_size=source.part_size), destination.url("to", part_size=destination.part_size)
        done = await asyncio.to_thread(desk.run, "copy", *urls)
        assert done.code == 0, done.errors
        hashes = {digest_of(blob)["content_hash"]: blob for blob in blobs}
        assert {json.loads(line)["content_hash"] for line in done.out} == set(hashes)
        for content_hash, blob in hashes.items():
            stored = await destination.get(f"to/{content_hash}")
            assert (stored.data, stored.content_type, stored.content_encoding) == (blob, "application/x-test", "gzip")
            assert stored.tags == {"project": "apollo"}
        again = await asyncio.to_thread(desk.run, "copy", *urls, "--json")
        assert [line["result"] for line in again.json] == ["deduplicated"] * 3
        await destination.check_nothing_temporary()
