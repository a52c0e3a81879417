"""Sends requests to any origin: over our own connections, or over an aiohttp session where these can't serve it.

Importing aiohttp takes longer than a first request, so it is imported on use.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lakery_cloud.http.exchange import ConnectionLost, Exchange, Origin, Request, Response, UnsupportedResponse
from lakery_cloud.http.pool import ConnectionPool, Sockets
from lakery_cloud.http.proxies import Proxy, proxy_for

if TYPE_CHECKING:
    import aiohttp

    from lakery_cloud.http.session import SessionExchange

logger = logging.getLogger("lakery_cloud")


def open_session(
    sockets: Sockets, tls: ssl.SSLContext | bool, *, limit: int = 0, **options: Any
) -> "aiohttp.ClientSession":
    """An aiohttp session. It knows neither proxies nor netrc.

    Args:
        sockets: Creates the sockets.
        tls: Trust settings; True for the default ones.
        limit: The most concurrent requests; 0 for any number.
        options: Options of aiohttp.
    """
    import aiohttp

    from lakery_cloud.http.session import CheckedRequest, CheckedResponse

    connector = aiohttp.TCPConnector(limit=limit, ssl=tls, socket_factory=sockets.make)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        request_class=CheckedRequest,
        response_class=CheckedResponse,
        **options,
    )


class HTTPClient:
    """The connections of one storage on one event loop.

    Requests to an origin behind a proxy of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`) go over the session,
    and so do all requests to an origin after a response that our own connections refuse.

    Args:
        sockets: Creates the sockets.
        tls: Makes the trust settings, once, for the first origin with TLS.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for the head of a response, then for the next bytes of its body.
        session: A session to use instead of one made here; its owner closes it.
        find_proxy: Finds the proxy for an origin.
        session_timeout: Time-outs of the session, if not the two above.
        is_pooled: Whether our own connections may be used at all.
    """

    def __init__(
        self,
        *,
        sockets: Sockets,
        tls: Callable[[], ssl.SSLContext],
        connect_timeout: float,
        read_timeout: float,
        session: "aiohttp.ClientSession | None" = None,
        session_timeout: "aiohttp.ClientTimeout | None" = None,
        find_proxy: Callable[[Origin], Proxy | None] = proxy_for,
        is_pooled: bool = True,
    ) -> None:
        self._sockets = sockets
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._find_proxy = find_proxy
        self._is_pooled = is_pooled
        self._session = session
        self._session_timeout = session_timeout
        self._owns_session = session is None
        self._pools: dict[Origin, ConnectionPool] = {}
        self._exchanges: dict[Origin, Exchange] = {}
        self._is_closed = False

    async def send(self, origin: Origin, request: Request) -> Response:
        """Send a request and wait for the head of its response.

        Raises:
            HTTPError: No response arrived, or the client is closed.
            InvalidRequest: HTTP can't carry the request.
            ConfigError: The environment names a proxy, or certificates, that can't be used.
        """
        exchange = self._exchanges.get(origin) or self._exchange_with(origin)
        try:
            return await exchange.send(request)
        except UnsupportedResponse as error:
            if exchange is not self._pools.get(origin):
                raise
            if self._exchanges.get(origin) is exchange:  # not yet after another request's response
                logger.info("requests to %s go over aiohttp from now on, because of %s", origin.netloc, error)
                self._exchanges[origin] = self._session_exchange(origin)
            return await (self._exchanges.get(origin) or self._exchange_with(origin)).send(request)

    async def aclose(self) -> None:
        """Close all connections. A later request, such as one of a task that nobody waits for, opens no other."""
        self._is_closed = True
        for pool in self._pools.values():
            pool.close()
        await asyncio.sleep(0)  # the event loop closes the sockets in its next step
        self._pools.clear()
        self._exchanges.clear()
        if self._session is not None and self._owns_session:
            await self._session.close()
            self._session = None

    def _exchange_with(self, origin: Origin) -> Exchange:
        if self._is_closed:
            raise ConnectionLost("the client was closed")
        if self._is_pooled and self._find_proxy(origin) is None:
            self._exchanges[origin] = self._pools[origin] = ConnectionPool(
                origin,
                tls=self._trust() if origin.is_tls else None,
                sockets=self._sockets,
                connect_timeout=self._connect_timeout,
                read_timeout=self._read_timeout,
            )
        else:
            self._exchanges[origin] = self._session_exchange(origin)
        return self._exchanges[origin]

    def _session_exchange(self, origin: Origin) -> "SessionExchange":
        import aiohttp

        from lakery_cloud.http.session import SessionExchange

        if self._session is None:
            self._session = open_session(self._sockets, self._trust())
        proxy = self._find_proxy(origin)
        timeout = self._session_timeout or aiohttp.ClientTimeout(
            total=None, sock_connect=self._connect_timeout, sock_read=self._read_timeout
        )
        return SessionExchange(self._session, origin, timeout=timeout, proxy=proxy)

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._make_tls()
        return self._tls
