"""Memory of a process that streams a gibibyte, and what twenty cancellations at random moments leave."""

import asyncio
import random
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from lakery_cloud.digest import DigestingStream
from lakery_cloud.emulators import Emulator
from tests.rigs import MiB, S3Rig

STREAM = """
import asyncio, pathlib, re, sys
from lakery_cloud import S3Storage, DigestingStream

async def source():
    for number in range(1024):
        yield number.to_bytes(2, "big") * (512 * 1024)

async def main(bucket, endpoint_url):
    async with S3Storage(bucket, endpoint_url=endpoint_url, region="us-east-1", part_size=8 * 1024**2) as storage:
        stream = DigestingStream({"data_stream": source(), "content_type": "x/y", "content_encoding": None})
        storage_data = await storage.write_data_stream(stream, stream.get_digest, {})
        size = 0
        async for chunk in storage.read_data_stream(storage_data):
            size += len(chunk)
        await storage.delete(storage_data)
    # Not ru_maxrss: that is inherited from the process that started this one.
    print(size, int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux' /proc")
async def test_gibibyte_stream_keeps_the_process_under_200_mebibytes(
    seaweedfs: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweedfs.environment().items():
        monkeypatch.setenv(name, value)
    async with S3Rig(seaweedfs, {}) as rig:
        command = [sys.executable, "-c", textwrap.dedent(STREAM), rig.bucket, rig.endpoint_url]
        done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
        await rig.check_nothing_left()
    size, peak = map(int, done.stdout.split())
    assert size == 1024 * MiB
    assert peak < 200, f"the process took {peak} MiB at its peak"


async def test_twenty_cancellations_at_random_moments_leave_nothing(
    s3_rig: S3Rig, record_property: "pytest.RecordProperty"
) -> None:
    chance = random.Random(20)
    sent = 0

    async def source() -> AsyncGenerator[bytes]:
        nonlocal sent
        for number in range(40):
            sent += 1
            yield bytes([number]) * MiB

    async def write() -> None:
        async with s3_rig.storage(max_concurrent_parts=3) as storage:
            stream = DigestingStream({"data_stream": source(), "content_type": "x/y", "content_encoding": None})
            storage_data = await storage.write_data_stream(stream, stream.get_digest, {})
            await storage.delete(storage_data)

    cancelled = 0
    while cancelled < 20:
        task = asyncio.create_task(write())
        done, _ = await asyncio.wait([task], timeout=chance.uniform(0.01, 0.5))
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if done:
            assert outcome is None
            continue
        assert isinstance(outcome, asyncio.CancelledError)
        cancelled += 1
        await s3_rig.check_nothing_temporary()
        for key in await s3_rig.keys():  # cancelled after the copy
            await s3_rig.delete(key)
    assert sent > 20
