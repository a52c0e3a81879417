"""Access tokens of Microsoft Entra, for the SDK and for our own requests."""

import time
from typing import Any
from urllib.parse import urlsplit

from adlfs import AzureBlobFileSystem
from azure.core import exceptions as azure_errors

from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.tokens import RenewedToken
from lakery_cloud.errors import CredentialsError, LakeryCloudError, StorageUnavailable
from lakery_cloud.providers.azure.errors import why_no_token
from lakery_cloud.providers.azure.refusals import SET_CREDENTIALS
from lakery_cloud.redaction import Secrets, redact_error

TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105, the same in every cloud


class Tokens(RenewedToken):
    """Access tokens for all requests of one client: a credential for the SDK that asks the given one less often.

    Args:
        credential: An asynchronous token credential.
        secrets: The tokens are added to these.
        seconds: Time limit of a renewal.
    """

    def __init__(self, credential: Any, secrets: Secrets, *, seconds: float) -> None:
        super().__init__(secrets, seconds=seconds)
        self._credential = credential
        self._token: Any = None
        self._options: dict[str, str] = {}

    @property
    def kind(self) -> str:
        """Class of the given credential."""
        return type(self._credential).__name__

    async def headers(self) -> dict[str, str]:
        """The headers of an authenticated request.

        Raises:
            CredentialsError, StorageUnavailable: There is no token.
        """
        await self.ensure()
        return {"authorization": f"Bearer {self._token.token}"}

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        """A token for the SDK. It gives options, such as a tenant, after a refusal of the one that it has.

        Raises:
            CredentialsError, StorageUnavailable: There is no token.
        """
        if given := without_none(tenant_id=options.get("tenant_id"), claims=options.get("claims")):
            self._options = given
            await self._renewed()
            self._secrets.add(self._token_now())
        else:
            await self.ensure()
        return self._token

    async def renew(self, challenge: str) -> bool:
        """Replace a token that the store has refused; return whether there is another one.

        Args:
            challenge: The header `WWW-Authenticate` of the refusal, which names the account's tenant.
        """
        self._options = _tenant(challenge)
        return await self.replace(self._token_now())

    def _token_now(self) -> str | None:
        return None if self._token is None else str(self._token.token)

    def _seconds_left(self) -> float:
        return 0.0 if self._token is None else float(self._token.expires_on - time.time())

    async def _refresh(self) -> None:
        self._token = await self._credential.get_token(TOKEN_SCOPE, **self._options)

    def _failed(self, error: Exception) -> LakeryCloudError:
        if isinstance(error, azure_errors.ServiceRequestError | azure_errors.ServiceResponseError):
            return StorageUnavailable(f"no access token: {redact_error(error)}. Try again later")
        return CredentialsError(
            f"no credentials: {self.kind} has no access token: {why_no_token(error)}. {SET_CREDENTIALS}"
        )


def own_credential(fs: AzureBlobFileSystem, transport: Any) -> Any:
    """A credential as adlfs has made it for a file system, whose requests go over a transport of ours.

    Args:
        fs: The file system.
        transport: Sends the requests for tokens. It stays open when the credential is closed.
    """
    from azure.identity.aio import ClientSecretCredential, DefaultAzureCredential  # slow, and most storages need none

    if isinstance(fs.credential, ClientSecretCredential):
        return ClientSecretCredential(fs.tenant_id, fs.client_id, fs.client_secret, transport=transport)
    return DefaultAzureCredential(transport=transport)


def _tenant(challenge: str) -> dict[str, str]:
    """The tenant in a challenge, as an argument for `get_token`; none if it names none."""
    fields = dict(field.partition("=")[::2] for field in challenge.replace(",", " ").split())
    path = urlsplit(fields.get("authorization_uri", "").strip('"')).path
    return without_none(tenant_id=path.split("/")[1] if "/" in path else None)
