"""Checksums that were kept beside records: the files that have them, odd ones, and their way to other processes."""

import base64
import csv
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import ConfigError, FileStorage, InvalidRecord, MemoryStorage
from lakery_cloud.maintenance import (
    KnownChecksums,
    VerifyJob,
    checksums_of_file,
    plan,
    read_inventory,
    run_job,
    total,
    verify,
)
from lakery_cloud.records import ContentRecord
from lakery_cloud.testing import digest_of
from tests.helpers import hash_of, write
from tests.inventories import Entry, write_inventory

Rows = list[dict[str, Any]]
ONE, TWO = hash_of("one"), hash_of("two")
MD5 = hashlib.md5(b"one").hexdigest()
ROWS: Rows = [
    {"content_hash": ONE, "size": 3, "md5": MD5, "crc32c": None},
    {"content_hash": TWO, "size": 3, "md5": None, "crc32c": "yZRlqg=="},
    {"content_hash": hash_of("three"), "size": 5, "md5": None, "crc32c": None},
]


def write_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_json(path: Path, rows: Rows) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {"csv": write_csv, "parquet": write_parquet, "jsonl": write_json}


@pytest.mark.parametrize("form", WRITERS)
def test_checksums_are_read_from_tables_and_lines(form: str, tmp_path: Path) -> None:
    path = WRITERS[form](tmp_path / f"kept.{form}", ROWS)
    assert list(checksums_of_file(path)) == [(ONE, {"md5": MD5}), (TWO, {"crc32c": "c99465aa"})]


def test_checksums_are_read_beside_records(tmp_path: Path) -> None:
    storage, digest = MemoryStorage(), digest_of(b"one")
    record = json.loads(ContentRecord.of(storage, digest, storage.storage_data_of(digest)).to_json())
    path = write_json(tmp_path / "kept", [{"file": "a", "record": record, "md5": MD5.upper()}, {**record, "md5": MD5}])
    assert list(checksums_of_file(path)) == [(ONE, {"md5": MD5})] * 2


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    ("row", "error", "saying"),
    [
        ({"content_hash": ONE, "md5": "x"}, InvalidRecord, r"row \d of .* 'x' is no md5 in hexadecimal or base64"),
        ({"content_hash": ONE, "md5": MD5[:30]}, InvalidRecord, "is no md5"),
        ({"content_hash": ONE, "crc32c": "0123456789"}, InvalidRecord, "is no crc32c"),
        ({"content_hash": "x", "md5": MD5}, InvalidRecord, r"row \d of .* 'x' is neither a content hash nor a record"),
        ({"content_hash": ONE, "size": 3}, ConfigError, "has no checksum: none of sha256, "),
    ],
)
def test_an_odd_row_is_refused_by_its_number(
    form: str, row: dict[str, Any], error: type[Exception], saying: str, tmp_path: Path
) -> None:
    path = WRITERS[form](tmp_path / f"kept.{form}", [row])
    with pytest.raises(error, match=saying):
        list(checksums_of_file(path))


@pytest.mark.parametrize("name", ["missing.csv", "missing.parquet", "missing.jsonl"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name}' can't be read"):
        list(checksums_of_file(tmp_path / name))


@pytest.mark.parametrize("text", ["[]", "1", "{", "\n[1]\n"])
def test_lines_that_are_no_objects_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text(text)
    with pytest.raises(InvalidRecord, match=r"row \d of "):
        list(checksums_of_file(tmp_path / "kept"))


def test_an_unknown_algorithm_is_refused() -> None:
    with KnownChecksums() as known, pytest.raises(ConfigError, match="checksums are sha256, .*, not 'adler32'"):
        known.add(ONE, {"adler32": "01"})


def test_checksums_without_by_checksum_are_refused() -> None:
    with KnownChecksums() as known, pytest.raises(ConfigError, match="by_checksum"):
        VerifyJob(MemoryStorage(), known=known)


def crc64(data: bytes) -> bytes:
    """The CRC-64/NVME of bytes, its lowest byte first."""
    register = 2**64 - 1
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x9A6C9329AC4BC9B5 if register & 1 else 0)
    return (register ^ 2**64 - 1).to_bytes(8, "little")


async def test_the_crc64_of_an_inventory_is_compared_without_a_request(tmp_path: Path) -> None:
    storage, blobs = MemoryStorage("bucket"), [b"one", b"two"]
    rows = [Entry(hash_of(data), crc64=base64.b64encode(crc64(data)).decode()) for data in blobs]
    manifest = write_inventory(tmp_path / "made", "azure-csv", "bucket", [rows])
    known = {
        ONE: {"crc64nvme": crc64(b"one").hex()},  # as Azure's header has it
        TWO: {"crc64nvme": crc64(b"two")[::-1].hex()},  # the number, as S3 has it
    }
    with await read_inventory(storage, manifest) as inventory:
        (shard,) = await plan(storage, shards=1, inventory=inventory)
        found = [each async for each in verify(storage, by_checksum=True, known=known, shard=shard)]
    # Nothing is stored, so a look would have left them out.
    assert {each.content_hash: (each.problem, each.compared) for each in found} == dict.fromkeys(
        (ONE, TWO), (None, ("crc64nvme",))
    )


async def test_other_processes_get_the_checksums_of_their_shards(tmp_path: Path) -> None:
    storage, blobs = FileStorage(tmp_path / "store"), [b"one", b"two", b"three", b"four"]
    for data in blobs:
        await write(storage, data)
    hashes = [*map(hash_of, blobs)]
    rows = [Entry(each) for each in hashes]  # whose checksums are those of nothing
    manifest = write_inventory(tmp_path / "made", "gcs-csv", str(tmp_path / "store"), [rows])
    with await read_inventory(storage, manifest) as inventory, KnownChecksums() as known:
        known.add(hashes[0], {"crc32c": rows[0].crc32c})
        known.add(hashes[1], {"crc32c": rows[0].crc32c, "md5": rows[0].md5})
        known.add(hashes[2], {"crc32c": rows[0].crc32c, "md5": MD5})
        shards = await plan(storage, shards=16, inventory=inventory)
        job = VerifyJob(partial(FileStorage, tmp_path / "store"), by_checksum=True, known=known, reports_all=True)
        here = [result async for result in run_job(job, shards)]
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
            assert [result async for result in run_job(job, shards, engine=processes)] == here
        found = {finding["content_hash"]: finding for result in here for finding in result.findings}
        assert [(found[each]["problem"], found[each].get("compared")) for each in hashes] == [
            (None, ["crc32c"]),
            (None, ["md5", "crc32c"]),
            ("damaged", ["md5", "crc32c"]),
            ("not comparable", None),
        ]
        assert total(here)["by md5"] == total(here)["by crc32c"] == 1
        known.add(hashes[0], {"crc32c": "00000000"})
        with pytest.raises(InvalidRecord, match=f"{hashes[0]} has the crc32c .* in one row and 00000000 in another"):
            [result async for result in run_job(job, shards)]
    await storage.aclose()


async def test_the_hash_counts_before_a_checksum_that_was_kept(tmp_path: Path) -> None:
    """A wrong row in a table makes no intact object damaged, and a right one no damaged object intact."""
    storage = MemoryStorage("bucket")
    digests = [digest_of(data, algorithm="md5") for data in (b"", b"other")]
    for data, digest in zip((b"", b"other"), digests, strict=True):
        await storage.write_data(data, digest, {})
    rows = [Entry(digest["content_hash"]) for digest in digests]  # whose checksums are those of nothing
    with await read_inventory(storage, write_inventory(tmp_path / "made", "gcs-csv", "bucket", [rows])) as inventory:
        (shard,) = await plan(storage, shards=1, inventory=inventory)
        known = {digests[0]["content_hash"]: {"crc32c": "00000000"}, digests[1]["content_hash"]: {"crc32c": "c99465aa"}}
        found = {each.content_hash: each async for each in verify(storage, by_checksum=True, known=known, shard=shard)}
    assert [found[digest["content_hash"]].problem for digest in digests] == [None, "damaged"]
    assert {each.compared for each in found.values()} == {("md5",)}
