"""`AzureBlobStorage`: Azure Blob Storage, on adlfs. The engine has the algorithm."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Self

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.requests import backoff, requested_pause
from lakery_cloud.engine.settings import keywords_of
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError, CredentialsError, MissingDependency
from lakery_cloud.http.client import HTTPClient, open_session
from lakery_cloud.http.exchange import Origin
from lakery_cloud.http.proxies import proxy_for
from lakery_cloud.http.session import timeout_behind_proxy
from lakery_cloud.http.trust import Trust
from lakery_cloud.providers.azure.settings import (
    AZURE_LIMITS,
    CREDENTIAL_VARIABLES,
    MAX_URL_LIFETIME,
    AzureSettings,
    AzureStorageData,
    check_segments,
)
from lakery_cloud.redaction import secrets_in

try:
    import aiohttp
    from adlfs import AzureBlobFileSystem
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry

    from lakery_cloud.providers.azure.answers import Throttled, check_sdk_answer
    from lakery_cloud.providers.azure.credentials import Tokens, own_credential
    from lakery_cloud.providers.azure.lifecycle import lifecycle_rules
    from lakery_cloud.providers.azure.refusals import SET_CREDENTIALS
    from lakery_cloud.providers.azure.requests import MAX_READ, AzureRequests
    from lakery_cloud.providers.azure.transport import AzureTransport
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
                secrets.add(*_secrets_of(settings.fs.service_client))
                yield AzureTransport(settings.fs.service_client, settings, account_name=settings.fs.account_name)
                return
            sockets, trust = self._sockets(), Trust()
            fs = await stack.enter_async_context(self._file_system())
            secrets.add(*_secrets_of(fs.service_client))
            url, mark, signature = fs.service_client.url.partition("?")
            url = settings.endpoint_url or url
            is_own = fs.sync_credential is not None  # adlfs made both
            # In a thread, since certificates take long to load. Tokens come by TLS, whatever the account's URL is.
            tls = await asyncio.to_thread(trust.context) if is_own or url.startswith("https:") else True
            session = await stack.enter_async_context(open_session(sockets, tls))
            credential = fs.service_client.credential
            if is_own:
                credential = await stack.enter_async_context(own_credential(fs, self._transport(session)))
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
        fs = self._new_file_system()
        try:
            yield fs
        finally:
            await fs.service_client.close()
            if fs.sync_credential is not None:  # adlfs made both
                await fs.credential.close()
                fs.sync_credential.close()
            # adlfs keeps every instance until the process ends, and then closes its client.
            fs.service_client = _Closed()

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
            return BlobServiceClient(url, credential=credential, **self._client_config(session))
        except ValueError:
            pass
        raise self._unusable()

    def _unusable(self) -> CredentialsError:
        return CredentialsError(f"the credentials for {self!r} can't be used. {SET_CREDENTIALS}")

    def _client_config(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        retries = self.settings.max_attempts - 1
        return {
            "retry_policy": _Retries(
                retry_total=retries, retry_connect=retries, retry_read=retries, retry_status=retries
            ),
            "transport": self._transport(session),
            "raw_response_hook": check_sdk_answer,
            "permit_redirects": False,  # Azure sends none, and the target of another server is not ours
            # Content that fits into one put is one put: blocks at a content key would outlive a cancellation.
            "max_single_put_size": AZURE_LIMITS.max_put_size,
            "max_single_get_size": MAX_READ,
            "max_chunk_get_size": MAX_READ,
        }

    def _transport(self, session: aiohttp.ClientSession) -> "SDKTransport":
        return SDKTransport(
            session=_TimedSession(session),
            session_owner=False,
            connection_timeout=self.settings.connect_timeout,
            read_timeout=self.settings.read_timeout,
        )


def _secrets_of(client: BlobServiceClient) -> Iterator[str]:
    """The key or the signature of a client."""
    for value in (client.url, *(getattr(client.credential, name, None) for name in ("account_key", "signature"))):
        yield from secrets_in(value)


class SDKTransport(AioHttpTransport):  # type: ignore[misc]  # azure.core has no types here
    """The SDK's HTTP transport, with the proxies of all other requests."""

    async def send(self, request: Any, **config: Any) -> Any:
        proxy = proxy_for(Origin.of(request.url))
        return await super().send(request, **config, proxy=proxy.url if proxy else None)


class _TimedSession:
    """A session for the SDK's transport, which gives no time-out for a proxy, and decodes bodies without a limit.

    Attributes:
        auto_decompress: Tells the SDK that bodies are decoded: `CheckedResponse` does it, except for content.
    """

    auto_decompress = True

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def __aenter__(self) -> Self:
        return self

    async def request(self, *args: Any, **options: Any) -> aiohttp.ClientResponse:
        if options.get("proxy"):
            options["timeout"] = timeout_behind_proxy(options["timeout"])
        return await self._session.request(*args, **options)


_ACCOUNT_VARIABLES = ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME")


class _Closed:
    """Stand-in for a closed client."""

    async def close(self) -> None:
        pass


class _Retries(ExponentialRetry):
    """Short, random pauses at first, or those that Azure asks for; the SDK's own begin at 15 seconds."""

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        last = settings["history"][-1]
        refusal = last.error if isinstance(last.error, Throttled) else last.http_response
        return max(backoff(settings["count"] + 1), requested_pause(refusal.headers) if refusal is not None else 0.0)
