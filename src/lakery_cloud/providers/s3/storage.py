"""`S3Storage`: Amazon S3 and stores with its API, on aiobotocore. The engine has the algorithm."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, ClassVar

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.requests import requested_pause
from lakery_cloud.engine.settings import keywords_of
from lakery_cloud.engine.telemetry.operations import note_retries
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError, MissingDependency
from lakery_cloud.http.client import HTTPClient, open_session
from lakery_cloud.http.exchange import Origin
from lakery_cloud.http.pool import Sockets
from lakery_cloud.http.proxies import proxy_for
from lakery_cloud.http.session import CheckedResponse, proxy_error, timeout_behind_proxy
from lakery_cloud.http.trust import Trust
from lakery_cloud.providers.s3.lifecycle import lifecycle_rules
from lakery_cloud.providers.s3.settings import MAX_URL_LIFETIME, S3Settings, S3StorageData

try:
    import aiohttp
    import botocore.loaders
    from aiobotocore.awsrequest import AioAWSResponse
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession
    from aiobotocore.session import AioSession
    from botocore.exceptions import BotoCoreError, ConnectionClosedError, ProxyConnectionError, ReadTimeoutError
    from botocore.handlers import add_expect_header, validate_bucket_name
    from botocore.httpsession import ProxyConfiguration, get_cert_path

    from lakery_cloud.providers.s3.answers import add_md5, check_answer, check_types
    from lakery_cloud.providers.s3.credentials import AWSConfiguration, ExplainedCredentials, secrets_of
    from lakery_cloud.providers.s3.errors import CopyTimedOut
    from lakery_cloud.providers.s3.requests import S3Requests
    from lakery_cloud.providers.s3.signing import answer_probe
    from lakery_cloud.providers.s3.transport import S3Transport, copy_timeout
except ImportError as error:
    raise MissingDependency(
        'S3Storage needs aiobotocore: pip install "lakery-cloud[s3]" (aioboto3, and the aiobotocore that it pins) or '
        '"lakery-cloud[aiobotocore]" (a current aiobotocore)'
    ) from error


# Status -> the code that S3 sends with it, or with 503 where other stores send 429 (API Reference, "List of error codes").
_CODES = {408: "RequestTimeout", 429: "SlowDown"}


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
        if settings.session is not None and not _is_asynchronous(settings.session):
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
        session = _session(None)
        session.set_credentials(secrets["access_key_id"], secrets["secret_access_key"], secrets.get("session_token"))
        return {"session": session}

    def _credential_source(self) -> str:
        if self.settings.profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
            return "AWS_ACCESS_KEY_ID in the environment"
        return self._configuration(_session(self.settings.profile)).credential_source()

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
                yield S3Transport(settings.client, settings)
                return
            session = settings.session or _session(settings.profile)
            configuration = self._configuration(session)
            configuration.check()
            sockets = self._sockets()
            trust = Trust(configuration.bundle(), default=get_cert_path(True))
            session_class = type("Session", (SDKSession,), {"sockets": sockets, "trust": trust})
            if settings.session is None:
                # For the clients that fetch credentials.
                session.set_default_client_config(DefaultConfig(http_session_cls=session_class))
            with configuration.explained():
                create_client = session.create_client if isinstance(session, AioSession) else session.client
                opening = create_client(
                    "s3",
                    region_name=settings.region,
                    endpoint_url=settings.endpoint_url,
                    config=self._client_config(session_class),
                )
                client = await stack.enter_async_context(opening)
                credentials = await configuration.credentials()
            configuration.check_endpoint(client.meta.endpoint_url)
            if client.meta.endpoint_url.startswith("https:"):
                await asyncio.to_thread(trust.context)  # it takes long, and fails if there is no such file
            events = client.meta.events
            events.register("before-send.s3.HeadObject", answer_probe)
            events.register_first("before-parse.s3.*", check_answer)
            events.register("after-call.s3", check_types)
            events.register("before-call.s3", add_md5)
            events.register("response-received.s3", _name_by_status)
            events.register("response-received.s3", _note_pause)
            events.register_first("request-created.s3", _pause)
            events.register("response-received.s3.HeadBucket", _end_redirects)
            events.register("request-created.s3", _note_retry)
            events.register_first("choose-signer.s3", _presign_by_version_4)
            # A client that asks before it sends a body waits forever if the response never comes.
            events.unregister("before-call.s3", add_expect_header)
            # Our own rules for names are stricter, except that they allow the tenants of Ceph.
            events.unregister("before-parameter-build.s3", validate_bucket_name)
            if credentials is not None:
                credentials = ExplainedCredentials(credentials, configuration, secrets)
                client._request_signer._credentials = credentials  # a client accepts no credentials
                events.register("needs-retry.s3", credentials.renew_refused)
            if credentials is None or not settings.fast_lane:
                yield S3Transport(client, settings)
                return
            http = HTTPClient(
                sockets=sockets,
                tls=trust.context,
                connect_timeout=settings.connect_timeout,
                read_timeout=settings.read_timeout,
            )
            async with aclosing(http):
                signed = S3Requests(client, http, credentials=credentials, settings=settings)
                yield S3Transport(client, settings, signed=signed)

    def _client_config(self, session_class: "type[SDKSession]") -> AioConfig:
        has_endpoint = (
            self.settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )
        return AioConfig(
            s3={
                "addressing_style": self.settings.addressing_style or ("path" if has_endpoint else "auto"),
                # The signature covers the checksum of the body; hashing the body again adds nothing.
                "payload_signing_enabled": False,
            },
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": self.settings.max_attempts},
            connect_timeout=self.settings.connect_timeout,
            read_timeout=self.settings.read_timeout,
            max_pool_connections=self.settings.connections,
            http_session_cls=session_class,
        )

    from aiobotocore.session import AioSession


def _presign_by_version_4(signature_version: str, **_: Any) -> str | None:
    """Sign URLs by version 4 in every region; the SDK falls back to version 2 in some."""
    return "s3v4-query" if signature_version in ("v4-query", "s3v4-query") else None


_api_descriptions = botocore.loaders.create_loader()


def _session(profile: str | None) -> AioSession:
    session = AioSession(profile=profile)
    session.register_component("data_loader", _api_descriptions)
    return session


def _is_asynchronous(session: Any) -> bool:
    """Whether it is a session of aiobotocore, or of aioboto3, which may not be installed."""
    classes = type(session).__mro__
    return isinstance(session, AioSession) or any(each.__module__.startswith("aioboto3.") for each in classes)


def _name_by_status(parsed_response: dict[str, Any] | None = None, **_: Any) -> None:
    """Give errors a code by their status: responses to HEAD have none, and the SDK decides on retries by it."""
    if parsed_response is not None:
        code = _CODES.get(parsed_response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        if code is not None:
            parsed_response.setdefault("Error", {})["Code"] = code


_RETRY_AT = "lakery-cloud: retry at"


def _note_pause(response_dict: Mapping[str, Any] | None, context: dict[str, Any], **_: Any) -> None:
    """Note when the store allows a retry: the SDK does not read `Retry-After`."""
    if response_dict is not None and (seconds := requested_pause(response_dict["headers"])):
        context[_RETRY_AT] = asyncio.get_running_loop().time() + seconds


async def _pause(request: Any, **_: Any) -> None:
    """Wait before a retry for as long as the store asks, beyond the pause of the SDK."""
    if (allowed := request.context.pop(_RETRY_AT, None)) is not None:
        await asyncio.sleep(allowed - asyncio.get_running_loop().time())


def _end_redirects(parsed_response: dict[str, Any] | None, context: dict[str, Any], **_: Any) -> None:
    """Keep the SDK from asking for the region again and again where no response names it."""
    metadata = (parsed_response or {}).get("ResponseMetadata", {})
    if "x-amz-bucket-region" not in metadata.get("HTTPHeaders", {}):
        context.get("s3_redirect", {})["redirected"] = True


def _note_retry(request: Any, **_: Any) -> None:
    """Count attempts after the first, which only the SDK sees."""
    if request.context.get("retries", {}).get("attempt", 1) > 1:
        note_retries()


class SDKSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
    """The SDK's HTTP session. A subclass has the sockets and certificates of one client."""

    sockets: ClassVar[Sockets]
    trust: ClassVar[Trust]

    async def _get_session(self, proxy_url: str | None) -> Any:
        # The SDK's sessions check no certificates behind a proxy, and no host names anywhere (aiobotocore before 3).
        if proxy_url not in self._sessions:
            session = open_session(
                self.sockets,
                self._tls,
                limit=self._max_pool_connections,
                timeout=timeout_behind_proxy(self._timeout) if proxy_url else self._timeout,
                skip_auto_headers=("Content-Type",),
            )
            self._sessions[proxy_url] = await self._exit_stack.enter_async_context(session)
        return _Session(self._sessions[proxy_url])

    async def send(self, request: Any) -> AioAWSResponse:
        origin = Origin.of(request.url)
        # Outside the SDK's own function, which hides errors of ours.
        self._tls = self.trust.context() if origin.is_tls else True
        proxy = proxy_for(origin)
        self._proxy_config = ProxyConfiguration({"https" if origin.is_tls else "http": proxy.url} if proxy else None)
        try:
            return await self._send(request)
        except ReadTimeoutError as error:
            if copy_timeout.get() is not None and "uploadId=" not in request.url:
                raise CopyTimedOut(error=error) from error
            raise
        except BotoCoreError as error:
            if proxy is None or (failed := proxy_error(error.kwargs.get("error"), proxy)) is None:
                raise
            raise ProxyConnectionError(proxy_url=proxy.name, error=failed) from error

    async def _send(self, request: Any) -> AioAWSResponse:
        response = await super().send(request)
        if response.status_code >= 300:
            # Of a request for content, the SDK reads a refusal later, where it retries nothing.
            try:
                await response.content
            except TimeoutError as error:
                raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
            except aiohttp.ClientError as error:
                raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
        return response


class DefaultConfig(AioConfig):  # type: ignore[misc]  # it has no types
    """A default configuration of clients. The SDK drops its HTTP session when it adds the options of one client."""

    def merge(self, other_config: AioConfig) -> AioConfig:
        merged = super().merge(other_config)
        merged.http_session_cls = self.http_session_cls
        return merged


WORKING = 10
"""How much longer than a silent store one may take that sends white space while it works (API Reference, "CopyObject")."""


class _Session:
    """A session that follows no redirects: the SDK does, to the endpoint of another region. Copies have more time."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:
        seconds = copy_timeout.get()
        if seconds is not None:
            connect = self._session.timeout.sock_connect
            options["timeout"] = aiohttp.ClientTimeout(sock_connect=connect, sock_read=seconds)
        response = await self._session.request(method, **options, allow_redirects=False)
        if seconds is not None:
            assert isinstance(response, CheckedResponse)
            response.body_seconds = WORKING * seconds
        return response
