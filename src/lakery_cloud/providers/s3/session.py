"""The HTTP session of the SDK's client: with our sockets, and with the proxies and certificates of all other requests."""

from typing import TYPE_CHECKING, Any, ClassVar

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import BotoCoreError, ProxyConnectionError, ReadTimeoutError
from botocore.httpsession import ProxyConfiguration

from lakery_cloud.http.client import open_session
from lakery_cloud.http.exchange import Origin
from lakery_cloud.http.proxies import proxy_for
from lakery_cloud.http.session import proxy_error, timeout_behind_proxy
from lakery_cloud.providers.s3.errors import CopyTimedOut
from lakery_cloud.providers.s3.transport import copy_timeout

if TYPE_CHECKING:
    from lakery_cloud.http.pool import Sockets
    from lakery_cloud.http.trust import Trust


class SDKSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
    """The SDK's HTTP session. A subclass has the sockets and certificates of one client."""

    sockets: ClassVar["Sockets"]
    trust: ClassVar["Trust"]

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
        session, seconds = self._sessions[proxy_url], copy_timeout.get()
        return session if seconds is None else _PatientSession(session, seconds)

    async def send(self, request: Any) -> AioAWSResponse:
        origin = Origin.of(request.url)
        # Outside the SDK's own function, which hides errors of ours.
        self._tls = self.trust.context() if origin.is_tls else True
        proxy = proxy_for(origin)
        self._proxy_config = ProxyConfiguration({"https" if origin.is_tls else "http": proxy.url} if proxy else None)
        try:
            return await super().send(request)
        except ReadTimeoutError as error:
            if copy_timeout.get() is not None and "partNumber=" not in request.url:
                raise CopyTimedOut(error=error) from error
            raise
        except BotoCoreError as error:
            if proxy is None or (failed := proxy_error(error.kwargs.get("error"), proxy)) is None:
                raise
            raise ProxyConnectionError(proxy_url=proxy.name, error=failed) from error


class DefaultConfig(AioConfig):  # type: ignore[misc]  # it has no types
    """A default configuration of clients. The SDK drops its HTTP session when it adds the options of one client."""

    def merge(self, other_config: AioConfig) -> AioConfig:
        merged = super().merge(other_config)
        merged.http_session_cls = self.http_session_cls
        return merged


class _PatientSession:
    """A session whose requests wait longer for bytes of the response."""

    def __init__(self, session: aiohttp.ClientSession, seconds: float) -> None:
        self._session = session
        self._timeout = aiohttp.ClientTimeout(sock_connect=session.timeout.sock_connect, sock_read=seconds)

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:
        return await self._session.request(method, **options, timeout=self._timeout)
