"""How `GCSStorage` sends its requests: over which connections, with which tokens, and what it makes of bad responses."""

import gzip
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError

from lakery_cloud import AccessDenied, ConfigError, CredentialsError, GCSStorage, StorageUnavailable
from lakery_cloud.testing import (
    Exchange,
    FaultProxy,
    Rule,
    content,
)
from lakery_cloud.testing.faults import Answer
from tests.helpers import proxy_before, use_hot_requests, write, write_stream
from tests.rigs.base import BY_THE_SDK_ALONE
from tests.rigs.gcs import GCSRig

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
async def proxy(strict_rig: GCSRig) -> AsyncIterator[FaultProxy]:
    async with proxy_before(strict_rig) as proxy:
        yield proxy


def is_pooled(exchange: Exchange) -> bool:
    return "accept" not in exchange.headers  # a session adds it


# Connections


@pytest.mark.skipif(bool(BY_THE_SDK_ALONE), reason="the pool is off")
async def test_all_requests_go_over_the_pool(strict_rig: GCSRig, proxy: FaultProxy) -> None:
    async with strict_rig.storage() as storage:
        await use_hot_requests(storage)
    assert len(proxy.exchanges) > 8
    assert all(map(is_pooled, proxy.exchanges))


async def test_emulator_without_a_port_number_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://localhost:port")
    async with GCSStorage("bucket") as storage:
        with pytest.raises(ConfigError, match="STORAGE_EMULATOR_HOST must be a URL"):
            await write(storage, b"data")


# Tokens


class Token(Credentials):
    """Credentials whose tokens are numbered.

    Args:
        lifetime: How long each token lasts.
        fails: Whether they can't be renewed.
    """

    def __init__(self, lifetime: timedelta, *, fails: bool = False) -> None:
        super().__init__()
        self.renewals = 0
        self.lifetime = lifetime
        self.fails = False
        self.refresh(None)
        self.fails = fails

    def refresh(self, request: Any) -> None:
        self.renewals += 1
        if self.fails:
            raise RefreshError("the issuer refuses")
        self.token = f"token-{self.renewals}"
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + self.lifetime


def tokens_of(proxy: FaultProxy) -> list[str]:
    return [exchange.headers["authorization"].removeprefix("Bearer ") for exchange in proxy.exchanges]


@pytest.mark.case("60")
async def test_token_that_is_refused_before_it_expires_is_renewed_once(strict_rig: GCSRig, proxy: FaultProxy) -> None:
    token = Token(timedelta(hours=1))
    proxy.arm(Rule(Answer(401), "put"))
    async with strict_rig.storage(token=token) as storage:
        await write(storage, b"data")
        assert tokens_of(proxy) == ["token-1", "token-2"]
        proxy.arm(Rule(Answer(401), "put", times=None))
        with pytest.raises(CredentialsError, match="were not accepted"):
            await write(storage, b"other")
    assert tokens_of(proxy)[2:] == ["token-2", "token-3"]


async def test_refused_token_that_cannot_be_renewed_is_refused(strict_rig: GCSRig, proxy: FaultProxy) -> None:
    proxy.arm(Rule(Answer(401), "put", times=None))
    async with strict_rig.storage(token=Token(timedelta(hours=1), fails=True)) as storage:
        with pytest.raises(CredentialsError, match="were not accepted"):
            await write(storage, b"data")
    assert tokens_of(proxy) == ["token-1"]


@pytest.mark.parametrize("minutes", [1, 4])
async def test_token_with_minutes_left_is_used_although_it_cannot_be_renewed(
    strict_rig: GCSRig, proxy: FaultProxy, minutes: int
) -> None:
    token = Token(timedelta(minutes=minutes), fails=True)
    async with strict_rig.storage(token=token) as storage:
        for number in range(3):
            await write(storage, bytes([number]))
    assert tokens_of(proxy) == ["token-1"] * 3
    assert token.renewals == 2, "one attempt in a while"


async def test_tokens_that_never_last_long_are_not_renewed_for_each_request(
    strict_rig: GCSRig, proxy: FaultProxy
) -> None:
    token = Token(timedelta(minutes=4))
    async with strict_rig.storage(token=token) as storage:
        for number in range(3):
            await write(storage, bytes([number]))
    assert (tokens_of(proxy)[0], token.renewals) == ("token-1", 2), "it is used while it is renewed"
    assert set(tokens_of(proxy)) <= {"token-1", "token-2"}


async def test_expired_token_that_cannot_be_renewed_is_a_credentials_error(
    strict_rig: GCSRig, proxy: FaultProxy
) -> None:
    async with strict_rig.storage(token=Token(timedelta(seconds=-1), fails=True)) as storage:
        with pytest.raises(CredentialsError, match=r"could not be renewed: the issuer refuses\. Run `gcloud auth"):
            await write(storage, b"data")
    assert proxy.exchanges == []


# Responses


async def test_refusal_that_is_compressed_is_quoted(strict_rig: GCSRig, proxy: FaultProxy) -> None:
    error = {"code": 403, "message": "the words of the store", "errors": [{"reason": "forbidden"}]}
    compressed = gzip.compress(json.dumps({"error": error}).encode()).decode(errors="surrogateescape")
    async with strict_rig.storage() as storage:
        data = await write(storage, b"data")
        proxy.arm(Rule(Answer(403, headers={"Content-Encoding": "gzip"}, body=compressed), "get"))
        with pytest.raises(AccessDenied, match="403 forbidden: the words of the store"):
            await storage.read_data(data)


MALFORMED = ["", "null", "[]", "5", "{", "[" * 100_000, '{"items": [{}]}', '{"items": [{"name": "x", "size": null}]}']


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize("operation", ["put", "head", "begin_upload", "upload_part", "copy", "list"])
async def test_malformed_success_is_no_success(
    strict_rig: GCSRig, proxy: FaultProxy, operation: str, body: str
) -> None:
    async with strict_rig.storage(max_attempts=2) as storage:
        data = await write(storage, b"data")
        proxy.arm(Rule(Answer(200, body=body), operation, times=None))
        with pytest.raises(StorageUnavailable, match="Check that endpoint_url"):
            if operation == "put":
                await write(storage, b"other")
            elif operation == "head":
                await storage.stat(data)
            elif operation == "list":
                assert [info async for info in storage.list()]
            else:
                await write_stream(storage, content(strict_rig.part_size * 2))
    await strict_rig.check_nothing_temporary()
