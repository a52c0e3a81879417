"""Access tokens of Google, for all requests."""

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

import requests
from google.auth import exceptions as auth_errors
from google.auth.transport.requests import Request

from lakery_cloud.engine.tokens import RenewedToken
from lakery_cloud.errors import CredentialsError, LakeryCloudError, StorageUnavailable
from lakery_cloud.http.trust import trusted_file
from lakery_cloud.providers.gcs.refusals import LOG_IN
from lakery_cloud.redaction import Secrets, redact_error


class Tokens(RenewedToken):
    """Authenticates requests. It renews tokens in a thread, since google-auth blocks.

    Args:
        credentials: Credentials of google-auth; None for anonymous requests.
        secrets: Their secrets and tokens are added to these.
    """

    def __init__(self, credentials: Any, secrets: Secrets) -> None:
        super().__init__(secrets)
        secrets.add(*(getattr(credentials, name, None) for name in ("token", "refresh_token", "client_secret")))
        self.credentials = credentials

    async def headers(self) -> dict[str, str]:
        """The headers of an authenticated request.

        Raises:
            CredentialsError: The token has expired and can't be renewed.
            StorageUnavailable: The issuer of tokens can't be reached.
        """
        headers: dict[str, str] = {}
        if self.credentials is not None:
            await self.ensure()
            self.credentials.apply(headers)
        return headers

    async def renew(self) -> bool:
        """Replace a token that the store has refused; return whether there is another one."""
        return self.credentials is not None and await self.replace(self._token_now())

    def credential_kind(self) -> str | None:
        """The kind of the credentials; None without any."""
        found = self.credentials
        return f"{type(found).__module__.rpartition('.')[2]}.{type(found).__name__}" if found else None

    def _token_now(self) -> str | None:
        token: str | None = self.credentials.token
        return token

    def _seconds_left(self) -> float:
        credentials = self.credentials
        if credentials.expiry is None:
            return math.inf if credentials.valid else 0.0
        if not credentials.token:
            return 0.0
        expiry: datetime = credentials.expiry
        if expiry.tzinfo is None:  # google-auth's own are in UTC
            expiry = expiry.replace(tzinfo=UTC)
        return (expiry - datetime.now(UTC)).total_seconds()

    async def _refresh(self) -> None:
        await asyncio.to_thread(self._refresh_in_thread)

    def _refresh_in_thread(self) -> None:
        with requests.Session() as session:
            session.verify = trusted_file() or True
            self.credentials.refresh(Request(session))

    def _failed(self, error: Exception) -> LakeryCloudError:
        said = redact_error(error)
        if isinstance(error, auth_errors.TransportError):
            return StorageUnavailable(f"the token could not be renewed: {said}. Try again later")
        return CredentialsError(f"the token could not be renewed: {said}. {LOG_IN}")
