"""Signed URLs, made with the credentials of the requests."""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from google.auth import exceptions as auth_errors
from google.auth.credentials import Signing

from lakery_cloud.engine.keys import Address
from lakery_cloud.errors import CredentialsError
from lakery_cloud.providers.gcs.credentials import Tokens
from lakery_cloud.redaction import redact_error

_SIGN_IN = (
    "Set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or impersonate one: "
    "`gcloud auth application-default login --impersonate-service-account=<account>`"
)


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
        from google.cloud.storage import Client  # slow

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
