"""Secrets that can be found again, each way to give a storage one, and each place where one could show."""

import base64
import os
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aioboto3
import google.oauth2.credentials
import pytest
from adlfs import AzureBlobFileSystem
from aiobotocore.config import AioConfig
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.storage.blob.aio import BlobServiceClient
from gcsfs.core import GCSFileSystem

from lakery_cloud import (
    AzureBlobStorage,
    ConfigError,
    GCSStorage,
    ObjectStorage,
    S3Storage,
)


class Marker:
    """A secret that can be found again, however it is written."""

    def __init__(self) -> None:
        self.key = base64.b64encode(b"+/" + os.urandom(30)).decode()
        self.plain = os.urandom(12).hex()

    @property
    def forms(self) -> list[str]:
        return [
            self.key,
            quote(self.key, safe=""),
            quote(self.key),
            self.plain,
            base64.b64encode(self.plain.encode()).decode(),
        ]

    def check(self, text: str | bytes, where: str) -> None:
        shown = text.decode(errors="replace") if isinstance(text, bytes) else text
        for form in self.forms:
            assert form not in shown, f"{where} shows the secret: {shown:.3000}"


@dataclass
class Given:
    """Settings and environment of a storage.

    Attributes:
        settings: Keyword arguments.
        environment: Variables.
        pickles: Whether the storage can be pickled.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    pickles: bool = False


class TokenCredential:
    """An asynchronous token credential, as azure.identity.aio has them. Its repr is the default one."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(self._token, 4_000_000_000)

    async def close(self) -> None:
        pass


Giver = Callable[[Marker, str, AsyncExitStack], Any]
GIVERS: dict[tuple[type, str, str], Giver] = {}
"""(storage class, setting or `environment`, label) -> what gives a secret to a storage at an URL."""


def gives(storage_class: type, setting: str, label: str = "") -> Callable[[Giver], Giver]:
    def note(giver: Giver) -> Giver:
        GIVERS[storage_class, setting, label] = giver
        return giver

    return note


def s3_keys(marker: Marker) -> dict[str, str]:
    return {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": marker.key, "aws_session_token": marker.plain}


@gives(S3Storage, "session")
async def s3_session(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"session": aioboto3.Session(**s3_keys(marker)), "endpoint_url": url, "region": "us-east-1"})


@gives(S3Storage, "client")
async def s3_client(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    session = aioboto3.Session(**s3_keys(marker))
    opening = session.client(
        "s3", endpoint_url=url, region_name="us-east-1", config=AioConfig(retries={"total_max_attempts": 1})
    )
    client = await stack.enter_async_context(opening)
    return Given({"client": client})


@gives(S3Storage, "environment")
async def s3_environment(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    environment = {name.upper(): value for name, value in s3_keys(marker).items()}
    return Given({"endpoint_url": url, "region": "us-east-1"}, environment, pickles=True)


@gives(S3Storage, "environment", "endpoint")
async def s3_environment_endpoint(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    endpoint = url.replace("://", f"://me:{marker.plain}@")
    keys = {name.upper(): value for name, value in s3_keys(marker).items()}
    return Given({"region": "us-east-1"}, {**keys, "AWS_ENDPOINT_URL_S3": endpoint}, pickles=True)


@gives(GCSStorage, "token", "raw")
async def gcs_token_raw(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    # gcsfs asks Google for the expiry of such a token; here it finds nobody, at once and without a name server.
    return Given({"token": marker.plain, "endpoint_url": url}, {"HTTPS_PROXY": "http://127.0.0.1:9"})


@gives(GCSStorage, "token", "credentials")
async def gcs_token_credentials(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credentials = google.oauth2.credentials.Credentials(
        marker.plain, refresh_token=marker.plain, client_id="me", client_secret=marker.key
    )
    return Given({"token": credentials, "endpoint_url": url})


@gives(GCSStorage, "fs")
async def gcs_fs(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credentials = google.oauth2.credentials.Credentials(marker.plain)
    fs = GCSFileSystem(token=credentials, endpoint_url=url, asynchronous=True, skip_instance_cache=True)

    async def close() -> None:
        if fs._session is not None:
            await fs._session.close()

    stack.push_async_callback(close)
    return Given({"fs": fs})


@gives(GCSStorage, "environment")
async def gcs_environment(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    host = url.replace("://", f"://me:{marker.plain}@")
    return Given({}, {"STORAGE_EMULATOR_HOST": host}, pickles=True)


def connection_string(marker: Marker, url: str) -> str:
    return f"AccountName=me;AccountKey={marker.key};BlobEndpoint={url}/me"


def signature(marker: Marker) -> str:
    return f"sv=2024-11-04&ss=b&srt=sco&sp=rwdlact&se=2099-01-01T00:00:00Z&sig={quote(marker.key, safe='')}"


@gives(AzureBlobStorage, "account_key")
async def azure_account_key(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"account_name": "me", "account_key": marker.key, "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "account_key", "that is none")
async def azure_account_key_that_is_none(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"account_name": "me", "account_key": f"{marker.plain}!", "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "connection_string")
async def azure_connection_string(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"connection_string": connection_string(marker, url)})


@gives(AzureBlobStorage, "connection_string", "with a signature")
async def azure_connection_string_with_a_signature(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"connection_string": f"BlobEndpoint={url}/me;SharedAccessSignature={signature(marker)}"})


@gives(AzureBlobStorage, "connection_string", "that is none")
async def azure_connection_string_that_is_none(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"connection_string": f"{marker.key};{marker.plain}"})


@gives(AzureBlobStorage, "sas_token")
async def azure_sas_token(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({"account_name": "me", "sas_token": signature(marker), "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "credential", "named key")
async def azure_credential_named_key(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credential = AzureNamedKeyCredential("me", marker.key)
    return Given({"account_name": "me", "credential": credential, "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "credential", "signature")
async def azure_credential_signature(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credential = AzureSasCredential(signature(marker))
    return Given({"account_name": "me", "credential": credential, "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "credential", "token")
async def azure_credential_token(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    credential = TokenCredential(marker.plain)
    return Given({"account_name": "me", "credential": credential, "endpoint_url": f"{url}/me"})


@gives(AzureBlobStorage, "fs")
async def azure_fs(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    fs = AzureBlobFileSystem(
        connection_string=connection_string(marker, url), asynchronous=True, skip_instance_cache=True
    )
    await fs.service_client.close()
    fs.service_client = BlobServiceClient.from_connection_string(connection_string(marker, url), retry_total=0)
    stack.push_async_callback(fs.service_client.close)
    return Given({"fs": fs})


@gives(AzureBlobStorage, "environment", "connection string")
async def azure_environment_connection_string(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    return Given({}, {"AZURE_STORAGE_CONNECTION_STRING": connection_string(marker, url)}, pickles=True)


@gives(AzureBlobStorage, "environment", "key")
async def azure_environment_key(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    environment = {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_ACCOUNT_KEY": marker.key}
    return Given({"endpoint_url": f"{url}/me"}, environment, pickles=True)


@gives(AzureBlobStorage, "environment", "signature")
async def azure_environment_signature(marker: Marker, url: str, stack: AsyncExitStack) -> Given:
    environment = {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_SAS_TOKEN": signature(marker)}
    return Given({"endpoint_url": f"{url}/me"}, environment, pickles=True)


def everything(error: BaseException) -> Iterator[str]:
    """All that a traceback, a report or a repr shows of an error and of those behind it, suppressed or not."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        behind = waiting.pop()
        if behind is None or any(behind is known for known in seen):
            continue
        seen.append(behind)
        waiting += (behind.__cause__, behind.__context__)
        yield from (str(behind), repr(behind), repr(behind.args), *traceback.format_exception_only(behind))
    yield "".join(traceback.format_exception(error))


def check_storage(storage: ObjectStorage[Any], marker: Marker, *, pickles: bool) -> None:
    shown = [repr(storage), str(storage), f"{storage}", repr(vars(storage)), pprint.pformat(vars(storage))]
    shown += [repr(storage.settings), repr(storage.keys), repr([storage])]
    for text in shown:
        marker.check(text, "the storage")
    if pickles:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            marker.check(pickle.dumps(storage, protocol), "the pickle")
    else:
        with pytest.raises(ConfigError, match="can't be pickled") as raised:
            pickle.dumps(storage)
        for text in everything(raised.value):
            marker.check(text, "the error of pickling")
