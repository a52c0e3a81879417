"""`S3Storage`: Amazon S3 and stores with its API, on aiobotocore. The engine has the algorithm."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.settings import keywords_of
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError, MissingDependency
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.trust import Trust
from lakery_cloud.providers.s3.lifecycle import lifecycle_rules
from lakery_cloud.providers.s3.settings import MAX_URL_LIFETIME, S3Settings, S3StorageData
from lakery_cloud.versions import check_version

try:
    import botocore

    check_version("botocore", storage="S3Storage", extra="s3")
    import botocore.session
    from botocore.httpsession import get_cert_path

    from lakery_cloud.providers.s3.credentials import AWSConfiguration, ExplainedCredentials, KeySession, secrets_of
    from lakery_cloud.providers.s3.requests import S3Requests
    from lakery_cloud.providers.s3.signing import find_direct
    from lakery_cloud.providers.s3.transport import S3Transport

    if find_spec("aiobotocore") is None:
        raise ImportError("aiobotocore is not installed")
except MissingDependency:
    raise
except ImportError as error:
    raise MissingDependency(
        'S3Storage needs aiobotocore: pip install "lakery-cloud[s3]" (aioboto3, and the aiobotocore that it pins) or '
        '"lakery-cloud[aiobotocore]" (a current aiobotocore)'
    ) from error

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


class S3Storage(CloudStorage[S3StorageData]):
    """Content-addressed objects in a bucket of Amazon S3, or of another store with its API.

    Credentials come from where the AWS SDK finds them (environment, profile, instance role), or from a `session` or
    `client` of your own; they are never settings of the storage.

    The arguments are the fields of `S3Settings`.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    settings_class = S3Settings
    settings: S3Settings
    name = "lakery_cloud.s3@v1"
    aliases = ("labox.aws.s3@v1", "lakery.aws.s3@v1")
    bucket_attribute = "aws.s3.bucket"
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "s3"
    pickles_with = "region, profile and endpoint_url"

    @keywords_of(S3Settings)
    def __init__(self, settings: S3Settings) -> None:
        if not isinstance(settings.session, KeySession | None) and not _is_asynchronous(settings.session):
            given = type(settings.session)
            raise ConfigError(
                "session must be a Session of aioboto3 or an AioSession of aiobotocore, "
                f"not {given.__module__}.{given.__qualname__}"
            )
        super().__init__(settings.bucket, settings)

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """Rules for `aws s3api put-bucket-lifecycle-configuration`: temporary objects expire, unfinished uploads end.

        Uploads end below the whole prefix, since a copy too large for one request is an upload to a content key. Objects
        expire below the temporary root alone.

        Args:
            days: Days from the start of an upload. S3 rounds up to the next midnight (UTC).
        """
        return lifecycle_rules(self.keys, days)

    @classmethod
    def credentials_from(cls, secrets: Mapping[str, str]) -> dict[str, Any]:
        """A session from `access_key_id` and `secret_access_key`, and from `session_token` if they are temporary."""
        if not secrets:
            return {}
        if not {"access_key_id", "secret_access_key"} <= set(secrets):
            raise ConfigError("access_key_id and secret_access_key go together; give both of them")
        session = KeySession(include_builtin_handlers=False)
        session.set_credentials(secrets["access_key_id"], secrets["secret_access_key"], secrets.get("session_token"))
        return {"session": session}

    def _credential_source(self) -> str:
        if self.settings.profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
            return "AWS_ACCESS_KEY_ID in the environment"
        session = botocore.session.Session(profile=self.settings.profile, include_builtin_handlers=False)
        return self._configuration(session).credential_source()

    def _configuration(self, session: Any) -> AWSConfiguration:
        settings = self.settings
        given = {"region": settings.region, "endpoint_url": settings.endpoint_url, "profile": settings.profile}
        return AWSConfiguration(session, given)

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        settings = self.settings
        async with AsyncExitStack() as stack:
            secrets = stack.enter_context(self._masked_secrets())
            if settings.client is not None:
                secrets.add(*secrets_of(settings.client))
                stack.enter_context((await _sdk()).ending_redirects(settings.client))
                yield S3Transport(SDKClient.opened(settings.client), settings)
                return
            sockets, direct = self._sockets(), find_direct(settings)
            session = direct.session if direct is not None else (await _sdk()).session_of(settings)
            configuration = self._configuration(session)
            configuration.check()
            trust = Trust(configuration.bundle(), default=get_cert_path(True))

            @asynccontextmanager
            async def open_client(credentials: ExplainedCredentials | None) -> AsyncGenerator["S3Client"]:
                sdk = await _sdk()
                async with sdk.open_client(
                    settings,
                    session if direct is None else sdk.session_of(settings),
                    configuration,
                    sockets=sockets,
                    trust=trust,
                    secrets=secrets,
                    credentials=credentials,
                ) as client:
                    yield client

            if direct is None:
                client = SDKClient.opened(await stack.enter_async_context(open_client(None)))
            else:
                if direct.route.origin.is_tls:
                    await asyncio.to_thread(trust.context)  # it takes long, and fails if there is no such file
                credentials = ExplainedCredentials(direct.credentials, configuration, secrets)
                client = SDKClient(
                    lambda: open_client(credentials),
                    endpoint=direct.endpoint,
                    connections=settings.connections,
                    credentials=credentials,
                )
                stack.push_async_callback(client.aclose)
            if client.credentials is None or not settings.fast_lane:
                yield S3Transport(client, settings)
                return
            http = HTTPClient(
                sockets=sockets,
                tls=trust.context,
                connect_timeout=settings.connect_timeout,
                read_timeout=settings.read_timeout,
            )
            async with aclosing(http):
                routes = {settings.bucket: direct.route} if direct is not None else {}
                signed = S3Requests(client, http, settings=settings, routes=routes)
                yield S3Transport(client, settings, signed=signed)


class SDKClient:
    """The SDK's client on one event loop, opened by the first request that needs it.

    Loading its description of the API takes longer than most first requests.

    Args:
        open_client: Opens the client.
        endpoint: URL of the API, for messages.
        connections: How many connections the client may use.
        credentials: The client's credentials; None without any.

    Attributes:
        endpoint, connections, credentials: As the arguments.
    """

    def __init__(
        self,
        open_client: Callable[[], AbstractAsyncContextManager["S3Client"]],
        *,
        endpoint: str,
        connections: int,
        credentials: Any,
    ) -> None:
        self._open_client = open_client
        self.endpoint = endpoint
        self.connections = connections
        self.credentials = credentials
        self._client: S3Client | None = None
        self._opening: asyncio.Task[tuple[S3Client, AsyncExitStack]] | None = None

    @classmethod
    def opened(cls, client: "S3Client") -> Self:
        """A client that is open already, and that its owner closes."""

        def open_client() -> AbstractAsyncContextManager["S3Client"]:
            raise AssertionError("the client is open")

        made = cls(
            open_client,
            endpoint=client.meta.endpoint_url,
            connections=client.meta.config.max_pool_connections,
            credentials=client._request_signer._credentials,  # a client has no public attribute for them
        )
        made._client = client
        return made

    @property
    def credential_kind(self) -> str | None:
        """The SDK's name of the source of the credentials; None without credentials."""
        return str(getattr(self.credentials, "method", "explicit")) if self.credentials else None

    async def get(self) -> "S3Client":
        """The open client.

        Raises:
            ConfigError, CredentialsError: The configuration is broken.
        """
        if self._client is not None:
            return self._client
        if self._opening is None:
            # A task of its own, since cancelling one waiting caller must not end it for the others.
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        try:
            client, _ = await asyncio.shield(opening)
        finally:
            if opening.done() and (opening.cancelled() or opening.exception()) and self._opening is opening:
                self._opening = None  # the next request tries again
        self._client = client
        return client

    async def aclose(self) -> None:
        """Close the client, if a request has opened it."""
        if self._opening is None:
            return
        await asyncio.wait([self._opening])
        if not self._opening.cancelled() and self._opening.exception() is None:
            _, resources = self._opening.result()
            await resources.aclose()

    async def _open(self) -> "tuple[S3Client, AsyncExitStack]":
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._open_client())
            return client, stack.pop_all()
        raise AssertionError("an exit stack never swallows an error")


async def _sdk() -> Any:
    """The module that needs aiobotocore, imported in a thread, since that takes long."""
    return await asyncio.to_thread(import_module, "lakery_cloud.providers.s3.sdk")


def _is_asynchronous(session: Any) -> bool:
    from lakery_cloud.providers.s3.sdk import is_asynchronous

    return is_asynchronous(session)
