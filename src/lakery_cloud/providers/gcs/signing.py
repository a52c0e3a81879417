"""Access tokens and signed URLs, both made with the credentials that gcsfs has found."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gcsfs.credentials import GoogleCredentials
from google.auth import exceptions as auth_errors
from google.auth.credentials import Signing
from google.auth.transport.requests import Request
from google.cloud.storage import Client

from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.errors import CredentialsError, StorageUnavailable
from lakery_cloud.providers.gcs.refusals import LOG_IN

logger = logging.getLogger("lakery_cloud")

RENEW_AHEAD = timedelta(minutes=5)
"""A token is renewed this long before it expires."""
RENEW_PAUSE = 30.0
"""Seconds between attempts to renew a token that has not expired yet."""

_SIGN_IN = (
    "Set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or impersonate one: "
    "`gcloud auth application-default login --impersonate-service-account=<account>`"
)


class Tokens:
    """Authenticates requests. It renews tokens in a thread, since google-auth blocks.

    Args:
        found: What gcsfs has found: credentials of google-auth, or none.
    """

    def __init__(self, found: GoogleCredentials) -> None:
        self._found = found
        self._renewing = asyncio.Lock()
        self._next_attempt = 0.0

    @property
    def credentials(self) -> Any:
        """The credentials; None for anonymous requests."""
        return self._found.credentials

    async def headers(self) -> dict[str, str]:
        """The headers of an authenticated request.

        Raises:
            CredentialsError: The token has expired and can't be renewed.
            StorageUnavailable: The issuer of tokens can't be reached.
        """
        headers: dict[str, str] = {}
        if self.credentials is not None:
            if not self._lasts(RENEW_AHEAD):
                await self._renew_in_time()
            self.credentials.apply(headers)
        return headers

    async def renew(self) -> bool:
        """Replace a token that the store has refused; return whether there is another one."""
        if self.credentials is None:
            return False
        refused = self.credentials.token
        async with self._renewing:
            if self.credentials.token == refused:
                try:
                    await self._refresh()
                except Exception as error:  # noqa: BLE001, credentials may be of any class
                    logger.info("a token that was refused can't be renewed: %s", redact_error(error))
        return bool(self.credentials.token != refused)

    def credential_kind(self) -> str | None:
        """The kind of credentials that gcsfs has found; None without any."""
        found = self.credentials
        return f"{type(found).__module__.rpartition('.')[2]}.{type(found).__name__}" if found else None

    def _lasts(self, time: timedelta) -> bool:
        """Whether the token can be used for some time. google-auth keeps UTC without a time zone."""
        credentials = self.credentials
        if credentials.expiry is None:
            return bool(credentials.valid)
        return bool(credentials.token and credentials.expiry - datetime.now(UTC).replace(tzinfo=None) > time)

    async def _renew_in_time(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._renewing:
            is_usable = self._lasts(timedelta(0))
            if self._lasts(RENEW_AHEAD) or (is_usable and loop.time() < self._next_attempt):
                return
            self._next_attempt = loop.time() + RENEW_PAUSE
            try:
                await self._refresh()
            except Exception as error:
                said = redact_error(error)
                if is_usable:
                    logger.info("a token that expires soon could not be renewed: %s", said)
                elif isinstance(error, auth_errors.TransportError):
                    raise StorageUnavailable(f"the token could not be renewed: {said}. Try again later") from error
                else:
                    raise CredentialsError(f"the token could not be renewed: {said}. {LOG_IN}") from error

    async def _refresh(self) -> None:
        await asyncio.to_thread(self.credentials.refresh, Request())


async def sign_url(
    tokens: Tokens,
    address: Address,
    method: str,
    *,
    endpoint: str,
    expires: timedelta,
    headers: Mapping[str, str],
    query: Mapping[str, str],
) -> str:
    """A signed URL of the XML API (Cloud Storage, "V4 signing process with your own program").

    Raises:
        CredentialsError: The credentials can't sign.
    """
    credentials = tokens.credentials
    signer: dict[str, Any] = {}
    if not isinstance(credentials, Signing):
        # The credentials of a machine in Google's cloud have no key; the library asks Google to sign with their account's.
        if not hasattr(credentials, "service_account_email"):
            raise CredentialsError(f"the credentials for {address} can't sign a URL. {_SIGN_IN}")
        await tokens.headers()  # only renewed credentials know their account
        signer = {"service_account_email": credentials.service_account_email, "access_token": credentials.token}

    def sign() -> str:
        with contextlib.closing(Client(project="any", credentials=credentials)) as client:
            url: str = (
                client.bucket(address.bucket)
                .blob(address.key)
                .generate_signed_url(
                    version="v4",
                    expiration=expires,
                    method=method,
                    headers=dict(headers),
                    query_parameters=dict(query),
                    credentials=credentials,
                    api_access_endpoint=endpoint,
                    **signer,
                )
            )
            return url

    try:
        return await asyncio.to_thread(sign)
    except auth_errors.GoogleAuthError as error:
        raise CredentialsError(f"no URL could be signed for {address}: {redact_error(error)}. {_SIGN_IN}") from error
