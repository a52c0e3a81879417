"""`S3Storage`: Amazon S3 and stores that speak its API, on aioboto3. The algorithm is the engine's."""

import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.settings import CloudOptions, read_flag
from lakery_cloud.engine.telemetry.operations import note_retries
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import (
    ConfigError,
    CredentialsError,
    MissingDependency,
)
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.pool import Sockets
from lakery_cloud.providers.s3.settings import MAX_URL_LIFETIME, S3_LIMITS, S3StorageData
from lakery_cloud.providers.s3.transport import S3Transport

try:
    import aioboto3
    import aiobotocore.session
    import botocore.loaders
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession
    from botocore import exceptions as botocore_errors
    from botocore.handlers import add_expect_header
    from botocore.httpsession import get_cert_path

    from lakery_cloud.providers.s3.errors import (
        NO_CREDENTIALS,
        SET_CREDENTIALS,
    )
    from lakery_cloud.providers.s3.lifecycle import lifecycle_rules
    from lakery_cloud.providers.s3.requests import Conditions, S3Requests, answer_probe
except ImportError as error:
    raise MissingDependency('S3Storage needs aioboto3: pip install "lakery-cloud[s3]"') from error

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


# Status -> the code that S3 gives with it, or with 503 where others give 429 (API Reference, "List of error codes").
_CODES = {408: "RequestTimeout", 429: "SlowDown"}


class S3Storage(CloudStorage[S3StorageData]):
    """Content-addressed objects in a bucket of Amazon S3, or of a store that speaks its API.

    Credentials come from where aioboto3 finds them (environment, profile, instance role), or from a `session` or `client`
    of your own; they are never settings of the storage.

    Args:
        bucket: Name of the bucket. It must exist.
        prefix: What stands before each key.
        session: An `aioboto3.Session` to take credentials and region from.
        client: An open aioboto3 client to use as it is, with its own retries, time-outs and connections. It belongs to
            one event loop, and is not closed here.
        endpoint_url: Where the API is, for stores other than Amazon's.
        region: Region of the bucket.
        profile: Profile of the AWS configuration files.
        addressing_style: Whether the bucket stands in the path or in the host name. By default in the path where
            `endpoint_url` (or `AWS_ENDPOINT_URL_S3`) is set, else as the SDK decides.
        sse: Server-side encryption: `AES256`, `aws:kms` or `aws:kms:dsse`. By default the bucket decides.
        kms_key_id: Key of the server-side encryption by KMS.
        storage_class: Storage class of the content, such as `STANDARD_IA`. Temporary objects are always `STANDARD`.
        requester_pays: Whether the requester pays for requests and transfer.
        conditional_writes: Whether the endpoint honours `If-None-Match`. One that refuses the header is noticed; for one
            that silently ignores it set this to false, and the storage looks before it writes.
        options: See `CloudStorage` and `EngineSettings`.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    name = "lakery_cloud.s3@v1"
    aliases = ("labox.aws.s3@v1", "lakery.aws.s3@v1")
    default_limits = S3_LIMITS
    bucket_attribute = "aws.s3.bucket"
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "s3"
    url_options: ClassVar = {
        **CloudStorage.cloud_url_options,
        "region": str,
        "profile": str,
        "addressing_style": str,
        "sse": str,
        "kms_key_id": str,
        "storage_class": str,
        "requester_pays": read_flag,
        "conditional_writes": read_flag,
    }
    pickles_with = "region, profile and endpoint_url"

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        session: "aioboto3.Session | None" = None,
        client: "S3Client | None" = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        addressing_style: Literal["path", "virtual", "auto"] | None = None,
        sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None,
        kms_key_id: str | None = None,
        storage_class: str | None = None,
        requester_pays: bool = False,
        conditional_writes: bool = True,
        **options: Unpack[CloudOptions],
    ) -> None:
        super().__init__(bucket, prefix=prefix, endpoint_url=endpoint_url, **options)
        if client is not None and (session or endpoint_url or region or profile):
            raise ConfigError("a client has its own session, endpoint_url, region and profile; leave these out")
        if session is not None and profile is not None:
            raise ConfigError("a session has its own profile; leave profile out")
        if addressing_style not in (None, "path", "virtual", "auto"):
            raise ConfigError(f"addressing_style must be 'path', 'virtual' or 'auto', not {addressing_style!r}")
        if sse not in (None, "AES256", "aws:kms", "aws:kms:dsse"):
            raise ConfigError(f"sse must be 'AES256', 'aws:kms' or 'aws:kms:dsse', not {sse!r}")
        if kms_key_id is not None and not (sse or "").startswith("aws:kms"):
            raise ConfigError("kms_key_id needs sse='aws:kms' or sse='aws:kms:dsse'")
        self._own_session = session
        self._own_client = client
        self._region = region
        self._profile = profile
        self._addressing_style = addressing_style
        self._sse = sse
        self._kms_key_id = kms_key_id
        self._storage_class = storage_class
        self._requester_pays = requester_pays
        self._conditional_writes = conditional_writes

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """The configuration for `aws s3api put-bucket-lifecycle-configuration`: temporary objects and uploads expire.

        Args:
            days: Days after their beginning. S3 counts until the next midnight (UTC).
        """
        return lifecycle_rules(self.keys, days)

    @classmethod
    def credentials_from(cls, secrets: Mapping[str, str]) -> dict[str, Any]:
        """`access_key_id` and `secret_access_key`, with `session_token` where they are temporary, as a session."""
        if not secrets:
            return {}
        if not {"access_key_id", "secret_access_key"} <= set(secrets):
            raise ConfigError("access_key_id and secret_access_key go together; give both of them")
        keys = {f"aws_{name}": value for name, value in secrets.items()}
        return {"session": _session(None, **keys)}

    def _credential_source(self) -> str:
        if self._profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
            return "AWS_ACCESS_KEY_ID in the environment"
        session = aiobotocore.session.AioSession(profile=self._profile)
        name = session.get_config_variable("profile") or "default"
        settings = session.full_config["profiles"].get(name, {})
        if any(setting in settings for setting in _CREDENTIAL_SETTINGS):
            return f"profile {name!r} of the AWS configuration files"
        for variable in _CREDENTIAL_VARIABLES:
            if os.environ.get(variable):
                return f"{variable} in the environment"
        return "the instance's role, if it has one"

    def _has_secrets(self) -> bool:
        return self._own_session is not None or self._own_client is not None

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        import types

        s = types.SimpleNamespace(
            share=self.settings.share,
            sse=self._sse,
            kms_key_id=self._kms_key_id,
            storage_class=self._storage_class,
            requester_pays=self._requester_pays,
            conditional_writes=self._conditional_writes,
            max_attempts=self.max_attempts,
        )
        conditions = Conditions(s.conditional_writes)
        if self._own_client is not None:
            yield S3Transport(self._own_client, s, conditions=conditions)
            return
        try:
            session = self._own_session or _session(self._profile)
            sockets = self._sockets()
            opening = session.client(
                "s3", region_name=self._region, endpoint_url=self.endpoint_url, config=self._client_config(sockets)
            )
            async with opening as client:
                events = client.meta.events
                events.register("before-send.s3.HeadObject", answer_probe)
                events.register("response-received.s3", _name_by_status)
                events.register("request-created.s3", _note_retry)
                events.register_first("choose-signer.s3", _presign_by_version_4)
                # A client that asks before it sends a body waits forever if the response never comes.
                events.unregister("before-call.s3", add_expect_header)
                credentials = await session.get_credentials() if self.fast_lane else None
                if credentials is None:
                    yield S3Transport(client, s, conditions=conditions)
                    return
                http = HTTPClient(
                    sockets=sockets,
                    tls=partial(_trust, session.profile_name),
                    connect_timeout=self.connect_timeout,
                    read_timeout=self.read_timeout,
                )
                async with aclosing(http):
                    signed = S3Requests(client, http, credentials=credentials, settings=s, conditions=conditions)
                    yield S3Transport(client, s, conditions=conditions, signed=signed)
        except botocore_errors.ProfileNotFound as error:
            raise ConfigError(f"{error}; `aws configure list-profiles` shows the profiles") from error
        except NO_CREDENTIALS as error:
            raise CredentialsError(
                f"no credentials for {self.keys.bucket!r}: {redact_error(error)}. {SET_CREDENTIALS}"
            ) from error

    def _client_config(self, sockets: Sockets) -> AioConfig:
        has_endpoint = self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return AioConfig(
            s3={
                "addressing_style": self._addressing_style or ("path" if has_endpoint else "auto"),
                # The signature covers the checksum of the body; hashing the body again adds nothing.
                "payload_signing_enabled": False,
            },
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": self.max_attempts},
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            max_pool_connections=self.settings.connections,
            http_session_cls=type("Session", (SDKSession,), {"sockets": sockets}),
        )


class SDKSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
    """The SDK's HTTP session, with our sockets and with certificates checked for the host's name."""

    sockets: Sockets

    def __init__(self, *, connector_args: dict[str, Any], **settings: Any) -> None:
        super().__init__(connector_args={**connector_args, "socket_factory": self.sockets.make}, **settings)

    def _get_ssl_context(self) -> ssl.SSLContext:
        # boto3 compares names itself, aiohttp leaves that to the context.
        context: ssl.SSLContext = super()._get_ssl_context()
        context.check_hostname = True
        return context


def _trust(profile: str | None) -> ssl.SSLContext:
    """The certificates that the SDK trusts: `AWS_CA_BUNDLE`, the profile's `ca_bundle`, or its own."""
    configured = aiobotocore.session.AioSession(profile=profile).get_config_variable("ca_bundle")
    return ssl.create_default_context(cafile=get_cert_path(configured or True))


def _presign_by_version_4(signature_version: str, **_: Any) -> str | None:
    """Sign URLs by version 4 in every region; the SDK falls back to version 2 in some."""
    return "s3v4-query" if signature_version in ("v4-query", "s3v4-query") else None


# The description of S3's API takes longest to load when a client is made; it is the same for all of ours.
_api_descriptions = botocore.loaders.create_loader()


# What a profile has that leads to credentials, and what leads to them elsewhere (AWS SDKs and Tools Reference Guide,
# "Standardized credential providers").
_CREDENTIAL_SETTINGS = (
    *("aws_access_key_id", "role_arn", "sso_session", "sso_start_url", "login_session", "credential_process"),
    "web_identity_token_file",
)
_CREDENTIAL_VARIABLES = (
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)


def _session(profile: str | None, **keys: str) -> aioboto3.Session:
    session = aiobotocore.session.AioSession(profile=profile)
    session.register_component("data_loader", _api_descriptions)
    return aioboto3.Session(botocore_session=session, **keys)


def _name_by_status(parsed_response: dict[str, Any] | None = None, **_: Any) -> None:
    """Name errors by their status where the SDK tries again by name alone: answers to HEAD have none."""
    if parsed_response is not None:
        code = _CODES.get(parsed_response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        if code is not None:
            parsed_response.setdefault("Error", {})["Code"] = code


def _note_retry(request: Any, **_: Any) -> None:
    """Tell of attempts after the first, of which only the SDK knows."""
    if request.context.get("retries", {}).get("attempt", 1) > 1:
        note_retries()
