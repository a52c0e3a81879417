"""`verify --by-checksum` on each cloud: checksums that were kept, against those that the store tells, and its requests."""

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path

import google_crc32c
import pytest

from lakery_cloud import ConfigError
from lakery_cloud.maintenance import InventoryJob, KnownChecksums, VerifyJob, checksums_of_file, plan, run_job
from lakery_cloud.testing import content, digest_of
from tests.conftest import rig_on
from tests.helpers import proxy_before, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)

BLOBS = [content(100, seed=seed) for seed in range(5)]
TOLD = {"s3": "crc32c", "gs": "md5", "az": "md5"}
"""Scheme -> the strongest checksum that the store tells of content whose hash is a SHA-512."""


def sha512(data: bytes) -> str:
    """The hash of an algorithm that no store computes."""
    return hashlib.sha512(data).hexdigest()


def checksums(data: bytes) -> dict[str, str]:
    return {"crc32c": f"{google_crc32c.value(data):08X}", "md5": base64.b64encode(hashlib.md5(data).digest()).decode()}


async def test_checksums_that_were_kept_are_compared_with_those_of_the_store(cloud_rig: CloudRig) -> None:
    scheme = cloud_rig.storage_class.url_scheme
    right, wrong, damaged, unknown, crc32c = BLOBS
    async with proxy_before(cloud_rig) as proxy, cloud_rig.storage(prefix="p") as storage:
        for data in BLOBS:
            await storage.write_data(data, digest_of(data, algorithm="sha512"), {})
        await cloud_rig.put(f"p/{sha512(damaged)}", damaged[::-1])
        with KnownChecksums() as known:
            known.add_all((sha512(data), checksums(data)) for data in (right, damaged))
            known.add(sha512(wrong), checksums(b"other"))
            known.add(sha512(crc32c), {"crc32c": checksums(crc32c)["crc32c"]})
            job = VerifyJob(storage, by_checksum=True, known=known, reports_all=True)
            shards = await plan(storage, shards=1)
            proxy.exchanges.clear()
            (result,) = [result async for result in run_job(job, shards)]
        asked = Counter(exchange.neutral for exchange in proxy.exchanges)
    # A description of an object that another program wrote does not tell the algorithm of its hash.
    assert asked == Counter(list=1, head={"s3": 5, "gs": 1, "az": 1}[scheme])
    problems = {finding["content_hash"]: finding["problem"] for finding in result.findings}
    is_told = scheme != "az"  # which knows no CRC-32C
    assert problems == {
        sha512(right): None,
        sha512(wrong): "damaged",
        sha512(damaged): "damaged" if scheme != "s3" else "not comparable",  # the double's `put` computes no checksum
        sha512(unknown): "not comparable",
        sha512(crc32c): None if is_told else "not comparable",
    }
    compared = Counter({f"by {TOLD[scheme]}": 1}) + Counter({"by crc32c": int(is_told)})
    assert {name: count for name, count in result.counts.items() if name.startswith("by ")} == compared


async def test_a_stream_in_parts_has_the_checksum_that_its_store_keeps(cloud_rig: CloudRig) -> None:
    scheme = cloud_rig.storage_class.url_scheme
    data = content(3 * cloud_rig.part_size)
    with KnownChecksums() as known:
        async with cloud_rig.storage() as storage:
            await write_stream(storage, data)
            known.add(digest_of(data)["content_hash"], checksums(data))
            job = VerifyJob(storage, by_checksum=True, known=known, reports_all=True)
            (result,) = [result async for result in run_job(job, await plan(storage, shards=1))]
    (finding,) = result.findings
    # Azure keeps no checksum of committed blocks.
    assert finding["problem"] == ("not comparable" if scheme == "az" else None)


async def test_the_output_of_inventory_is_a_table_of_checksums(cloud_rig: CloudRig, tmp_path: Path) -> None:
    async with cloud_rig.storage(prefix="p") as storage:
        for data in BLOBS:
            await storage.write_data(data, digest_of(data, algorithm="sha512"), {})
        (stock,) = [result async for result in run_job(InventoryJob(storage), await plan(storage, shards=1))]
        table = tmp_path / "stock.jsonl"
        table.write_text("".join(f"{json.dumps(row)}\n" for row in stock.findings))
        if cloud_rig.storage_class.url_scheme == "s3":
            with pytest.raises(ConfigError, match="has no checksum"):
                list(checksums_of_file(table))
            return
        with KnownChecksums() as known:
            known.add_all(checksums_of_file(table))
            job = VerifyJob(storage, by_checksum=True, known=known)
            (result,) = [result async for result in run_job(job, await plan(storage, shards=1))]
    assert result.counts == {"objects": 5, "bytes": 500, "by md5": 5}
