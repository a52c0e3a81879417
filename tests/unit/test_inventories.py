"""The providers' inventories: each form as it is documented, with rows that don't count, and odd ones, refused by name."""

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import BucketNotFound, ConfigError, FileStorage, IntegrityError, MemoryStorage, NoStorageData
from lakery_cloud.errors import InvalidRecord
from lakery_cloud.maintenance import (
    CollectJob,
    CopyJob,
    InventoryJob,
    Manifest,
    VerifyJob,
    live_set,
    plan,
    read_inventory,
    run_job,
    total,
)
from lakery_cloud.maintenance.inventories import Inventory
from lakery_cloud.maintenance.shards import EVERYTHING, Shard, listed
from tests.helpers import hash_of, write
from tests.inventories import FORMS, Entry, md5, rewrite_manifest, write_inventory

BUCKET = "bucket"
PREFIX = "réports/100% +1/日"
LATER = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
HASHES = sorted(hash_of(f"{number}") for number in range(40))


def entries(*hashes: str, **fields: Any) -> list[Entry]:
    return [Entry(f"{PREFIX}/{each}", size=7, **fields) for each in hashes]


def with_noise(states: tuple[str, ...]) -> list[list[Entry]]:
    """Two files with all hashes, not in their order, and rows that don't count or count once."""
    first, second = HASHES[::-2], HASHES[::2]
    noise = [
        Entry(f"{PREFIX}/.tmp/20260101T000000Z-1"),
        Entry(f"{PREFIX}/.trash/{HASHES[0]}"),
        Entry(f"{PREFIX}/notes"),
        Entry(f"other/{HASHES[0]}", size=1000),
        Entry(HASHES[0], size=1000),
        *(Entry(f"{PREFIX}/{hash_of(state)}", state=state) for state in states),
        *(Entry(f"{PREFIX}/{HASHES[1]}", size=1, state=state) for state in states),
    ]
    twice = [*entries(*first[:3]), *entries(HASHES[5], modified=LATER, etag="new")]
    return [[*entries(*first), *noise], [*twice, *entries(*second), *noise[:2]], []]


STATES = {"s3": ("version", "deleted"), "gcs": ("version",), "azure": ("version", "snapshot", "deleted")}


@pytest.mark.parametrize("form", FORMS)
async def test_an_inventory_lists_the_current_content_of_a_storage_once(form: str, tmp_path: Path):
    provider = form.partition("-")[0]
    storage = MemoryStorage(BUCKET, prefix=PREFIX)
    manifest = write_inventory(tmp_path / "made", form, BUCKET, with_noise(STATES[provider]))
    with await read_inventory(storage, manifest) as inventory:
        shards = await plan(storage, shards=16, inventory=inventory)
        found = [entry for shard in shards async for entry in listed(storage, shard)]
        assert [content_hash for content_hash, _ in found] == HASHES
        assert {info.size for _, info in found} == {7}
        assert [info.address for _, info in found] == [storage.keys.content(each) for each in HASHES]
        times = {content_hash: info.modified for content_hash, info in found}
        assert times[HASHES[5]] and abs(times[HASHES[5]] - LATER) < timedelta(seconds=1), "the newer of two rows counts"
        version = {"s3": '"abc"', "gcs": str(int(b"abc".hex(), 16)), "azure": '"0xabc"'}[provider]
        assert found[0][1].version == version
        told = {"s3": (None, "STANDARD"), "gcs": ("text/plain", "STANDARD"), "azure": ("text/plain", "Hot")}[provider]
        assert {(info.content_type, info.storage_class) for _, info in found} == {told}
        assert inventory.count("") >= len(HASHES)
        assert [entry async for entry in listed(storage, Shard("a", inventory).portable())] == [
            entry for entry in found if entry[0].startswith("a")
        ]
        folder = inventory.folder
    assert not folder.exists()


@pytest.mark.parametrize("form", ["s3-csv", "gcs-csv", "azure-csv"])
@pytest.mark.parametrize("is_moved", [False, True])
async def test_an_inventory_is_read_from_a_bucket(form: str, is_moved: bool, tmp_path: Path):
    root = tmp_path / "bucket"
    deep = root if form == "azure-csv" else root / "inventories" / BUCKET / "daily"
    manifest = write_inventory(deep, form, BUCKET, [entries(*HASHES)])
    if is_moved:
        new = root / "elsewhere"
        new.mkdir()
        for path in [*deep.rglob("*.*")]:
            if path.is_file():
                path.rename(new / path.name)
        manifest = new / manifest.name
    storage = MemoryStorage(BUCKET, prefix=PREFIX)
    async with FileStorage(root) as bucket:
        key = manifest.relative_to(root).as_posix()
        with await read_inventory(storage, key, bucket=bucket) as inventory:
            assert [each for each, _ in inventory.entries(storage.keys, "")] == HASHES
            assert not [path for path in inventory.folder.iterdir() if len(path.name) > 2], "no copy is kept"
        for path in root.rglob("*.csv*"):
            path.unlink()
        with pytest.raises(NoStorageData):
            await read_inventory(storage, key, bucket=bucket)
        with pytest.raises(ConfigError, match="does not exist"):
            await read_inventory(storage, "inventories/none.json", bucket=bucket)


# What is refused.

Change = Callable[[Path], Any]


def data_files(manifest: Path) -> list[Path]:
    return sorted(
        path for path in manifest.parents[1].rglob("*.*") if path.suffix in (".gz", ".csv", ".parquet", ".orc")
    )


def replaced(manifest: Path, content: bytes) -> None:
    """Replace a data file of S3, and its checksum and size in the manifest."""
    data_files(manifest)[0].write_bytes(content)
    files = json.loads(manifest.read_text())["files"]
    files[0] |= {"size": len(content), "MD5checksum": md5(content)}
    rewrite_manifest(manifest, files=files)


def csv_line(**changes: str) -> bytes:
    line = {
        "bucket": BUCKET,
        "key": "x",
        "version": "v",
        "latest": "true",
        "marker": "false",
        "size": "1",
        "time": "2026-01-02T03:04:05.000Z",
        "etag": "abc",
        "class": "STANDARD",
    }
    return gzip.compress(",".join((line | changes).values()).encode())


def changed_file(manifest: Path, **changes: Any) -> None:
    """Change the entry of the first file in a manifest of S3 or Azure."""
    files = json.loads(manifest.read_text())["files"]
    rewrite_manifest(manifest, files=[{**files[0], **changes}, *files[1:]])


HASH = f"{'a' * 64}"
KEY = f"r%C3%A9ports/100%25+%2B1/%E6%97%A5/{HASH}"

ODD: dict[str, tuple[str, Change, type[Exception], str]] = {
    # Manifests.
    "no JSON": ("s3-csv", lambda path: path.write_text("PAR1"), ConfigError, "is not JSON"),
    "deep JSON": ("s3-csv", lambda path: path.write_text("[" * 100_000), ConfigError, "is not JSON"),
    "another JSON": ("s3-csv", lambda path: path.write_text("[1]"), ConfigError, "is no manifest of"),
    "a missing manifest": ("s3-csv", lambda path: path.unlink(), ConfigError, "does not exist"),
    "a manifest that was changed": (
        "s3-csv",
        lambda path: path.write_text(path.read_text() + " "),
        IntegrityError,
        "has the MD5 .* but manifest.checksum says",
    ),
    "another manifest's checksum": (
        "azure-csv",
        lambda path: path.with_suffix(".checksum").write_text("0" * 32),
        IntegrityError,
        "daily-manifest.checksum says",
    ),
    "no checksum yet, S3": (
        "s3-orc",
        lambda path: path.with_suffix(".checksum").unlink(),
        ConfigError,
        "has no manifest.checksum beside it",
    ),
    "no checksum yet, Azure": (
        "azure-parquet",
        lambda path: path.with_suffix(".checksum").unlink(),
        ConfigError,
        "has no daily-manifest.checksum beside it",
    ),
    "status Failed": (
        "azure-csv",
        lambda path: rewrite_manifest(path, status="Failed"),
        ConfigError,
        "status of .* is 'Failed', not 'Succeeded'",
    ),
    "status Pending": (
        "azure-parquet",
        lambda path: rewrite_manifest(path, status="Pending"),
        ConfigError,
        "is 'Pending'",
    ),
    "status PartiallySucceeded": (
        "azure-csv",
        lambda path: rewrite_manifest(path, status="PartiallySucceeded"),
        ConfigError,
        "is 'PartiallySucceeded'",
    ),
    "an inventory of containers": (
        "azure-csv",
        lambda path: rewrite_manifest(path, ruleDefinition={"objectType": "container", "format": "csv"}),
        ConfigError,
        "lists objects of the type 'container'",
    ),
    "another bucket, S3": (
        "s3-csv",
        lambda path: rewrite_manifest(path, sourceBucket="other"),
        ConfigError,
        "is of the bucket 'other', not of 'bucket'",
    ),
    "another format, S3": (
        "s3-csv",
        lambda path: rewrite_manifest(path, fileFormat="JSON"),
        ConfigError,
        "format 'JSON'; known are CSV, Parquet, ORC",
    ),
    "another format, Azure": (
        "azure-csv",
        lambda path: rewrite_manifest(path, ruleDefinition={"objectType": "blob", "format": "json"}),
        ConfigError,
        "format 'json'; known are csv and parquet",
    ),
    "no list of files": (
        "s3-csv",
        lambda path: rewrite_manifest(path, files={}),
        ConfigError,
        "'files' of .* must be of the type list",
    ),
    "a file that is no object": (
        "azure-csv",
        lambda path: rewrite_manifest(path, files=[1]),
        ConfigError,
        "an object, not 1",
    ),
    "an MD5 that is none": (
        "s3-csv",
        lambda path: changed_file(path, MD5checksum="x"),
        ConfigError,
        "an MD5 in hexadecimal, not 'x'",
    ),
    "fewer files than are counted": (
        "gcs-csv",
        lambda path: rewrite_manifest(path, shard_count=3),
        IntegrityError,
        "names 2 files and counts 3",
    ),
    "no name of a file": (
        "gcs-csv",
        lambda path: rewrite_manifest(path, report_shards_file_names=[1, 2]),
        ConfigError,
        "must be a string, not 1",
    ),
    "a delimiter of two characters": (
        "gcs-csv",
        lambda path: rewrite_manifest(
            path,
            report_config={"csv_options": {"delimiter": "||"}, "object_metadata_report_options": {}},
        ),
        ConfigError,
        "must be one character",
    ),
    "neither a header nor fields": (
        "gcs-csv-without-header",
        lambda path: rewrite_manifest(path, report_config={"object_metadata_report_options": {}}),
        ConfigError,
        "'metadata_fields' of .* must be a list",
    ),
    # Files.
    "a missing file": (
        "s3-csv",
        lambda path: data_files(path)[1].unlink(),
        ConfigError,
        "part-1.csv.gz' .* is missing",
    ),
    "a name that leads out": (
        "s3-csv",
        lambda path: changed_file(path, key="data/.."),
        IntegrityError,
        "which no provider writes",
    ),
    "a wrong checksum": (
        "s3-parquet",
        lambda path: changed_file(path, MD5checksum="0" * 32),
        IntegrityError,
        "part-0.parquet' of the inventory has the MD5 .* says 0000",
    ),
    "a byte that was changed": (
        "s3-orc",
        lambda path: data_files(path)[0].write_bytes(b"X" + data_files(path)[0].read_bytes()[1:]),
        IntegrityError,
        "has the MD5",
    ),
    "a wrong size": (
        "azure-csv",
        lambda path: data_files(path)[0].write_bytes(data_files(path)[0].read_bytes()[:-2]),
        IntegrityError,
        "daily_0.csv' of the inventory has .* bytes, but the manifest says",
    ),
    "fewer rows than were counted": (
        "gcs-parquet",
        lambda path: rewrite_manifest(path, records_processed=1000),
        IntegrityError,
        "have 40 rows, but its manifest says 1000",
    ),
    "no gzip to the end": (
        "s3-csv",
        lambda path: replaced(path, data_files(path)[0].read_bytes()[:-20]),
        IntegrityError,
        "can't be read",
    ),
    "no Parquet": ("s3-parquet", lambda path: replaced(path, b"no table"), IntegrityError, "can't be read"),
    "no ORC": ("s3-orc", lambda path: replaced(path, b"no table"), IntegrityError, "can't be read"),
    "a row that is cut off": (
        "s3-csv",
        lambda path: replaced(path, gzip.compress(b"bucket,key")),
        IntegrityError,
        "row 1 of .* has 2 values, not 9",
    ),
    "no UTF-8": ("s3-csv", lambda path: replaced(path, gzip.compress(b"\xff,")), IntegrityError, "can't be read"),
    "a key that is no UTF-8": (
        "s3-csv",
        lambda path: replaced(path, csv_line(key="%FF")),
        IntegrityError,
        "can't be read",
    ),
    "a row of another bucket": (
        "s3-csv",
        lambda path: replaced(path, csv_line(bucket="other", key=KEY)),
        IntegrityError,
        "row 1 of .* is of the bucket 'other'",
    ),
    "a size that is no number": (
        "s3-csv",
        lambda path: replaced(path, csv_line(key=KEY, size="many")),
        IntegrityError,
        "row 1 of .* can't be read: .*'many'",
    ),
    "a negative size": (
        "s3-csv",
        lambda path: replaced(path, csv_line(key=KEY, size="-1")),
        IntegrityError,
        "size is -1",
    ),
    "a time that is none": (
        "s3-csv",
        lambda path: replaced(path, csv_line(key=KEY, time="yesterday")),
        IntegrityError,
        "row 1 of .* can't be read",
    ),
    "no time": (
        "s3-csv",
        lambda path: replaced(path, csv_line(key=KEY, time="")),
        IntegrityError,
        "row 1 of .* can't be read",
    ),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_inventory_is_refused_by_name(name: str, tmp_path: Path):
    form, change, error, saying = ODD[name]
    storage = MemoryStorage(BUCKET, prefix=PREFIX)
    manifest = write_inventory(tmp_path / "made", form, BUCKET, [entries(*HASHES[:20]), entries(*HASHES[20:])])
    (await read_inventory(storage, manifest)).__exit__()  # as it was, it is read
    change(manifest)
    with pytest.raises(error, match=saying) as raised:
        await read_inventory(storage, manifest)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    "change",
    [
        lambda path: rewrite_manifest(path, sourceBucket="x" * 10**6),
        lambda path: rewrite_manifest(path, fileFormat="x" * 10**6),
        lambda path: rewrite_manifest(path, files="x" * 10**6),
        lambda path: rewrite_manifest(path, fileSchema="x" * 10**6),
        lambda path: changed_file(path, key="x" * 10**6),
        lambda path: changed_file(path, MD5checksum="x" * 10**6),
        lambda path: replaced(path, csv_line(key=KEY, size="x" * 10**5)),
        lambda path: replaced(path, csv_line(key=KEY, time="x" * 10**5)),
        lambda path: replaced(path, csv_line(key=KEY, time="2" * 10**5)),
        lambda path: replaced(path, csv_line(key=KEY, bucket="x" * 10**5)),
        lambda path: replaced(path, csv_line(key=KEY, size="1" * 10**6)),
        lambda path: replaced(path, gzip.compress(b"x" * 10**6)),
        lambda path: path.with_suffix(".checksum").write_text("x" * 10**6),
    ],
)
async def test_messages_quote_little_of_an_inventory(change: Change, tmp_path: Path):
    manifest = write_inventory(tmp_path / "made", "s3-csv", BUCKET, [entries(*HASHES)])
    change(manifest)
    with pytest.raises((ConfigError, IntegrityError)) as raised:
        await read_inventory(MemoryStorage(BUCKET, prefix=PREFIX), manifest)
    assert len(str(raised.value)) < 1200 + len(str(tmp_path))


@pytest.mark.parametrize("form", FORMS)
async def test_a_missing_column_is_named_with_those_that_are_there(form: str, tmp_path: Path):
    storage = MemoryStorage(BUCKET, prefix=PREFIX)
    columns = {"s3": ["Key", "Size", "LastModifiedDate"], "gcs": ["name", "size", "updated"]}
    for column in columns.get(form.partition("-")[0], ["Name", "Content-Length", "Last-Modified"]):
        manifest = write_inventory(tmp_path / column, form, BUCKET, [entries(*HASHES)], without=column)
        with pytest.raises(ConfigError, match=r"has no column .*, but .*; add it to the configuration"):
            await read_inventory(storage, manifest)
    manifest = write_inventory(tmp_path / "fine", form, BUCKET, [entries(*HASHES)], without="ETag")
    (await read_inventory(storage, manifest)).__exit__()


async def test_a_manifest_with_a_key_that_leads_out_of_the_bucket_is_refused(tmp_path: Path):
    manifest = write_inventory(tmp_path / "bucket", "s3-csv", BUCKET, [entries(*HASHES)])
    changed_file(manifest, key="../../other/part-0.csv.gz")
    async with FileStorage(tmp_path / "bucket") as bucket:
        with pytest.raises(InvalidRecord, match="segment"):
            await read_inventory(
                MemoryStorage(BUCKET), manifest.relative_to(tmp_path / "bucket").as_posix(), bucket=bucket
            )


async def test_an_inventory_of_a_missing_bucket_says_so(tmp_path: Path):
    async with FileStorage(tmp_path / "none", create=False) as bucket:
        with pytest.raises((BucketNotFound, ConfigError)):
            await read_inventory(MemoryStorage(BUCKET), "a/manifest.json", bucket=bucket)


# Jobs.


@pytest.fixture
async def full(tmp_path: Path) -> tuple[FileStorage, Inventory]:
    """A folder with thirty blobs, and an inventory of it that has one more, and lacks one."""
    storage = FileStorage(tmp_path / "store")
    for number in range(30):
        await write(storage, b"%d" % number)
    Path(tmp_path, "store", hash_of(b"7")).write_bytes(b"x")
    inventory = Inventory("test")
    async for content_hash, info in listed(storage):
        if content_hash != hash_of(b"3"):
            inventory.add(content_hash, info)
    inventory.add(hash_of(b"deleted"), replace_info(storage, hash_of(b"deleted")))
    return storage, inventory


def replace_info(storage: Any, content_hash: str) -> Any:
    from lakery_cloud.engine.model import ObjectInfo

    return ObjectInfo(storage.keys.content(content_hash), 1, "v", modified=LATER)


async def test_jobs_read_what_an_inventory_lists_wherever_they_run(full: Any, tmp_path: Path):
    storage, inventory = full
    with inventory:
        shards = await plan(storage, shards=16, inventory=inventory)
        here = [result async for result in run_job(VerifyJob(storage, reports_all=True), shards)]
        assert total(here) == {"objects": 29, "bytes": 49, "damaged": 1}
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
            job = VerifyJob(partial(FileStorage, tmp_path / "store"), reports_all=True)
            there = [result async for result in run_job(job, shards, engine=processes)]
        assert there == here
        assert {result.shard for result in here} == set(EVERYTHING.split())
        rows = [row async for result in run_job(InventoryJob(storage), shards) for row in result.findings]
        assert hash_of(b"deleted") in {row["content_hash"] for row in rows}
    await storage.aclose()


async def test_what_the_inventory_of_the_source_lists_is_copied(full: Any):
    storage, inventory = full
    async with MemoryStorage() as destination:
        await write(destination, b"11")
        with inventory:
            shards = await plan(storage, shards=16, inventory=inventory)
            results = [result async for result in run_job(CopyJob(storage, destination), shards)]
        counts = total(results)
        assert (counts["copied"], counts["deduplicated"], counts["failed"]) == (27, 1, 1), counts
        copied = {content_hash async for content_hash, _ in listed(destination)}
        assert copied == {hash_of(b"%d" % number) for number in range(30)} - {hash_of(b"3"), hash_of(b"7")}
    await storage.aclose()


async def test_a_manifest_continues_with_the_same_inventory_alone(full: Any, tmp_path: Path):
    storage, inventory = full
    with inventory:
        shards = await plan(storage, shards=16, inventory=inventory)
        job = InventoryJob(storage)
        first = [result async for result in run_job(job, shards[:4], manifest=Manifest(tmp_path / "kept"))]
        inventory.add(hash_of(b"later"), replace_info(storage, hash_of(b"later")))
        again = [result async for result in run_job(job, shards, manifest=Manifest(tmp_path / "kept"))]
        assert again == first, "the plan and the results are those of the first run"
        listing = [result async for result in run_job(job, EVERYTHING.split(), manifest=Manifest(tmp_path / "kept"))]
        assert total(listing)["objects"] == 30, "a job on listings is another one"
    await storage.aclose()


async def test_garbage_in_an_inventory_is_looked_at_again_before_anything_happens(tmp_path: Path):
    import os

    storage = FileStorage(tmp_path / "store")
    old, young = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 20))
    for name, time in {"garbage": old, "live": old, "written anew": young, "missed": old}.items():
        await write(storage, name.encode())
        os.utime(tmp_path / "store" / hash_of(name), (time.timestamp(),) * 2)
    with Inventory("test") as inventory, await live_set([[hash_of("live")]]) as live:
        for name in ("garbage", "live", "written anew", "gone"):
            info = replace_info(storage, hash_of(name))._replace(modified=old)
            inventory.add(hash_of(name), info)
        shards = await plan(storage, shards=1, inventory=inventory)
        options: dict[str, Any] = {"live": live, "began": datetime(2026, 1, 21, tzinfo=UTC), "grace": timedelta(days=7)}
        dry = [result async for result in run_job(CollectJob(storage, **options), shards)]
        assert total(dry)["quarantined"] == 3, "a dry run believes the inventory"
        for quarantine in (True, False):
            job = CollectJob(storage, dry_run=False, quarantine=quarantine, **options)
            results = [result async for result in run_job(job, shards)]
            done = {finding["content_hash"] for result in results for finding in result.findings}
            assert done == ({hash_of("garbage")} if quarantine else set())
    left = {path.name for path in (tmp_path / "store").iterdir() if path.is_file()}
    assert left == {hash_of(name) for name in ("live", "written anew", "missed")}
    await storage.aclose()


async def test_a_plan_of_an_inventory_sends_no_request_and_splits_large_shards():
    storage = MemoryStorage(BUCKET)
    storage.wrap_transports(lambda _: pytest.fail("a request was sent"))
    with Inventory("test") as inventory:
        for number in range(3000):
            content_hash = hash_of(f"{number}")
            inventory.add(content_hash if number % 2 else "ab" + content_hash[2:], replace_info(storage, content_hash))
        shards = await plan(storage, shards=1, max_objects=200, inventory=inventory)
        prefixes = [shard.hash_prefix for shard in shards]
        assert prefixes == sorted([*(f"{digit:x}" for digit in range(16) if digit != 10), *_split("a", "ab")])
        sizes = [len(inventory.entries(storage.keys, prefix)) for prefix in prefixes]
        assert sum(sizes) == 3000
        assert max(sizes) < 300


def _split(*crowded: str) -> list[str]:
    """The shards below these, which are split themselves."""
    return [prefix + digit for prefix in crowded for digit in "0123456789abcdef" if prefix + digit not in crowded]
