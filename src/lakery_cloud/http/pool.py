"""Connections to one origin: opened when requests need them, kept for the next ones, closed when idle."""

import asyncio
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from lakery_cloud.http.connection import Connection
from lakery_cloud.http.exchange import ConnectFailed, ConnectionLost, ConnectTimeout, Origin, Request, TLSFailed

KEEP_IDLE = 12.0
"""Seconds that an idle connection is kept, as aiobotocore does: servers and middleboxes drop it later."""
RECEIVE_SIZE = 1024 * 1024
"""Bytes received at a time, at most: each piece has a cost of its own."""
KEEP_ADDRESSES = 10.0
"""Seconds that resolved addresses are used, as aiohttp does."""
EYEBALLS_DELAY = 0.25
"""Seconds before the next address is tried in parallel (RFC 8305, section 8)."""

AddressInfo = tuple[int, int, int, str, Sequence[Any]]
"""One address as `socket.getaddrinfo` returns it."""


class Sockets:
    """Creates the TCP sockets of one client, for its SDK and its connection pools: with a send time-out and a shared limit.

    A socket breaks when the server accepts no data for `seconds`. Linux enforces that (tcp(7), TCP_USER_TIMEOUT). Other
    systems give up later, by their own rules.

    Args:
        limit: Open sockets. At the limit, idle pooled connections are closed first.
        seconds: Send time-out.

    Attributes:
        close_idle: Functions that close an idle pooled connection, and return whether there was one.
    """

    def __init__(self, *, limit: int, seconds: float) -> None:
        self.close_idle: list[Callable[[], bool]] = []
        self._limit = limit
        self._milliseconds = round(seconds * 1000)
        self._open: WeakSet[socket.socket] = WeakSet()

    @property
    def is_over_limit(self) -> bool:
        """Whether more sockets are open than the limit allows."""
        return len(self._open) > self._limit and sum(each.fileno() >= 0 for each in self._open) > self._limit

    def forget(self, made: socket.socket) -> None:
        """Stop counting a socket that is about to be closed."""
        self._open.discard(made)

    def make(self, address: AddressInfo) -> socket.socket:
        """A socket that can be connected to an address."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._milliseconds)
        self._open.add(made)
        if self.is_over_limit:
            any(close() for close in self.close_idle)
        return made


@dataclass(slots=True)
class PooledResponse:
    """A response on a pooled connection; see `Response`."""

    status: int
    headers: Mapping[str, str]
    _connection: Connection | None
    _pool: "ConnectionPool"

    def set_deadline(self) -> None:
        if self._connection is not None:
            self._connection.set_deadline()

    async def read(self) -> bytes:
        if self._connection is None:  # it may serve another request by now
            raise ConnectionLost("the response was closed")
        return await self._connection.read()

    def close(self) -> None:
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None


def poll_of(fileno: int) -> select.poll:
    """Ask it `poll(0)`: the result is empty unless bytes, the end of the connection or an error wait in the socket."""
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return poll


class ConnectionPool:
    """The connections to one origin, on one event loop. It does not limit concurrent requests.

    Args:
        origin: The origin.
        tls: Trust settings, for an origin with TLS.
        sockets: Creates the sockets.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for the head of a response, then for the next bytes of its body.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        tls: ssl.SSLContext | None,
        sockets: Sockets,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        assert tls is not None or not origin.is_tls
        self._origin = origin
        self._tls = tls if origin.is_tls else None
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(RECEIVE_SIZE))
        self._sockets = sockets
        self._idle: deque[Connection] = deque()
        self._open: dict[Connection, tuple[socket.socket, select.poll]] = {}
        self._addresses: Sequence[Any] = ()
        self._resolved_at = 0.0
        self._resolving = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        sockets.close_idle.append(self._close_oldest)

    async def send(self, request: Request) -> PooledResponse:
        """Send a request and wait for the head of its response.

        The server may just have closed an idle connection. If it ends before any byte of the response, the request is
        sent once more over a new connection, as every HTTP client does (RFC 9112, section 9.3.1).

        Raises:
            HTTPError: No response arrived.
            InvalidRequest: HTTP can't carry the request.
        """
        connection = self._take_idle()
        if connection is not None:
            try:
                return await self._exchange(connection, request)
            except ConnectionLost:
                if connection.is_answered:
                    raise
        return await self._exchange(await self._connect(), request)

    def release(self, connection: Connection) -> None:
        """Keep a connection for the next request if it is reusable; else close it."""
        if not connection.is_reusable or self._sockets.is_over_limit:
            self._drop(connection)
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(KEEP_IDLE, self._close_old)

    def close(self) -> None:
        """Close all connections."""
        self._idle.clear()
        for connection in [*self._open]:
            self._drop(connection)
        if self._timer is not None:
            self._timer.cancel()

    async def _exchange(self, connection: Connection, request: Request) -> PooledResponse:
        request.attempts += 1
        try:
            head = await connection.exchange(request)
        except BaseException:
            self._drop(connection)
            raise
        return PooledResponse(head.status, head.headers, connection, self)

    def _take_idle(self) -> Connection | None:
        """The connection that was used last, so that unneeded ones grow old.

        Bytes that the event loop had no time to read would pass for the response to the next request.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and not self._open[connection][1].poll(0):
                return connection
            self._drop(connection)
        return None

    def _close_old(self) -> None:
        self._timer = None
        oldest = self._loop.time() - KEEP_IDLE
        while self._idle and self._idle[0].idle_since <= oldest:
            self._close_oldest()
        if self._idle:
            self._timer = self._loop.call_at(self._idle[0].idle_since + KEEP_IDLE, self._close_old)

    def _close_oldest(self) -> bool:
        """Close the connection that has been idle for longest; return whether there was one."""
        if not self._idle:
            return False
        self._drop(self._idle.popleft())
        return True

    def _drop(self, connection: Connection) -> None:
        connection.close()
        if connection in self._open:
            made, _ = self._open.pop(connection)
            self._sockets.forget(made)

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._open_connection(await self._resolve())
        except TimeoutError as error:
            raise ConnectTimeout(f"no connection in {self._connect_timeout} seconds") from error
        except ssl.SSLError as error:
            raise TLSFailed(str(error)) from error
        except OSError as error:
            self._addresses = ()
            raise ConnectFailed(str(error)) from error

    async def _open_connection(self, addresses: Sequence[Any]) -> Connection:
        # An installation without an extra lacks it, and imports this module with the doctor.
        from aiohappyeyeballs import start_connection

        made = await start_connection(
            addresses,
            happy_eyeballs_delay=EYEBALLS_DELAY,
            interleave=1,
            loop=self._loop,
            socket_factory=self._sockets.make,
        )
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._buffer, self._read_timeout),
                sock=made,
                ssl=self._tls,
                server_hostname=self._origin.host if self._tls else None,
            )
        except BaseException:
            made.close()
            raise
        self._open[connection] = made, poll_of(made.fileno())
        return connection

    async def _resolve(self) -> Sequence[Any]:
        async with self._resolving:
            if not self._addresses or self._loop.time() - self._resolved_at > KEEP_ADDRESSES:
                self._addresses = await self._loop.getaddrinfo(
                    self._origin.host, self._origin.port, type=socket.SOCK_STREAM
                )
                self._resolved_at = self._loop.time()
            return self._addresses
