"""What a plain script does: s3fs and dask.bag read and hash each object of a bucket, on a LocalCluster.

It runs in an environment of its own, without lakery-cloud, and prints its figures as JSON.
"""

import hashlib
import json
import os
import sys
import time
from typing import Any

import dask.bag
import s3fs
from distributed import Client, LocalCluster

KEYS_AT_A_TIME = 500


def file_system() -> Any:
    """Return the file system of the environment's endpoint."""
    return s3fs.S3FileSystem(
        key=os.environ["AWS_ACCESS_KEY_ID"],
        secret=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"],
    )


def count_intact(paths: list[str]) -> list[int]:
    """Read a partition of the keys, all at a time, and count the objects that have the hash in their key."""
    contents = file_system().cat(list(paths))
    return [sum(hashlib.sha256(content).hexdigest() == path.rpartition("/")[2] for path, content in contents.items())]


def main() -> None:
    """Run the script."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        began = time.perf_counter()
        paths = [path for path in file_system().find(sys.argv[1]) if "/.tmp/" not in path]
        bag = dask.bag.from_sequence(paths, partition_size=KEYS_AT_A_TIME)
        intact = sum(bag.map_partitions(count_intact).compute())
        seconds = time.perf_counter() - began
    if intact != len(paths):
        raise SystemExit(f"{intact} of {len(paths)} objects are intact")
    print(json.dumps({"objects": intact, "seconds": seconds}))


if __name__ == "__main__":
    main()
