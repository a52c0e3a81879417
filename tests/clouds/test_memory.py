"""Memory of a process that streams much more than it may hold, measured from outside."""

import asyncio
from pathlib import Path

import pytest

from tests.helpers import run_python
from tests.rigs.base import CloudRig, MiB
from tests.rigs.pairs import params_of

STREAM = """
import asyncio, pathlib, re, sys
from lakery_cloud import DigestingStream, storage_from_url

async def source(mebibytes):
    for number in range(mebibytes):
        yield number.to_bytes(2, "big") * (512 * 1024)

async def main(url, mebibytes):
    async with storage_from_url(url) as storage:
        stream = DigestingStream({"data_stream": source(mebibytes), "content_type": "x/y", "content_encoding": None})
        storage_data = await storage.write_data_stream(stream, stream.get_digest, {})
        size = 0
        async for chunk in storage.read_data_stream(storage_data):
            size += len(chunk)
        await storage.delete(storage_data)
    # Not ru_maxrss: that is inherited from the process that started this one.
    print(size, int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

SERVERS = ("s3-seaweedfs", "gcs-fake", "azure-azurite")
MEBIBYTES = 192
"""With the 80 MiB of the imported modules it is more than the process may take, and within the copy limit of Azurite."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux' /proc")
@pytest.mark.parametrize("rig", params_of(*SERVERS), indirect=True)
async def test_long_stream_keeps_the_process_under_200_mebibytes(rig: CloudRig) -> None:
    printed = await asyncio.to_thread(run_python, STREAM, rig.url(part_size=8 * MiB), str(MEBIBYTES))
    await rig.check_nothing_left()
    size, peak = map(int, printed.split())
    assert size == MEBIBYTES * MiB
    assert peak < 200, f"the process took {peak} MiB at its peak"
