"""Tokens of a metadata server, as machines in Google's cloud have it."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from google.auth import compute_engine

from lakery_cloud import CredentialsError, GCSStorage, StorageUnavailable
from lakery_cloud.testing import FaultProxy
from tests.helpers import proxy_before, write
from tests.rigs.gcs import GCSRig

pytestmark = pytest.mark.case("60")


class Metadata:
    """A metadata server on the test's own event loop: a renewal that blocked it would never end.

    Attributes:
        asked: Number of requests for a token.
        lasts: Seconds that its tokens are valid.
        status: Status of its responses.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.lasts = 3600
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        headers = {"Metadata-Flavor": "Google"}
        if self.status != 200:
            return web.Response(status=self.status, text="no token for you", headers=headers)
        if request.path.endswith("/token"):
            self.asked += 1
            token = {"access_token": f"token-{self.asked}", "expires_in": self.lasts, "token_type": "Bearer"}
            return web.json_response(token, headers=headers)
        account = {"email": "me@project.iam", "scopes": [], "aliases": ["default"]}
        return web.json_response(account, headers=headers)


@pytest.fixture
async def metadata(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Metadata]:
    metadata = Metadata()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", metadata.answer)
    runner = web.AppRunner(application, shutdown_timeout=1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", address)
    yield metadata
    await runner.cleanup()


@pytest.fixture
async def proxy(strict_rig: GCSRig) -> AsyncIterator[FaultProxy]:
    async with proxy_before(strict_rig) as proxy:
        yield proxy


def storage_on(rig: GCSRig) -> GCSStorage:
    storage: GCSStorage = rig.storage(token=compute_engine.Credentials(), max_attempts=1)
    return storage


def tokens_of(proxy: FaultProxy) -> list[str]:
    return [exchange.headers["authorization"].removeprefix("Bearer ") for exchange in proxy.exchanges]


async def test_token_with_minutes_left_is_used_though_the_metadata_server_fails(
    metadata: Metadata, strict_rig: GCSRig, proxy: FaultProxy
) -> None:
    metadata.lasts = 200
    async with storage_on(strict_rig) as storage:
        await write(storage, b"0")
        metadata.status = 404
        for number in range(1, 5):
            await write(storage, b"%d" % number)
    assert tokens_of(proxy) == ["token-1"] * 5


async def test_token_with_minutes_left_is_renewed_once(
    metadata: Metadata, strict_rig: GCSRig, proxy: FaultProxy
) -> None:
    metadata.lasts = 200
    async with storage_on(strict_rig) as storage:
        for number in range(20):
            await write(storage, b"%d" % number)
    assert metadata.asked <= 2
    assert tokens_of(proxy)[:2] == ["token-1"] * 2


@pytest.mark.parametrize("status", [404])
async def test_metadata_server_without_a_token_is_named(
    metadata: Metadata, strict_rig: GCSRig, proxy: FaultProxy, status: int
) -> None:
    metadata.status = status
    async with storage_on(strict_rig) as storage:
        with pytest.raises(
            (CredentialsError, StorageUnavailable), match="the token could not be renewed.*no token for you"
        ):
            await write(storage, b"data")
    assert proxy.exchanges == []
