"""The SDK's client that opens on first use: once, for all who wait, and again after a failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lakery_cloud import ConfigError
from lakery_cloud.providers.s3.storage import SDKClient
from lakery_cloud.testing import digest_of
from lakery_cloud.testing.doubles.s3 import StrictS3


class Openings:
    """Opens clients, each when the test allows it, and counts them."""

    def __init__(self) -> None:
        self.begun = self.closed = 0
        self.allowed = asyncio.Event()
        self.failure: Exception | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[object]:
        self.begun += 1
        await self.allowed.wait()
        if self.failure is not None:
            raise self.failure
        yield object()
        self.closed += 1

    def client(self) -> SDKClient:
        return SDKClient(self.open, endpoint="http://nowhere", connections=1, credentials=None)


async def test_client_opens_once_for_all_requests():
    openings = Openings()
    client = openings.client()
    waiting = [asyncio.create_task(client.get()) for _ in range(5)]
    await asyncio.sleep(0)
    openings.allowed.set()
    assert len({*map(id, await asyncio.gather(*waiting, client.get()))}) == 1
    assert await client.get() is waiting[0].result()
    await client.aclose()
    assert (openings.begun, openings.closed) == (1, 1)


async def test_cancelled_request_ends_the_opening_for_no_other():
    openings = Openings()
    client = openings.client()
    first, second = (asyncio.create_task(client.get()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    openings.allowed.set()
    assert await second is await client.get()
    await client.aclose()
    assert (openings.begun, openings.closed) == (1, 1)


async def test_failed_opening_is_tried_again_by_the_next_request():
    openings = Openings()
    openings.allowed.set()
    openings.failure = ConfigError("broken")
    client = openings.client()
    for failed in await asyncio.gather(client.get(), client.get(), return_exceptions=True):
        assert failed is openings.failure
    assert openings.begun == 1
    openings.failure = None
    assert await client.get() is not None
    await client.aclose()
    assert (openings.begun, openings.closed) == (2, 1)


async def test_client_that_no_request_needed_is_not_opened_to_be_closed():
    openings = Openings()
    await openings.client().aclose()
    assert openings.begun == 0


async def test_closing_waits_for_an_opening_whose_request_was_cancelled():
    openings = Openings()
    client = openings.client()
    request = asyncio.create_task(client.get())
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    openings.allowed.set()
    await closing
    assert (openings.begun, openings.closed) == (1, 1)


async def test_hot_requests_find_a_bucket_that_has_moved():
    """The route that was found without the client goes to the wrong region, until the store says so."""
    async with StrictS3() as server:
        server.make_bucket("bucket")
        server.region = "eu-central-1"
        async with server.storage("bucket", region="us-west-2") as storage:
            found = await storage.write_data(b"content", digest_of(b"content"), {})
            assert await storage.read_data(found) == b"content"
