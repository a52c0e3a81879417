"""`verify --by-checksum`: hashes against checksums that stores have of objects, or that reports and inventories name."""

from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import ConfigError, GCSStorage, IntegrityError, MemoryStorage, ObjectStorage
from lakery_cloud.maintenance import VerifyJob, plan, read_inventory, run_job, verify
from lakery_cloud.testing import StrictGCS, digest_of
from tests.helpers import hash_of, write
from tests.inventories import Entry, md5, rewrite_manifest, write_batch_report, write_inventory
from tests.stores.stores import BUCKET, operations, s3_store

BLOBS = [b"one", b"two", b"three", b"four"]


async def problems(storage: ObjectStorage[Any], **options: Any) -> dict[str, str | None]:
    """Each content hash with its problem."""
    return {each.content_hash: each.problem async for each in verify(storage, by_checksum=True, **options)}


async def test_s3_is_asked_for_the_sha256_of_each_object_and_nothing_is_read():
    async with s3_store("aws") as (server, storage):
        for data in BLOBS:
            await write(storage, data)
        # Content at the key of another, without and with a checksum, and content whose hash is no SHA-256.
        server.put(BUCKET, hash_of(b"foreign"), b"foreign")
        await storage.write_data(b"md5", digest_of(b"md5", algorithm="md5"), {})
        one, two = (server.current(BUCKET, hash_of(data)) for data in BLOBS[:2])
        assert one is not None and two is not None
        server.buckets[BUCKET][hash_of(b"one")] = [two]
        server.received.clear()
        assert await problems(storage) == {
            hash_of(b"one"): "misplaced",
            **dict.fromkeys(map(hash_of, BLOBS[1:])),
            hash_of(b"foreign"): "not comparable",
            digest_of(b"md5", algorithm="md5")["content_hash"]: "not comparable",
        }
        assert {*operations(server)} == {"ListObjectsV2", "HeadObject"}
        assert operations(server).count("HeadObject") == 6


async def test_cloud_storage_has_the_md5_of_objects_whose_hash_is_one():
    async with StrictGCS("google") as server:
        server.make_bucket(BUCKET)
        async with GCSStorage(BUCKET, endpoint_url=server.url) as storage:
            await write(storage, b"sha256")
            digest = digest_of(b"md5", algorithm="md5")
            await storage.write_data(b"md5", digest, {})
            assert await problems(storage) == {hash_of(b"sha256"): "not comparable", digest["content_hash"]: None}


async def test_a_report_of_batch_operations_needs_no_request_for_what_it_proves(tmp_path: Path):
    async with s3_store("aws", prefix="a b+") as (server, storage):
        for data in BLOBS:
            await write(storage, data)
        keys = {data: f"a b+/{hash_of(data)}" for data in BLOBS}
        manifest = write_batch_report(
            tmp_path,
            BUCKET,
            {keys[b"one"]: hash_of("one"), keys[b"two"]: hash_of("other"), keys[b"three"]: None, "x/y": hash_of("x")},
        )
        with await read_inventory(storage, manifest) as inventory:
            (shard,) = await plan(storage, shards=1, inventory=inventory)
            server.received.clear()
            found = await problems(storage, shard=shard)
            assert found == {hash_of("one"): None, hash_of("two"): "damaged", hash_of("three"): None}
            assert operations(server) == ["HeadObject"] * 2, "for what is damaged, and what has failed"
            job = VerifyJob(storage, by_checksum=True, reports_all=True)
            (result,) = [result async for result in run_job(job, [shard])]
            assert {finding["content_hash"]: finding["problem"] for finding in result.findings} == found
            assert result.counts["damaged"] == 1


@pytest.mark.parametrize(
    ("result", "checksum", "problem"),
    [
        ({}, hash_of("one"), None),
        ({"checksumType": "COMPOSITE"}, hash_of("one"), "not comparable"),
        ({"checksumAlgorithm": "CRC64NVME"}, "0123456789abcdef", "not comparable"),
        ({}, hash_of("other"), "damaged"),
    ],
)
async def test_only_a_checksum_of_the_whole_object_and_the_same_algorithm_counts(
    result: dict[str, str], checksum: str, problem: str | None, tmp_path: Path
):
    storage = MemoryStorage(BUCKET)
    await write(storage, b"one")
    manifest = write_batch_report(tmp_path, BUCKET, {hash_of("one"): checksum}, **result)
    with await read_inventory(storage, manifest) as inventory:
        (shard,) = await plan(storage, shards=1, inventory=inventory)
        assert await problems(storage, shard=shard) == {hash_of("one"): problem}


@pytest.mark.parametrize(
    ("change", "error", "saying"),
    [
        ({"Format": "Report_CSV_2030"}, ConfigError, "known is Report_CSV_20180820"),
        ({"Results": {}}, ConfigError, "'Results' of .* must be of the type list"),
        ({"Results": ["x"]}, ConfigError, "a result of .* must be an object"),
        ({"ReportSchema": "Bucket, Name"}, ConfigError, "has no column 'key'"),
    ],
)
async def test_an_odd_report_is_refused_by_name(
    change: dict[str, Any], error: type[Exception], saying: str, tmp_path: Path
):
    manifest = write_batch_report(tmp_path, BUCKET, {hash_of("one"): hash_of("one")})
    rewrite_manifest(manifest, **change)
    manifest.with_name("manifest.json.md5").write_text(md5(manifest.read_bytes()))
    with pytest.raises(error, match=saying):
        await read_inventory(MemoryStorage(BUCKET), manifest)


async def test_a_report_that_was_changed_is_refused(tmp_path: Path):
    manifest = write_batch_report(tmp_path, BUCKET, {hash_of("one"): hash_of("one")})
    (tmp_path / "results" / "succeeded.csv").write_text("x")
    with pytest.raises(IntegrityError, match="has the MD5"):
        await read_inventory(MemoryStorage(BUCKET), manifest)
    manifest.with_name("manifest.json.md5").unlink()
    with pytest.raises(ConfigError, match="has no manifest.json.md5 beside it"):
        await read_inventory(MemoryStorage(BUCKET), manifest)


@pytest.mark.parametrize("form", ["gcs-csv", "azure-parquet"])
async def test_the_md5_of_an_inventory_proves_content_whose_hash_is_an_md5(form: str, tmp_path: Path):
    storage = MemoryStorage(BUCKET)
    for data in (b"", b"other"):
        await storage.write_data(data, digest_of(data, algorithm="md5"), {})
    await write(storage, b"sha256")
    hashes = [digest_of(data, algorithm="md5")["content_hash"] for data in (b"", b"other")]
    rows = [Entry(each) for each in [*hashes, hash_of(b"sha256")]]  # whose MD5 is that of nothing
    with await read_inventory(storage, write_inventory(tmp_path / "made", form, BUCKET, [rows])) as inventory:
        (shard,) = await plan(storage, shards=1, inventory=inventory)
        found = await problems(storage, shard=shard)
    assert found == {hashes[0]: None, hashes[1]: "damaged", hash_of(b"sha256"): "not comparable"}
