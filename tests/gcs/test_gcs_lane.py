"""The fast lane of `GCSStorage`: what goes over it, and what it leaves to gcsfs' session."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import AccessDenied, StorageUnavailable
from lakery_cloud.engine import retries
from lakery_cloud.providers.gcs import GCSStorage
from lakery_cloud.testing import Exchange, FaultProxy, Rule, content, digest_of
from lakery_cloud.testing.faults import Answer, Fault
from tests.clouds.test_faults import LOST, MAX_ATTEMPTS, NOT_SEEN, name_of
from tests.rigs.gcs import GCSRig
from tests.tls import tls_before


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)


@pytest.fixture
async def proxy(strict_rig: GCSRig) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(strict_rig.server_url) as proxy:
        strict_rig.point_to(proxy.url)
        yield proxy


async def write(storage: GCSStorage, data: bytes) -> Any:
    return await storage.write_data(data, digest_of(data), {"tag": "a b"})


async def use(storage: GCSStorage, *, seed: int = 0) -> None:
    """Send each hot request, and check what becomes of them."""
    data = content(200_000, seed=seed)
    assert await storage.read_data(await write(storage, data)) == data
    await write(storage, data)


def is_fast(exchange: Exchange) -> bool:
    return "accept" not in exchange.headers  # which aiohttp adds


@pytest.mark.parametrize("options", [{}, {"prefix": "a b/ä+%/~"}, {"concurrent_ranges": 2, "range_size": 70_000}])
async def test_puts_gets_and_heads_go_over_the_lane(strict_rig: GCSRig, proxy: FaultProxy, options: Any) -> None:
    async with strict_rig.storage(**options) as storage:
        await use(storage)
    assert all(map(is_fast, proxy.exchanges))
    assert {exchange.neutral for exchange in proxy.exchanges} == {"put", "get", "head"}


async def test_lane_that_is_switched_off_carries_nothing(strict_rig: GCSRig, proxy: FaultProxy) -> None:
    async with strict_rig.storage(fast_lane=False) as storage:
        await use(storage)
    assert not any(map(is_fast, proxy.exchanges))


@pytest.mark.parametrize("fault", [*NOT_SEEN, *LOST], ids=name_of)
async def test_failure_on_the_lane_is_one_attempt(strict_rig: GCSRig, proxy: FaultProxy, fault: Fault) -> None:
    async with strict_rig.storage(max_attempts=MAX_ATTEMPTS) as storage:
        for seed, operation in enumerate(("put", "get", "head")):
            if type(fault).__name__ == "ResetDuring" and operation != "put":
                continue
            proxy.arm(Rule(fault, operation))
            await use(storage, seed=seed)
    assert all(map(is_fast, proxy.exchanges))


@pytest.mark.parametrize("fault", NOT_SEEN, ids=name_of)
async def test_attempts_on_the_lane_end(strict_rig: GCSRig, proxy: FaultProxy, fault: Fault) -> None:
    async with strict_rig.storage(max_attempts=MAX_ATTEMPTS) as storage:
        proxy.arm(Rule(fault, "put", times=None))
        with pytest.raises(StorageUnavailable):
            await write(storage, b"data")
    assert len(proxy.exchanges) == MAX_ATTEMPTS


async def test_refusal_costs_one_request(strict_rig: GCSRig, proxy: FaultProxy) -> None:
    async with strict_rig.storage() as storage:
        proxy.arm(Rule(Answer(403), "put"))
        with pytest.raises(AccessDenied):
            await write(storage, b"data")
    assert len(proxy.exchanges) == 1


async def test_odd_answer_is_asked_for_again_and_the_lane_left(strict_rig: GCSRig, proxy: FaultProxy) -> None:
    async with strict_rig.storage() as storage:
        proxy.arm(Rule(Answer(200, body="x" * 2_000_000), "put"))
        await write(storage, b"first")
        await write(storage, b"second")
    assert [is_fast(exchange) for exchange in proxy.exchanges] == [True, False, False]


@pytest.mark.parametrize("name", ["127.0.0.1", "storage.example.com"])
async def test_lane_speaks_tls_with_whom_it_wants_to(
    strict_rig: GCSRig, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with tls_before(proxy.url, tmp_path, name=name) as url:
        strict_rig.point_to(url)
        async with strict_rig.storage(token="anon", max_attempts=1) as storage:
            if name == "127.0.0.1":
                await use(storage)
            else:
                with pytest.raises(StorageUnavailable, match="no TLS connection"):
                    await write(storage, b"data")
    assert all(map(is_fast, proxy.exchanges))
    assert bool(proxy.exchanges) == (name == "127.0.0.1")
