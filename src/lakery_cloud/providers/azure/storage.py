"""`AzureBlobStorage`: Azure Blob Storage, on adlfs. The algorithm is the engine's."""

import hashlib
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack

from lakery_cloud.engine.cloud_storage import CloudStorage, Redacted
from lakery_cloud.engine.model import (
    without_none,
)
from lakery_cloud.engine.retries import backoff
from lakery_cloud.engine.settings import CloudOptions, read_flag
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import (
    ConfigError,
    CredentialsError,
    MissingDependency,
)
from lakery_cloud.http.pool import Sockets
from lakery_cloud.providers.azure.errors import raise_if_throttled
from lakery_cloud.providers.azure.settings import (
    AZURE_LIMITS,
    CREDENTIAL_VARIABLES,
    MAX_URL_LIFETIME,
    SDK_SINGLE_PUT_SIZE,
    AzureStorageData,
    _check_segments,
)
from lakery_cloud.providers.azure.transport import AzureTransport

try:
    from adlfs import AzureBlobFileSystem
    from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry

    from lakery_cloud.providers.azure.errors import (
        SET_CREDENTIALS,
    )
    from lakery_cloud.providers.azure.requests import (
        AzureLane,
        LaneTransport,
    )
except ImportError as error:
    raise MissingDependency('AzureBlobStorage needs adlfs: pip install "lakery-cloud[azure]"') from error

if TYPE_CHECKING:
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
    from azure.core.credentials_async import AsyncTokenCredential


class AzureBlobStorage(CloudStorage[AzureStorageData]):
    """Content-addressed blobs in a container of Azure Blob Storage.

    Credentials come from where adlfs finds them (`AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_ACCOUNT_NAME` with
    `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN` or a service principal, else `DefaultAzureCredential`), or are
    given here; what is given goes before the environment. None of them is ever in a repr, an error or a pickle.

    A stream's blocks are staged on a temporary blob and never show before they are committed. Should a process die, Azure
    discards uncommitted blocks a week after the last of them; so it does with those of an interrupted copy in parts, since
    nothing but the whole content is ever made at a content key.

    Args:
        container: Name of the container. It must exist.
        prefix: What stands before each key.
        fs: An `adlfs.AzureBlobFileSystem` to use as it is, with its own retries and time-outs. Its client belongs to one
            event loop, and is not closed here.
        account_name: Name of the storage account.
        account_key: Key of the account.
        connection_string: Account, key and endpoint in one.
        sas_token: A shared access signature with the rights read, create, write, delete, list and tags.
        credential: An asynchronous token credential, such as those of `azure.identity.aio`. It is not closed here.
        endpoint_url: Where the blob service is, for clouds other than the public one, and for emulators.
        access_tier: Access tier of the content: `Hot`, `Cool` or `Cold`. By default the account decides. Temporary blobs
            are always in the account's own.
        blob_tags: Whether tags become blob index tags. Accounts with a hierarchical namespace refuse these: set it to
            false there, and tags are kept in the metadata.
        options: See `CloudStorage` and `EngineSettings`.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    name = "lakery_cloud.azure@v1"
    aliases = ("labox.azure.blob@v1",)
    default_limits = AZURE_LIMITS
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "az"
    place_names = ("container", "blob")
    url_options: ClassVar = {
        **CloudStorage.cloud_url_options,
        "account_name": str,
        "access_tier": str,
        "blob_tags": read_flag,
    }
    pickles_with = "account_name and endpoint_url"

    def __init__(
        self,
        container: str,
        *,
        prefix: str = "",
        fs: "AzureBlobFileSystem | None" = None,
        account_name: str | None = None,
        account_key: str | None = None,
        connection_string: str | None = None,
        sas_token: str | None = None,
        credential: "AsyncTokenCredential | AzureNamedKeyCredential | AzureSasCredential | None" = None,
        endpoint_url: str | None = None,
        access_tier: Literal["Hot", "Cool", "Cold"] | None = None,
        blob_tags: bool = True,
        **options: Unpack[CloudOptions],
    ) -> None:
        super().__init__(container, prefix=prefix, endpoint_url=endpoint_url, **options)
        _check_segments(self.keys.prefix)
        keys = without_none(account_key=account_key, sas_token=sas_token, credential=credential)
        if fs is not None and (account_name or connection_string or keys or endpoint_url):
            raise ConfigError("an fs has its own account, credentials and endpoint; leave these out")
        if connection_string is not None and (account_name or keys or endpoint_url):
            raise ConfigError("a connection_string has its own account, credentials and endpoint; leave these out")
        if len(keys) > 1:
            raise ConfigError(f"{' and '.join(keys)} exclude each other; give one of them")
        if access_tier not in (None, "Hot", "Cool", "Cold"):
            raise ConfigError(f"access_tier must be 'Hot', 'Cool' or 'Cold', not {access_tier!r}")
        if fs is not None:
            largest = min(self.settings.limits.max_put_size, SDK_SINGLE_PUT_SIZE)
            self.settings = replace(self.settings, limits=replace(self.settings.limits, max_put_size=largest))
        self._own_fs = fs
        self._account_name = account_name
        self._secrets = Redacted({**keys, **without_none(connection_string=connection_string)})
        self._access_tier = access_tier
        self._blob_tags = blob_tags

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """What `az storage account management-policy create --policy` takes: temporary blobs are deleted.

        Uncommitted blocks are left out: Azure discards them by itself, a week after the last of them (Microsoft Learn,
        "Put Block").

        Args:
            days: How many after their last change.
        """
        root = f"{self.keys.bucket}/{self.keys.temporary_root}"
        return {
            "rules": [
                {
                    "enabled": True,
                    # One for each container and prefix of the account; names have letters, digits and dashes.
                    "name": f"lakery-cloud-temporary-blobs-{hashlib.sha256(root.encode()).hexdigest()[:32]}",
                    "type": "Lifecycle",
                    "definition": {
                        "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}},
                        "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [root]},
                    },
                }
            ]
        }

    def _has_secrets(self) -> bool:
        return self._own_fs is not None or bool(self._secrets.value)

    def _credential_source(self) -> str:
        for variable in CREDENTIAL_VARIABLES:
            if os.environ.get(variable):
                return f"{variable} in the environment"
        return "DefaultAzureCredential: its environment variables, managed identity, or a login of az"

    def _shown(self) -> dict[str, Any]:
        return {**without_none(account_name=self._account_name), **super()._shown()}

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        if self._own_fs is not None:
            yield AzureTransport(self._own_fs.service_client, self)
            return
        sockets = self._sockets()
        fs = self._file_system(sockets)
        lane = self._lane(fs.service_client, sockets)
        try:
            yield AzureTransport(fs.service_client, self, lane)
        finally:
            if lane is not None:
                lane.close()
            await fs.service_client.close()
            if fs.sync_credential is not None:  # adlfs made both of them
                await fs.credential.close()
                fs.sync_credential.close()
            # adlfs keeps every instance until the process ends, to close its client then.
            fs.service_client = _Closed()

    def _lane(self, client: BlobServiceClient, sockets: Sockets) -> AzureLane | None:
        if not self.fast_lane:
            return None
        return AzureLane(
            credential=client.credential,
            sockets=sockets,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
        )

    def _file_system(self, sockets: Sockets) -> AzureBlobFileSystem:
        """adlfs finds account and credentials; its client is made anew, since adlfs passes it no settings."""
        secrets_given = self._secrets.value
        if not (self._account_name or secrets_given or any(map(os.environ.get, _ACCOUNT_VARIABLES))):
            raise CredentialsError(f"no storage account for {self!r}. {SET_CREDENTIALS}")
        given = {**without_none(account_name=self._account_name), **secrets_given}
        try:
            fs = AzureBlobFileSystem(**given, skip_instance_cache=True)
            if secrets_given and "connection_string" not in secrets_given:
                # If the environment has these, adlfs takes them first.
                fs.connection_string = None
                fs.account_key = secrets_given.get("account_key")
                fs.do_connect()
            found = fs.service_client
            url, mark, signature = found.url.partition("?")
            fs.service_client = BlobServiceClient(
                f"{self.endpoint_url or url}{mark}{signature}",
                credential=found.credential,
                **self._client_config(sockets),
            )
        except ValueError:
            fs = None
        if fs is None:  # not within the handler: the library's error may hold what was given
            raise CredentialsError(f"the credentials for {self!r} can't be used. {SET_CREDENTIALS}")
        if self._account_name not in (None, found.account_name):
            raise ConfigError(
                f"account_name is {self._account_name!r}, but AZURE_STORAGE_CONNECTION_STRING is of the account "
                f"{found.account_name!r}; leave one of them out"
            )
        return fs

    def _client_config(self, sockets: Sockets) -> dict[str, Any]:
        retries = self.max_attempts - 1
        return {
            "retry_policy": _Retries(
                retry_total=retries, retry_connect=retries, retry_read=retries, retry_status=retries
            ),
            "transport": LaneTransport(
                self.settings.connections,
                sockets=sockets,
                connection_timeout=self.connect_timeout,
                read_timeout=self.read_timeout,
            ),
            "raw_response_hook": raise_if_throttled,
            # Whatever fits into one put is one: blocks at a content key would outlive a cancellation.
            "max_single_put_size": AZURE_LIMITS.max_put_size,
        }


_ACCOUNT_VARIABLES = ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME")


class _Closed:
    """What is left of a client that was closed."""

    async def close(self) -> None:
        pass


class _Retries(ExponentialRetry):
    """Short pauses at first, of random length: the SDK's own begin at 15 seconds."""

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        return backoff(settings["count"] + 1)
