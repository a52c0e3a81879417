"""Read and hash each object of a bucket with obstore, whose requests are made in Rust.

It runs in an environment of its own, without lakery-cloud, and prints its figures as JSON.
"""

import asyncio
import hashlib
import json
import os
import sys
import time

import obstore
from obstore.store import S3Store

AT_A_TIME = 32


async def main(bucket: str) -> None:
    """Run the script."""
    endpoint = os.environ["AWS_ENDPOINT_URL_S3"]
    store = S3Store(bucket, endpoint=endpoint, virtual_hosted_style_request=False, client_options={"allow_http": True})
    began, objects = time.perf_counter(), 0
    keys = iter([found["path"] for page in obstore.list(store) for found in page])

    async def work() -> None:
        nonlocal objects
        for key in keys:
            answer = await obstore.get_async(store, key)
            if hashlib.sha256(await answer.bytes_async()).hexdigest() != key.rpartition("/")[2]:
                raise SystemExit(f"{key} is not intact")
            objects += 1

    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    print(json.dumps({"objects": objects, "seconds": time.perf_counter() - began}))


asyncio.run(main(*sys.argv[1:]))
sys.stdout.flush()
os._exit(0)  # at the usual end, obstore's threads sometimes abort the process
