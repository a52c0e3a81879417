"""`GCSStorage`: Google Cloud Storage, on gcsfs. The engine has the algorithm."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.settings import keywords_of
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError, CredentialsError, InvalidRecord, MissingDependency, brief
from lakery_cloud.http.pool import ConnectionPool, Origin, Sockets
from lakery_cloud.providers.gcs.settings import MAX_URL_LIFETIME, PROJECT, TOKEN_METHODS, GCSSettings, GCSStorageData

try:
    import aiohttp
    from gcsfs.core import GCSFileSystem
    from google.auth import exceptions as auth_errors

    from lakery_cloud.providers.gcs.requests import LOG_IN, PaidAddress, payer_of
    from lakery_cloud.providers.gcs.transport import GCSTransport, timeout_of
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
        """Rules for `gcloud storage buckets update --lifecycle-file`: temporary objects, including parts, are deleted.

        There is no rule for unfinished uploads: AbortIncompleteMultipartUpload applies to uploads of the XML API, and
        resumable uploads, which we use, expire after a week.

        Args:
            days: Days from the creation of an object.
        """
        condition = {"age": days, "matchesPrefix": [self.keys.temporary_root]}
        return {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}

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
        if self._is_plain():
            return "none: over plain HTTP none are sent"
        if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return "GOOGLE_APPLICATION_CREDENTIALS in the environment"
        # Google Cloud, "How Application Default Credentials works".
        folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
        path = os.path.join(folder, "application_default_credentials.json")
        if os.path.isfile(path):
            return f"application default credentials in {path}"
        return "gcsfs' cache or the metadata server, else none"

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        if self.settings.fs is not None:
            await self.settings.fs._set_session()
            yield GCSTransport(self.settings.fs, self.settings)
            return
        # In a thread, since gcsfs looks for credentials in files and on the network.
        fs = await asyncio.to_thread(self._file_system)
        sockets = self._sockets()
        if not getattr(fs, "_use_client_cert", False):  # else gcsfs makes a connector with the certificate
            fs.session_kwargs["connector"] = aiohttp.TCPConnector(
                limit=self.settings.connections, socket_factory=sockets.make
            )
        await fs._set_session()
        lane = await self._open_lane(fs, sockets)
        try:
            yield GCSTransport(fs, self.settings, lane)
        finally:
            if lane is not None:
                lane.close()
            await fs._session.close()
            fs._session = None

    async def _open_lane(self, fs: GCSFileSystem, sockets: Sockets) -> ConnectionPool | None:
        if not self.settings.fast_lane or getattr(fs, "_use_client_cert", False):
            return None
        url = urlsplit(fs._location)
        is_tls = url.scheme == "https"
        if not url.hostname or url.path or "@" in url.netloc:
            return None
        return ConnectionPool(
            Origin(url.hostname, url.port or (443 if is_tls else 80), is_tls),
            tls=await asyncio.to_thread(ssl.create_default_context) if is_tls else None,
            sockets=sockets,
            connect_timeout=self.settings.connect_timeout,
            read_timeout=self.settings.read_timeout,
        )

    def _file_system(self) -> GCSFileSystem:
        token = self.settings.token
        try:
            return GCSFileSystem(
                token="anon" if token is None and self._is_plain() else token,
                endpoint_url=self.settings.endpoint_url,
                requester_pays=self.settings.user_project or False,
                requests_timeout=timeout_of(self.settings),
                asynchronous=True,
                skip_instance_cache=True,
                **without_none(project=self.settings.project),
            )
        except auth_errors.DefaultCredentialsError as error:
            raise CredentialsError(
                f"no credentials for {self.keys.bucket!r}: {redact_error(error)}. {LOG_IN}"
            ) from error
        except Exception as error:  # noqa: BLE001, gcsfs raises errors of any type
            kind = type(error).__name__
        # Not within the handler: the text of the error, or of its cause, may hold the token.
        raise CredentialsError(
            f"the credentials for bucket {self.keys.bucket!r} could not be loaded ({kind}). Check token and project, or: "
            f"{LOG_IN}"
        )

    def _is_plain(self) -> bool:
        endpoint = self.settings.endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
        return endpoint not in ("", "default") and not endpoint.startswith("https://")

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


def _read_credentials(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), dict):
            return found
    raise ConfigError("credentials_json is no JSON object; it must be the content of a file with credentials")
