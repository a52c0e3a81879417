"""Access tokens: when they are renewed, who waits for that, and what a failure means."""

import asyncio
import logging
import math

import pytest

from lakery_cloud import CredentialsError, LakeryCloudError, StorageUnavailable
from lakery_cloud.engine import tokens
from lakery_cloud.engine.tokens import RenewedToken
from lakery_cloud.redaction import Secrets
from tests.helpers import PATIENCE

pytestmark = pytest.mark.case("60")


class Token(RenewedToken):
    """A token whose life the test decides.

    Attributes:
        left: Seconds until it expires.
        asked: Number of renewals.
        error: Raised by renewals.
        may_give: Set while renewals end.
    """

    def __init__(self, left: float, *, seconds: float = PATIENCE) -> None:
        super().__init__(Secrets(), seconds=seconds)
        self.left = left
        self.asked = self.given = 0
        self.error: Exception | None = None
        self.may_give = asyncio.Event()

    def _token_now(self) -> str | None:
        return f"token-{self.given}" if self.given else None

    def _seconds_left(self) -> float:
        return self.left

    async def _refresh(self) -> None:
        self.asked += 1
        await self.may_give.wait()
        if self.error is not None:
            raise self.error
        self.given += 1
        self.left = math.inf

    def _failed(self, error: Exception) -> LakeryCloudError:
        return CredentialsError(f"no token: {error}")


async def test_valid_token_is_not_renewed() -> None:
    token = Token(tokens.RENEW_AHEAD + 1)
    await token.ensure()
    assert token.asked == 0
    await token.aclose()


async def test_requests_use_a_token_that_expires_soon_while_one_renewal_runs() -> None:
    token = Token(tokens.RENEW_AHEAD - 1)
    for _ in range(100):
        await token.ensure()
        await asyncio.sleep(0)
    assert token.asked == 1
    await token.aclose()
    token.may_give.set()
    await asyncio.sleep(0)
    assert token.given == 0


async def test_failed_renewal_is_not_repeated_at_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = Token(60.0)
    token.may_give.set()
    token.error = OSError("away, access_token=secret")
    with caplog.at_level(logging.INFO):
        for _ in range(10):
            await token.ensure()
            await asyncio.sleep(0)
    assert token.asked == 1
    assert "away" in caplog.text
    assert "secret" not in caplog.text
    monkeypatch.setattr(tokens, "RENEW_PAUSE", 0.0)
    token._next_attempt = 0.0
    await token.ensure()
    await asyncio.sleep(0)
    assert token.asked == 2


async def test_requests_without_a_token_wait_for_one_renewal() -> None:
    token = Token(0.0)
    waiting = [asyncio.create_task(token.ensure()) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    token.may_give.set()
    await asyncio.gather(*waiting[1:])
    assert (token.asked, token.given) == (1, 1)


async def test_request_without_a_token_fails_with_the_renewal_and_the_next_one_tries_again() -> None:
    token = Token(0.0)
    token.may_give.set()
    token.error = OSError("away")
    for _ in range(2):
        with pytest.raises(CredentialsError, match="no token: away"):
            await token.ensure()
    token.error = None
    await token.ensure()
    assert (token.asked, token.given) == (3, 1)


async def test_refused_token_is_replaced_once_for_all() -> None:
    token = Token(0.0)
    token.may_give.set()
    await token.ensure()
    assert await asyncio.gather(*(token.replace("token-1") for _ in range(10))) == [True] * 10
    assert token.asked == 2
    token.error = OSError("away")
    assert not await token.replace("token-2")
    assert await token.replace("token-1")
    assert token.asked == 3


async def test_renewal_without_an_end_is_unavailable_and_the_next_one_tries_again() -> None:
    token = Token(0.0, seconds=0.05)
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="no access token in 0.05 seconds"):
            await token.ensure()
    token.may_give.set()
    await token.ensure()
    assert (token.asked, token.given) == (3, 1)
