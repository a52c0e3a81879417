"""One turn, by what today's code and that of `benchmarks.earlier` have in common. It prints its figures as JSON."""

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

import boto3
from uvloop import new_event_loop

from benchmarks.peers.loop_alone import Connection
from lakery_cloud import S3Storage, StorageRegistry
from lakery_cloud.maintenance import copy, verify

AT_A_TIME = 32


async def verify_all(bucket: str) -> tuple[int, float]:
    """Read and hash each object; return their number, and the time of the begin."""
    objects = 0
    async with S3Storage(bucket) as storage:
        began = time.perf_counter()
        async for found in verify(storage):
            assert found.problem is None
            objects += 1
    return objects, began


async def copy_all(bucket: str, to: str) -> tuple[int, float]:
    """Copy each object to another bucket; return their number, and the time of the begin."""
    objects = 0
    async with StorageRegistry([S3Storage(bucket)]) as registry, S3Storage(to) as destination:
        began = time.perf_counter()
        async for _ in copy(registry, destination, at_a_time=AT_A_TIME):
            objects += 1
    return objects, began


async def get_all(bucket: str) -> tuple[int, float]:
    """Request each object over bare connections; return their number, and the time of the begin."""
    client = boto3.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [found["Key"] for page in pages for found in page["Contents"]]
    urls = [urlsplit(client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key})) for key in keys]
    requests = iter([f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode() for url in urls])

    async def work() -> None:
        place = urls[0].hostname, urls[0].port
        _, connection = await asyncio.get_running_loop().create_connection(Connection, *place)
        for request in requests:
            answer = await connection.exchange(request)
            assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]
        connection.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_A_TIME):
            tasks.create_task(work())
    return len(urls), began


async def main(task: str, *buckets: str) -> None:
    """Run the command."""
    objects, began = await {"verify": verify_all, "copy": copy_all, "get": get_all}[task](*buckets)
    print(json.dumps({"objects": objects, "seconds": time.perf_counter() - began}))


with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main(*sys.argv[1:]))
