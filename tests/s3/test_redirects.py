"""A store that redirects each request, and names no region: the search for the region ends with each client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aioboto3
import pytest
from aiobotocore.config import AioConfig

from lakery_cloud import LakeryCloudError, S3Storage
from lakery_cloud.testing import digest_of
from tests.security.echoes import answering, operations

KEYS = {"aws_access_key_id": "me", "aws_secret_access_key": "secret"}
MOST = 10
"""Requests of one operation: its own, those that ask for the region, and those of the clean-up of what it has begun."""


@asynccontextmanager
async def own_client(url: str) -> AsyncIterator[dict[str, Any]]:
    config = AioConfig(retries={"total_max_attempts": 1})
    async with aioboto3.Session(**KEYS).client(
        "s3", endpoint_url=url, region_name="us-east-1", config=config
    ) as client:
        yield {"client": client}


@asynccontextmanager
async def own_session(url: str) -> AsyncIterator[dict[str, Any]]:
    yield {"session": aioboto3.Session(**KEYS), "endpoint_url": url, "region": "us-east-1", "max_attempts": 1}


@asynccontextmanager
async def by_the_sdk(url: str) -> AsyncIterator[dict[str, Any]]:
    async with own_session(url) as settings:
        yield {**settings, "fast_lane": False}


@pytest.mark.parametrize("opened", [own_client, own_session, by_the_sdk], ids=lambda opened: opened.__name__)
@pytest.mark.parametrize("status", [301, 307, 400])
async def test_search_for_the_region_ends(opened: Any, status: int, short_pauses: None) -> None:
    heads: list[bytes] = []

    def redirect(head: bytes) -> bytes:
        heads.append(head)
        return b"HTTP/1.1 %d Elsewhere\r\nContent-Length: 0\r\n\r\n" % status

    counts = {}
    async with answering(redirect) as url, opened(url) as settings, S3Storage("bucket", **settings) as storage:
        async for name, operation in operations(storage):
            heads.clear()
            with pytest.raises(LakeryCloudError) as raised:
                await operation
            assert "recursion" not in str(raised.value)
            counts[name] = len(heads)
    assert max(counts.values()) <= MOST, counts


async def test_own_client_is_left_as_it_was() -> None:
    async def ends_redirects() -> bool:
        context: dict[str, Any] = {"s3_redirect": {}}
        await client.meta.events.emit("response-received.s3.HeadBucket", parsed_response=None, context=context)
        return bool(context["s3_redirect"])

    not_found = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    async with answering(lambda _: not_found) as url, own_client(url) as settings:
        client = settings["client"]
        async with S3Storage("bucket", **settings) as first:
            async with S3Storage("other", **settings) as second:
                for storage in (first, second):
                    with suppress(LakeryCloudError):
                        await storage.find(digest_of(b""))
                assert await ends_redirects()
            assert await ends_redirects()
        assert not await ends_redirects()
