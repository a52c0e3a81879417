"""Opens storages on doubles of stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from lakery_cloud import S3Storage
from lakery_cloud.providers.s3.settings import S3_LIMITS
from lakery_cloud.testing import S3Profile, StrictS3
from tests.rigs.s3 import aws_session

BUCKET = "bucket"
PART = 64 * 1024


@asynccontextmanager
async def s3_store(
    profile: S3Profile | str, *, fast_lane: bool = True, **settings: Any
) -> AsyncIterator[tuple[StrictS3, S3Storage]]:
    """A double with a bucket, and a storage on it."""
    async with StrictS3(profile) as server:
        server.make_bucket(BUCKET)
        async with s3_storage(server, fast_lane=fast_lane, **settings) as storage:
            yield server, storage


def s3_storage(server: StrictS3, **settings: Any) -> S3Storage:
    """A storage on a double. Parts are small, so that tests are quick."""
    server.min_part_size = PART
    limits = replace(S3_LIMITS, min_part_size=PART)
    given = {
        "part_size": PART,
        "limits": limits,
        "endpoint_url": server.url,
        "region": server.region,
        "max_attempts": 2,
    }
    return S3Storage(
        BUCKET, session=aws_session(StrictS3.access_key_id, StrictS3.secret_access_key), **{**given, **settings}
    )


def operations(server: StrictS3) -> list[str]:
    """The operations that a double received."""
    return [request.partition(" ")[0] for request in server.received]


def keys(server: StrictS3) -> list[str]:
    """The keys of a double that have an object."""
    return [key for key in server.buckets[BUCKET] if server.current(BUCKET, key)]


def check_nothing_temporary(server: StrictS3) -> None:
    """Check that no temporary object and no unfinished upload is left."""
    assert not [key for key in keys(server) if ".tmp/" in key]
    assert not server.unfinished_uploads(BUCKET)
