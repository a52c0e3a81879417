"""`AzureBlobStorage`: Azure Blob Storage, on adlfs. The engine has the algorithm."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.settings import keywords_of
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError, CredentialsError, MissingDependency
from lakery_cloud.http.client import HTTPClient, open_session
from lakery_cloud.http.trust import Trust
from lakery_cloud.providers.azure.settings import (
    CREDENTIAL_VARIABLES,
    MAX_URL_LIFETIME,
    AzureSettings,
    AzureStorageData,
    check_segments,
)
from lakery_cloud.versions import check_version

try:
    import aiohttp
    from adlfs import AzureBlobFileSystem

    for _sdk in ("aiohttp", "adlfs"):
        check_version(_sdk, storage="AzureBlobStorage", extra="azure")
    from azure.storage.blob.aio import BlobServiceClient

    from lakery_cloud.providers.azure.credentials import Tokens, own_credential
    from lakery_cloud.providers.azure.lifecycle import lifecycle_rules
    from lakery_cloud.providers.azure.refusals import SET_CREDENTIALS
    from lakery_cloud.providers.azure.requests import AzureRequests
    from lakery_cloud.providers.azure.sdk import ClosedClient, client_config, sdk_transport, secrets_of
    from lakery_cloud.providers.azure.transport import AzureTransport
except MissingDependency:
    raise
except ImportError as error:
    raise MissingDependency('AzureBlobStorage needs adlfs: pip install "lakery-cloud[azure]"') from error


class AzureBlobStorage(CloudStorage[AzureStorageData]):
    """Content-addressed blobs in a container of Azure Blob Storage.

    Credentials come from where adlfs finds them (`AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_ACCOUNT_NAME` with
    `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN` or a service principal, else `DefaultAzureCredential`), or are
    given as settings, which take precedence over the environment. No repr, error or pickle ever contains them.

    The blocks of a stream are staged on a temporary blob and are invisible until they are committed. If a process dies,
    Azure discards its uncommitted blocks a week after the last of them. The same holds for an interrupted copy in parts: a
    blob at a content key always has its whole content.

    The arguments are the fields of `AzureSettings`.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    settings_class = AzureSettings
    settings: AzureSettings
    name = "lakery_cloud.azure@v1"
    aliases = ("labox.azure.blob@v1",)
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "az"
    place_names = ("container", "blob")
    pickles_with = "account_name and endpoint_url"

    @keywords_of(AzureSettings)
    def __init__(self, settings: AzureSettings) -> None:
        super().__init__(settings.container, settings)
        check_segments(self.keys.prefix)

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """A policy for `az storage account management-policy create --policy`: temporary blobs are deleted.

        There is no rule for uncommitted blocks: Azure discards them a week after the last of them (Microsoft Learn, "Put
        Block").

        Args:
            days: Days from the last change of a blob.
        """
        return lifecycle_rules(self.keys, days, has_versions=self.settings.blob_tags)

    def _credential_source(self) -> str:
        for variable in CREDENTIAL_VARIABLES:
            if os.environ.get(variable):
                return f"{variable} in the environment"
        return "DefaultAzureCredential: its environment variables, managed identity, or a login of az"

    def _shown(self) -> dict[str, Any]:
        return {**without_none(account_name=self.settings.account_name), **super()._shown()}

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        settings = self.settings
        async with AsyncExitStack() as stack:
            secrets = stack.enter_context(self._masked_secrets())
            if settings.fs is not None:
                secrets.add(*secrets_of(settings.fs.service_client))
                yield AzureTransport(settings.fs.service_client, settings, account_name=settings.fs.account_name)
                return
            sockets, trust = self._sockets(), Trust()
            fs = await stack.enter_async_context(self._file_system())
            secrets.add(*secrets_of(fs.service_client))
            url, mark, signature = fs.service_client.url.partition("?")
            url = settings.endpoint_url or url
            is_own = fs.sync_credential is not None  # adlfs made both
            # In a thread, since certificates take long to load. Tokens come by TLS, whatever the account's URL is.
            tls = await asyncio.to_thread(trust.context) if is_own or url.startswith("https:") else True
            session = await stack.enter_async_context(open_session(sockets, tls))
            credential = fs.service_client.credential
            if is_own:
                transport = sdk_transport(settings, session)
                credential = await stack.enter_async_context(await asyncio.to_thread(own_credential, fs, transport))
            if hasattr(credential, "get_token"):
                tokens = Tokens(credential, secrets, seconds=settings.token_timeout)
                credential = await stack.enter_async_context(aclosing(tokens))
            fs.service_client = client = self._new_client(f"{url}{mark}{signature}", credential, session)
            if not settings.fast_lane:
                yield AzureTransport(client, settings, account_name=fs.account_name)
                return
            http = HTTPClient(
                sockets=sockets,
                tls=trust.context,
                connect_timeout=settings.connect_timeout,
                read_timeout=settings.read_timeout,
                session=session,
            )
            async with aclosing(http):
                signed = AzureRequests(client, http, settings=settings)
                yield AzureTransport(client, settings, account_name=fs.account_name, signed=signed)

    @asynccontextmanager
    async def _file_system(self) -> AsyncGenerator[AzureBlobFileSystem]:
        """A file system for the account and credentials that adlfs finds; its client is closed in the end."""
        # In a thread, since credentials take long to import and to look for, and the SDK's client to make.
        fs = await asyncio.to_thread(self._new_file_system)
        try:
            yield fs
        finally:
            await fs.service_client.close()
            if fs.sync_credential is not None:  # adlfs made both
                await fs.credential.close()
                fs.sync_credential.close()
            # adlfs keeps every instance until the process ends, and then closes its client.
            fs.service_client = ClosedClient()

    def _new_file_system(self) -> AzureBlobFileSystem:
        """A file system for the account and credentials that adlfs finds. Its client does not have our settings yet."""
        secrets_given = self.settings.secrets()
        if not (self.settings.account_name or secrets_given or any(map(os.environ.get, _ACCOUNT_VARIABLES))):
            raise CredentialsError(f"no storage account for {self!r}. {SET_CREDENTIALS}")
        given = {**without_none(account_name=self.settings.account_name), **secrets_given}
        try:
            fs = AzureBlobFileSystem(**given, skip_instance_cache=True)
            if secrets_given and "connection_string" not in secrets_given:
                # adlfs prefers these if the environment has them.
                fs.connection_string = None
                fs.account_key = secrets_given.get("account_key")
                fs.do_connect()
        except ValueError:
            fs = None
        if fs is None:  # outside the handler: the library's error may contain the credentials
            raise self._unusable()
        if self.settings.account_name not in (None, fs.service_client.account_name):
            raise ConfigError(
                f"account_name is {self.settings.account_name!r}, but AZURE_STORAGE_CONNECTION_STRING belongs to the "
                f"account {fs.service_client.account_name!r}; remove one of them"
            )
        return fs

    def _new_client(self, url: str, credential: Any, session: aiohttp.ClientSession) -> BlobServiceClient:
        """A client with our settings."""
        try:
            return BlobServiceClient(url, credential=credential, **client_config(self.settings, session))
        except ValueError:
            pass
        raise self._unusable()

    def _unusable(self) -> CredentialsError:
        return CredentialsError(f"the credentials for {self!r} can't be used. {SET_CREDENTIALS}")


_ACCOUNT_VARIABLES = ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME")
