"""Access tokens: used until they expire, renewed before that in the background, and once more after a refusal."""

import abc
import asyncio
import logging

from lakery_cloud.errors import LakeryCloudError, StorageUnavailable
from lakery_cloud.redaction import Secrets, redact_error

logger = logging.getLogger("lakery_cloud")

RENEW_AHEAD = 300.0
"""Seconds before its expiry at which a token is renewed."""
RENEW_PAUSE = 30.0
"""Seconds between attempts to renew a token that has not expired yet."""


class RenewedToken(abc.ABC):
    """An access token of one client. At most one renewal runs at a time, and requests wait for it only without a token.

    A valid token stays in use while its renewal runs, and after the renewal has failed.

    Args:
        secrets: The tokens are added to these.
        seconds: Time limit of a renewal.
    """

    def __init__(self, secrets: Secrets, *, seconds: float) -> None:
        self._secrets = secrets
        self._seconds = seconds
        self._renewal: asyncio.Task[None] | None = None
        self._next_attempt = 0.0

    @abc.abstractmethod
    def _token_now(self) -> str | None:
        """The token; None before the first one."""

    @abc.abstractmethod
    def _seconds_left(self) -> float:
        """Seconds until the token expires; 0 without a token."""

    @abc.abstractmethod
    async def _refresh(self) -> None:
        """Get another token. It may raise any error, and must not block the event loop."""

    @abc.abstractmethod
    def _failed(self, error: Exception) -> LakeryCloudError:
        """The engine's error for an error of `_refresh`."""

    async def ensure(self) -> None:
        """Return once there is a valid token.

        Raises:
            CredentialsError: There is none, and the issuer refuses to give one.
            StorageUnavailable: The issuer can't be reached.
        """
        left, now = self._seconds_left(), asyncio.get_running_loop().time()
        if left <= 0:
            await self._renewed()
        elif left <= RENEW_AHEAD and now >= self._next_attempt:
            self._next_attempt = now + RENEW_PAUSE
            self._begin().add_done_callback(_note_failure)
        self._secrets.add(self._token_now())

    async def replace(self, refused: str | None) -> bool:
        """Replace a token that the store has refused; return whether there is another one."""
        if self._token_now() == refused:
            try:
                await self._renewed()
            except LakeryCloudError as error:
                logger.info("a token that was refused can't be renewed: %s", error)
        return self._token_now() != refused

    async def aclose(self) -> None:
        """End a renewal."""
        if self._renewal is not None and not self._renewal.done():
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _renewed(self) -> None:
        try:
            # Shielded, since cancelling one request must not end the renewal for the others.
            await asyncio.shield(self._begin())
        except LakeryCloudError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def _begin(self) -> asyncio.Task[None]:
        """The renewal: the one that runs, or a new one."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._refresh_in_time(), name="token renewal")
        return self._renewal

    async def _refresh_in_time(self) -> None:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                await self._refresh()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StorageUnavailable(
                f"no access token in {self._seconds} seconds. Check what issues tokens, and try again later"
            ) from error


def _note_failure(renewal: asyncio.Task[None]) -> None:
    if not renewal.cancelled() and (error := renewal.exception()):
        logger.info("a token that expires soon could not be renewed: %s", redact_error(error))
