"""A process whose storage has a thousand streams at once, and what it adds to the memory of Python."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.null_server import Conditions, null_server
from lakery_cloud.emulators.system import http_status
from tests.helpers import run_python
from tests.rigs.base import MiB

STREAMS = 1000

PROGRAM = """
import asyncio, pathlib, re, sys
from lakery_cloud import DigestingStream, storage_from_url

STREAMS, CHUNKS, CHUNK_SIZE = 1000, 6, 64 * 1024

async def source(number):
    for chunk in range(CHUNKS):
        yield (number * CHUNKS + chunk).to_bytes(4, "big") * (CHUNK_SIZE // 4)

def peak():
    # Not ru_maxrss: that is inherited from the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) // 1024

async def write(storage, number):
    stream = DigestingStream({"data_stream": source(number), "content_type": "x/y", "content_encoding": None})
    return await storage.write_data_stream(stream, stream.get_digest, {})

async def main(url):
    async with storage_from_url(url) as storage:
        await storage.delete(await write(storage, STREAMS))
        before = peak()
        written = await asyncio.gather(*(write(storage, number) for number in range(STREAMS)))
    print(len(written), peak() - before)

asyncio.run(main(sys.argv[1]))
"""
"""A thousand streams with 375 MiB together. Each is one request, which servers take more quickly than parts."""


NULL_SERVERS = {
    "s3": (
        "s3://bucket?endpoint_url={url}&region=us-east-1&part_size=5242880",
        {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"},
    ),
    "gcs": ("gs://bucket?endpoint_url={url}&part_size=524288", {}),
    "azure": (
        "az://bucket?part_size=524288",
        {
            "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
            "AccountKey=c2VjcmV0;BlobEndpoint={url}/devstoreaccount1;"
        },
    ),
}
"""API -> the URL of a storage on a null server, and the variables that it needs."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux' /proc")
@pytest.mark.parametrize("api", NULL_SERVERS)
async def test_process_with_a_thousand_streams_stays_small(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, environment = NULL_SERVERS[api]
    # Its answers take a while, so that as many requests are on their way as may be.
    with null_server(api, Conditions(latency=20)) as server:
        assert http_status(f"{server.url}/bucket", method="PUT") == 200
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(url=server.url))
        limited = f"{url.format(url=server.url)}&max_buffered_bytes={16 * MiB}"
        printed = await asyncio.to_thread(run_python, PROGRAM, limited)
    streams, growth = map(int, printed.split())
    assert streams == STREAMS
    assert growth < 100, f"the process grew by {growth} MiB"
