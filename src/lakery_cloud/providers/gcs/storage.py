"""`GCSStorage`: Google Cloud Storage, on gcsfs. The algorithm is the engine's."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, ClassVar, Unpack

from lakery_cloud.engine.cloud_storage import CloudStorage, Redacted
from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    without_none,
)
from lakery_cloud.engine.settings import CloudOptions, read_flag
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import (
    ConfigError,
    CredentialsError,
    InvalidRecord,
    MissingDependency,
    brief,
)
from lakery_cloud.providers.gcs.settings import _PROJECT, GCS_LIMITS, MAX_URL_LIFETIME, TOKEN_METHODS, GCSStorageData

try:
    import aiohttp
    from gcsfs.core import GCSFileSystem
    from google.auth import exceptions as auth_errors

    from lakery_cloud.http.client import HTTPClient
    from lakery_cloud.providers.gcs.errors import LOG_IN
    from lakery_cloud.providers.gcs.lifecycle import lifecycle_rules
    from lakery_cloud.providers.gcs.requests import GCSRequests, PaidAddress, payer_of
    from lakery_cloud.providers.gcs.signing import Tokens
    from lakery_cloud.providers.gcs.transport import GCSTransport
    from lakery_cloud.providers.gcs.uploads import MAX_COMPONENTS
except ImportError as error:
    raise MissingDependency('GCSStorage needs gcsfs: pip install "lakery-cloud[gcs]"') from error


class GCSStorage(CloudStorage[GCSStorageData]):
    """Content-addressed objects in a bucket of Google Cloud Storage.

    Credentials come from where gcsfs finds them (application default credentials, gcsfs' cache, the metadata server), or
    from a `token` or `fs` of your own; they are never part of a URL.

    Args:
        bucket: Name of the bucket. It must exist.
        prefix: What stands before each key.
        fs: A `GCSFileSystem`, made with `asynchronous=True`, to use as it is, with its own credentials, time-outs and
            connections. It belongs to one event loop, and is not closed here.
        project: Project of the credentials.
        token: As in gcsfs: the name of a method (`google_default`, `cache`, `cloud`, `anon`), the path of a file with
            credentials, or credentials themselves. By default gcsfs looks for them, which `NO_GCE_CHECK=true` makes quicker
            outside of Google Cloud; over plain HTTP none are sent.
        endpoint_url: Where the API is, if not at Google. Without it `STORAGE_EMULATOR_HOST` counts, as in gcsfs.
        user_project: Project that pays for requests to a bucket whose requester pays.
        kms_key_name: Key of the encryption by KMS. By default the bucket decides.
        storage_class: Storage class of the content, such as `NEARLINE`. Temporary objects are always `STANDARD`.
        composite_uploads: Whether the parts of a stream travel side by side, as temporary objects that the store composes.
            Faster where a connection is slower than the network; each part costs the price of a write, and soft delete
            keeps parts as it keeps any deleted object.
        options: See `CloudStorage` and `EngineSettings`. `part_size` must be a multiple of 256 KiB.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    name = "lakery_cloud.gcs@v1"
    aliases = ("labox.google.blob@v1",)
    default_limits = GCS_LIMITS
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "gs"
    place_names = ("bucket", "blob")
    url_options: ClassVar = {
        **CloudStorage.cloud_url_options,
        "project": str,
        "user_project": str,
        "kms_key_name": str,
        "storage_class": str,
        "composite_uploads": read_flag,
    }
    pickles_with = "the name of a method or the path of a file as token"

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        fs: GCSFileSystem | None = None,
        project: str | None = None,
        token: Any = None,
        endpoint_url: str | None = None,
        user_project: str | None = None,
        kms_key_name: str | None = None,
        storage_class: str | None = None,
        composite_uploads: bool = False,
        **options: Unpack[CloudOptions],
    ) -> None:
        super().__init__(bucket, prefix=prefix, endpoint_url=endpoint_url, **options)
        if fs is not None and (project or token is not None or endpoint_url or user_project):
            raise ConfigError("an fs has its own project, token, endpoint_url and user_project; leave these out")
        if fs is not None and not fs.asynchronous:
            raise ConfigError("an fs must be made with asynchronous=True, or it runs on an event loop of its own")
        self._own_fs = fs
        self._project = project
        self._token = Redacted(token)
        self._user_project = user_project
        self._kms_key_name = kms_key_name
        self._storage_class = storage_class
        self._composite_uploads = composite_uploads
        if composite_uploads:
            limits = self.settings.limits
            limits = replace(limits, ordered_parts=False, max_parts=min(limits.max_parts, MAX_COMPONENTS))
            self.settings = replace(self.settings, limits=limits)

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """The configuration for `gcloud storage buckets update --lifecycle-file`: temporary objects expire.

        Args:
            days: Days after their creation.
        """
        return lifecycle_rules(self.keys, days)

    def _has_secrets(self) -> bool:
        return self._own_fs is not None or not _is_no_secret(self._token.value)

    @classmethod
    def credentials_from(cls, secrets: Mapping[str, str]) -> dict[str, Any]:
        """`token`, `credentials_file` (the path of a file) or `credentials_json` (what stands in one) as `token`."""
        if len(secrets) > 1:
            raise ConfigError(f"{' and '.join(secrets)} exclude each other; give one of them")
        token: Any = next(iter(secrets.values()), None)
        if "credentials_file" in secrets and not os.path.isfile(token):
            raise ConfigError(f"credentials_file is {token!r}, and there is no such file")
        if "credentials_json" in secrets:
            token = _read_credentials(token)
        return without_none(token=token)

    def _credential_source(self) -> str:
        if self._token.value in TOKEN_METHODS:
            return f"{self._token.value!r} of gcsfs"
        if self._token.value is not None:
            return f"file {self._token.value}"
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
        settings = self._merged()
        sockets = self._sockets()
        if settings.fs is not None:
            fs = settings.fs
        else:
            # In a thread, since gcsfs looks for credentials in files and on the network.
            fs = await asyncio.to_thread(self._file_system)
            fs.session_kwargs["trust_env"] = True
        has_certificate = getattr(fs, "_use_client_cert", False)  # then gcsfs makes a connector with it
        if settings.fs is None and not has_certificate:
            fs.session_kwargs["connector"] = aiohttp.TCPConnector(
                limit=self.settings.connections, socket_factory=sockets.make
            )
        await fs._set_session()
        http = HTTPClient(
            sockets=sockets,
            tls=ssl.create_default_context,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            session=fs.session,
            session_timeout=fs.requests_timeout,
            is_pooled=settings.fast_lane and settings.fs is None and not has_certificate,
        )
        tokens = Tokens(fs.credentials)
        api = GCSRequests(fs, http, tokens=tokens, settings=settings)
        try:
            async with aclosing(http):
                connections = fs.session.connector.limit or self.settings.connections
                yield GCSTransport(api, tokens, settings, connections=connections)
        finally:
            if settings.fs is None:
                await fs._session.close()
                fs._session = None

    def _merged(self) -> Any:
        import types

        return types.SimpleNamespace(
            share=self.settings.share,
            fs=self._own_fs,
            kms_key_name=self._kms_key_name,
            storage_class=self._storage_class,
            composite_uploads=self._composite_uploads,
            user_project=self._user_project,
            max_attempts=self.max_attempts,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            fast_lane=self.fast_lane,
        )

    def _file_system(self) -> GCSFileSystem:
        token = self._token.value
        try:
            return GCSFileSystem(
                token="anon" if token is None and self._is_plain() else token,
                endpoint_url=self.endpoint_url,
                requester_pays=self._user_project or False,
                asynchronous=True,
                skip_instance_cache=True,
                **without_none(project=self._project),
            )
        except auth_errors.DefaultCredentialsError as error:
            raise CredentialsError(
                f"no credentials for {self.keys.bucket!r}: {redact_error(error)}. {LOG_IN}"
            ) from error
        except Exception as error:  # noqa: BLE001, gcsfs lets out whatever it meets
            kind = type(error).__name__
        # Not within the handler: the text of the error, or of its cause, may hold the token.
        raise CredentialsError(
            f"the credentials for bucket {self.keys.bucket!r} could not be loaded ({kind}). Check token and project, or: "
            f"{LOG_IN}"
        )

    def _is_plain(self) -> bool:
        endpoint = self.endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
        return endpoint not in ("", "default") and not endpoint.startswith("https://")

    def _storage_data(self, address: Address, content_hash: str, size: int) -> GCSStorageData:
        data = super()._storage_data(address, content_hash, size)
        user_project = self._user_project or payer_of(address)
        return {**data, "user_project": user_project} if user_project else data

    def _address(self, storage_data: GCSStorageData) -> Address:
        address = PaidAddress(*super()._address(storage_data))
        user_project = storage_data.get("user_project")
        if user_project is not None and not (isinstance(user_project, str) and _PROJECT.fullmatch(user_project)):
            raise InvalidRecord(f"the user_project in storage data must be the name of one, not {brief(user_project)}")
        address.user_project = user_project
        return address


def _is_no_secret(token: Any) -> bool:
    """Whether a token says where credentials are, and is none itself."""
    return token is None or (isinstance(token, str) and (token in TOKEN_METHODS or os.path.exists(token)))


def _read_credentials(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), dict):
            return found
    raise ConfigError("credentials_json is no JSON object; it must be what stands in a file with credentials")
