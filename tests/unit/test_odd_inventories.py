"""Inventories that are refused by name: incomplete, damaged, malformed, or of another bucket."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import BucketNotFound, ConfigError, FileStorage, IntegrityError, MemoryStorage
from lakery_cloud.errors import InvalidRecord
from lakery_cloud.maintenance import read_inventory
from tests.helpers import hash_of
from tests.inventories import FORMS, Entry, md5, rewrite_manifest, write_inventory

BUCKET = "bucket"
PREFIX = "réports/100% +1/日"
HASHES = sorted(hash_of(f"{number}") for number in range(40))


def entries(*hashes: str) -> list[Entry]:
    return [Entry(f"{PREFIX}/{each}", size=7) for each in hashes]


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


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("gcs-csv", {"md5": "x"}),
        ("gcs-parquet", {"crc32c": "AAAA"}),
        ("azure-csv", {"md5": "1B2M2Y8AsgTpgAmY7PhCfg"}),
        ("azure-parquet", {"crc64": "yZRlqg=="}),
    ],
)
async def test_a_malformed_checksum_is_refused_by_its_row(form: str, fields: dict[str, str], tmp_path: Path):
    rows = [*entries(*HASHES[:2]), Entry(f"{PREFIX}/{HASHES[2]}", **fields)]
    manifest = write_inventory(tmp_path / "made", form, BUCKET, [rows])
    with pytest.raises(IntegrityError, match="row 3 of the file .* can't be read"):
        await read_inventory(MemoryStorage(BUCKET, prefix=PREFIX), manifest)


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
