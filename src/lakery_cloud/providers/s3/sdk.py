"""How the SDK's client is opened, and its HTTP session. Importing this room takes longer than a first request."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import aiohttp
import botocore.loaders
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ConnectionClosedError, ProxyConnectionError, ReadTimeoutError
from botocore.handlers import add_expect_header, validate_bucket_name
from botocore.httpsession import ProxyConfiguration
from botocore.utils import parse_timestamp

from lakery_cloud.engine.requests import THROTTLES, requested_pause
from lakery_cloud.engine.telemetry.operations import note_retries
from lakery_cloud.http.client import open_session
from lakery_cloud.http.exchange import WORKING, Origin
from lakery_cloud.http.pool import Sockets
from lakery_cloud.http.proxies import proxy_for
from lakery_cloud.http.session import CheckedResponse, proxy_error, timeout_behind_proxy
from lakery_cloud.http.trust import Trust
from lakery_cloud.providers.s3.answers import check_answer, check_types
from lakery_cloud.providers.s3.credentials import AWSConfiguration, ExplainedCredentials, KeySession
from lakery_cloud.providers.s3.errors import CopyTimedOut
from lakery_cloud.providers.s3.sdk_requests import add_md5, copy_timeout
from lakery_cloud.providers.s3.signing import addressing_style, answer_probe
from lakery_cloud.redaction import Secrets
from lakery_cloud.streams.pace import note_throttle
from lakery_cloud.versions import check_version

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

    from lakery_cloud.providers.s3.settings import S3Settings

for _sdk in ("aiobotocore", "aiohttp"):
    check_version(_sdk, storage="S3Storage", extra="s3")

# Status -> the code that S3 sends with it, or with 503 where other stores send 429 (API Reference, "List of error codes").
_CODES = {408: "RequestTimeout", 429: "SlowDown"}


_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z")

_api_descriptions = botocore.loaders.create_loader()


def new_session(profile: str | None) -> AioSession:
    """A session that shares the descriptions of the API with all others."""
    session = AioSession(profile=profile)
    session.register_component("data_loader", _api_descriptions)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
    return session


def _parse_time(text: Any) -> Any:
    """A time in a response. The SDK's parser knows all formats, and takes longer than the rest of a listing."""
    return datetime.fromisoformat(text) if _ISO_8601.fullmatch(str(text)) else parse_timestamp(text)


def _load_descriptions(session: AioSession) -> None:
    """Read the descriptions of S3's API that a client needs, which takes longer than the rest of its opening."""
    loader = session.get_component("data_loader")  # it keeps them
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", kind, api_version=None)
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)


def is_asynchronous(session: Any) -> bool:
    """Whether it is a session of aiobotocore, or of aioboto3, which may not be installed."""
    classes = type(session).__mro__
    return isinstance(session, AioSession) or any(each.__module__.startswith("aioboto3.") for each in classes)


def session_of(settings: "S3Settings") -> Any:
    """The session of a storage, of aiobotocore or aioboto3."""
    if settings.session is None:
        return new_session(settings.profile)
    if isinstance(settings.session, KeySession):
        keys = settings.session.get_credentials()
        session = new_session(None)
        session.set_credentials(keys.access_key, keys.secret_key, keys.token)
        return session
    return settings.session


@asynccontextmanager
async def open_client(
    settings: "S3Settings",
    session: Any,
    configuration: AWSConfiguration,
    *,
    sockets: Sockets,
    trust: Trust,
    secrets: Secrets,
    credentials: ExplainedCredentials | None = None,
) -> AsyncGenerator["S3Client"]:
    """The client of a session, whose credentials explain their errors.

    Args:
        settings: The storage's settings.
        session: The session, of aiobotocore or aioboto3.
        configuration: What it reads from files and the environment.
        sockets: Creates the sockets.
        trust: Trusted certificates.
        secrets: Keys and tokens are added to these.
        credentials: Credentials to use instead of the session's.

    Raises:
        ConfigError, CredentialsError: The configuration is broken.
    """
    session_class = type("Session", (SDKSession,), {"sockets": sockets, "trust": trust})
    if settings.session is None:
        # For the clients that fetch credentials.
        session.set_default_client_config(DefaultConfig(http_session_cls=session_class))
    create_client = session.create_client if isinstance(session, AioSession) else session.client
    async with AsyncExitStack() as stack:
        with configuration.explained():
            if isinstance(session, AioSession):  # aioboto3's does not show its loader
                await asyncio.to_thread(_load_descriptions, session)
            opening = create_client(
                "s3",
                region_name=settings.region,
                endpoint_url=settings.endpoint_url,
                config=_client_config(settings, session_class),
            )
            client = await stack.enter_async_context(opening)
            found = await configuration.credentials() if credentials is None else None
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
        if found is not None:
            credentials = ExplainedCredentials(found, configuration, secrets)
        if credentials is not None:
            client._request_signer._credentials = credentials  # a client accepts no credentials
            events.register("needs-retry.s3", credentials.renew_refused)
        yield client


def _client_config(settings: "S3Settings", session_class: "type[SDKSession]") -> AioConfig:
    return AioConfig(
        s3={
            "addressing_style": addressing_style(settings),
            # The signature covers the checksum of the body; hashing the body again adds nothing.
            "payload_signing_enabled": False,
        },
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        max_pool_connections=settings.connections,
        http_session_cls=session_class,
    )


def _presign_by_version_4(signature_version: str, **_: Any) -> str | None:
    """Sign URLs by version 4 in every region; the SDK falls back to version 2 in some."""
    return "s3v4-query" if signature_version in ("v4-query", "s3v4-query") else None


def _name_by_status(parsed_response: dict[str, Any] | None = None, **_: Any) -> None:
    """Give errors a code by their status: responses to HEAD have none, and the SDK decides on retries by it."""
    if parsed_response is not None:
        code = _CODES.get(parsed_response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        if code is not None:
            parsed_response.setdefault("Error", {})["Code"] = code


_RETRY_AT = "lakery-cloud: retry at"


def _note_pause(
    response_dict: Mapping[str, Any] | None,
    context: dict[str, Any],
    parsed_response: Mapping[str, Any] | None = None,
    **_: Any,
) -> None:
    """Note a throttle, and when the store allows a retry: the SDK does not read `Retry-After`."""
    if response_dict is None:
        return
    code = (parsed_response or {}).get("Error", {}).get("Code")  # of a copy also in a success
    if response_dict["status_code"] in THROTTLES or code == "SlowDown":
        note_throttle()
    if seconds := requested_pause(response_dict["headers"]):
        context[_RETRY_AT] = asyncio.get_running_loop().time() + seconds


async def _pause(request: Any, **_: Any) -> None:
    """Wait before a retry for as long as the store asks, beyond the pause of the SDK."""
    if (allowed := request.context.pop(_RETRY_AT, None)) is not None:
        await asyncio.sleep(allowed - asyncio.get_running_loop().time())


@contextmanager
def ending_redirects(client: "S3Client") -> Iterator[None]:
    """Keep a client of the user's own from asking for a bucket's region without an end, while a storage uses it."""
    events, place = client.meta.events, "response-received.s3.HeadBucket"
    once = {"unique_id": "lakery-cloud: end redirects", "unique_id_uses_count": True}  # for any number of storages
    events.register(place, _end_redirects, **once)
    try:
        yield
    finally:
        events.unregister(place, _end_redirects, **once)


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
