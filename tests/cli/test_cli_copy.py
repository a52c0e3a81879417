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
