"""The fast lane of `GCSStorage`: what goes over it, and what it leaves to gcsfs' session."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import StorageUnavailable
from lakery_cloud.providers.gcs.storage import GCSStorage
from lakery_cloud.testing import (
    Exchange,
    FaultProxy,
    content,
    digest_of,
)
from tests.rigs.gcs import GCSRig
from tests.tls import tls_before


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
