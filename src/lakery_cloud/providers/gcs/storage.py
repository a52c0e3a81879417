"""`GCSStorage`: Google Cloud Storage, on gcsfs. The engine has the algorithm."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.settings import keywords_of
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError, InvalidRecord, MissingDependency, brief
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import Origin
from lakery_cloud.http.proxies import proxy_for
from lakery_cloud.http.trust import Trust
from lakery_cloud.providers.gcs.settings import MAX_URL_LIFETIME, PROJECT, TOKEN_METHODS, GCSSettings, GCSStorageData
from lakery_cloud.redaction import secrets_in
from lakery_cloud.versions import check_version

try:
    for _sdk in ("aiohttp", "gcsfs"):
        check_version(_sdk, storage="GCSStorage", extra="gcs")
    from lakery_cloud.providers.gcs.credentials import Tokens, default_file
    from lakery_cloud.providers.gcs.lifecycle import lifecycle_rules
    from lakery_cloud.providers.gcs.requests import GCSRequests, PaidAddress, payer_of
    from lakery_cloud.providers.gcs.sdk import endpoint_of, find_access
    from lakery_cloud.providers.gcs.transport import GCSTransport
except MissingDependency:
    raise
except ImportError as error:
    raise MissingDependency('GCSStorage needs gcsfs: pip install "lakery-cloud[gcs]"') from error


class GCSStorage(CloudStorage[GCSStorageData]):
    """Content-addressed objects in a bucket of Google Cloud Storage.

    Credentials come from where gcsfs finds them (application default credentials, gcsfs' cache, the metadata server), or
    from a `token` or `fs` of your own; they are never part of a URL.

    The arguments are the fields of `GCSSettings`. `part_size` must be a multiple of 256 KiB.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    settings_class = GCSSettings
    settings: GCSSettings
    name = "lakery_cloud.gcs@v1"
    aliases = ("labox.google.blob@v1",)
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "gs"
    place_names = ("bucket", "blob")
    pickles_with = "the name of a method or the path of a file as token"

    @keywords_of(GCSSettings)
    def __init__(self, settings: GCSSettings) -> None:
        super().__init__(settings.bucket, settings)

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """The configuration for `gcloud storage buckets update --lifecycle-file`: temporary objects expire.

        Args:
            days: Days after their creation.
        """
        return lifecycle_rules(self.keys, days)

    @classmethod
    def credentials_from(cls, secrets: Mapping[str, str]) -> dict[str, Any]:
        """The `token` from `token`, `credentials_file` (the path of a file) or `credentials_json` (the content of one)."""
        if len(secrets) > 1:
            raise ConfigError(f"{' and '.join(secrets)} exclude each other; give one of them")
        token: Any = next(iter(secrets.values()), None)
        if "credentials_file" in secrets and not os.path.isfile(token):
            raise ConfigError(f"credentials_file is {token!r}, and there is no such file")
        if "credentials_json" in secrets:
            token = _read_credentials(token)
        return without_none(token=token)

    def _credential_source(self) -> str:
        if self.settings.token in TOKEN_METHODS:
            return f"{self.settings.token!r} of gcsfs"
        if self.settings.token is not None:
            return f"file {self.settings.token}"
        if not endpoint_of(self.settings).startswith("https:"):
            return "none: over plain HTTP none are sent"
        if (found := default_file()) is not None:
            return found.origin
        return "gcsfs' cache or the metadata server, else none"

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        settings, sockets, trust = self.settings, self._sockets(), Trust()
        async with AsyncExitStack() as stack:
            secrets = stack.enter_context(self._masked_secrets())
            # In a thread, since it looks for credentials in files and on the network.
            access = await asyncio.to_thread(find_access, settings)
            secrets.add(*secrets_in(access.endpoint))  # an emulator's URL may have a password
            fs: Any = access.fs
            connect = partial(
                HTTPClient,
                sockets=sockets,
                tls=trust.context,
                connect_timeout=settings.connect_timeout,
                read_timeout=settings.read_timeout,
            )
            if fs is None:
                if access.endpoint.startswith("https:"):
                    await asyncio.to_thread(trust.context)  # it takes long, and fails if there is no such file
                http, connections = connect(is_pooled=settings.fast_lane), settings.connections
            else:
                session = await fs._set_session()
                if settings.fs is None:
                    stack.push_async_callback(session.close)
                find_proxy = proxy_for if settings.fs is None else _no_proxy
                http = connect(
                    session=session, session_timeout=fs.requests_timeout, find_proxy=find_proxy, is_pooled=False
                )
                connections = session.connector.limit or settings.connections
            await stack.enter_async_context(aclosing(http))
            issuers = await stack.enter_async_context(aclosing(connect()))
            tokens = Tokens(access.credentials, secrets, http=issuers, seconds=settings.token_timeout)
            await stack.enter_async_context(aclosing(tokens))
            api = GCSRequests(access, http, tokens=tokens, settings=settings)
            yield GCSTransport(api, tokens, settings, connections=connections)

    def _storage_data(self, address: Address, content_hash: str, size: int) -> GCSStorageData:
        data = super()._storage_data(address, content_hash, size)
        user_project = self.settings.user_project or payer_of(address)
        return {**data, "user_project": user_project} if user_project else data

    def _address(self, storage_data: GCSStorageData) -> Address:
        address = PaidAddress(*super()._address(storage_data))
        user_project = storage_data.get("user_project")
        if user_project is not None and not (isinstance(user_project, str) and PROJECT.fullmatch(user_project)):
            raise InvalidRecord(f"the user_project in storage data must be the name of one, not {brief(user_project)}")
        address.user_project = user_project
        return address


def _no_proxy(_: Origin) -> None:
    """The proxy of a file system of the user's own, which has a session of its own."""


def _read_credentials(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), dict):
            return found
    raise ConfigError("credentials_json is no JSON object; it must be the content of a file with credentials")
