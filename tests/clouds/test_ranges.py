"""Reads of parts: how many requests and bytes they cost, counted before the server."""

import asyncio
import io
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakery_cloud import ContentRecord, IntegrityError, NoStorageData, StorageRegistry
from lakery_cloud.testing import FaultProxy, Rule, content
from lakery_cloud.testing.faults import CutAnswer
from tests.conftest import rig_on
from tests.helpers import proxy_before, write
from tests.rigs.base import CloudRig, MiB
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)


def reads(proxy: FaultProxy) -> list[int]:
    """Bytes of each response to a read."""
    return [exchange.received_bytes for exchange in proxy.exchanges if exchange.method == "GET"]


async def saved(registry: StorageRegistry, data: bytes, content_type: str = "a/b") -> ContentRecord:
    return await registry.save({"data": data, "content_type": content_type, "content_encoding": None})


async def test_range_is_one_request_for_its_bytes(cloud_rig: CloudRig) -> None:
    data = content(3 * MiB)
    async with proxy_before(cloud_rig) as proxy, StorageRegistry([cloud_rig.storage()]) as registry:
        record = await saved(registry, data)
        proxy.exchanges.clear()
        assert await registry.read_range(record, 1000, 2000) == data[1000:2000]
        assert await registry.read_range(record, 3 * MiB - 5, 4 * MiB) == data[-5:]
        assert await registry.read_range(record, 3 * MiB, 4 * MiB) == b""
        assert reads(proxy) == [1000, 5]
        assert len(proxy.exchanges) == 2


async def test_range_resumes_and_finds_what_is_missing_or_of_another_size(cloud_rig: CloudRig) -> None:
    data = content(MiB)
    async with (
        proxy_before(cloud_rig, Rule(CutAnswer(after_bytes=100), "get")) as proxy,
        cloud_rig.storage() as storage,
    ):
        stored = await write(storage, data)
        assert await storage.read_range(stored, 10, 5000) == data[10:5000]
        assert len(reads(proxy)) == 2
        await cloud_rig.put(storage.keys.content(stored["hash"].partition(":")[2]).key, b"other")
        with pytest.raises(IntegrityError, match="5 bytes"):
            await storage.read_range(stored, 0, 3)
        await storage.delete(stored)
        with pytest.raises(NoStorageData):
            await storage.read_range(stored, 0, 3)


async def test_libraries_read_stored_files_in_place(cloud_rig: CloudRig) -> None:
    table = pa.table(
        {name: np.random.default_rng(seed).integers(0, 2**62, 200_000) for seed, name in enumerate("abcdef")}
    )
    parquet, packed, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, compression="none", use_dictionary=False)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("large", content(3 * MiB))
        archive.writestr("small", b"found")
    np.save(array, np.arange(1_000_000))
    async with proxy_before(cloud_rig) as proxy, StorageRegistry([cloud_rig.storage()]) as registry:
        records = [await saved(registry, file.getvalue()) for file in (parquet, packed, array)]

        as_parquet, as_zip, as_array = map(registry.open_stream, records)

        def read() -> None:
            proxy.exchanges.clear()
            assert pq.ParquetFile(as_parquet).read(columns=["c"]) == table.select(["c"])
            assert sum(reads(proxy)) < len(parquet.getvalue()) / 3, "one column of six, and the footer"
            as_parquet.seek(0)
            assert pd.read_parquet(as_parquet).equals(table.to_pandas())
            proxy.exchanges.clear()
            with zipfile.ZipFile(as_zip) as archive:
                assert archive.read("small") == b"found"
            assert sum(reads(proxy)) < MiB
            assert np.load(as_array, mmap_mode=None).sum() == np.arange(1_000_000).sum()
            assert as_array.is_verified

        await asyncio.to_thread(read)
