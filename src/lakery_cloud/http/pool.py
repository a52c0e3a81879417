"""The connections that the fast lane keeps to one host: opened when they are needed, closed when they are not."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakSet

from aiohappyeyeballs import start_connection

from lakery_cloud.http.connection import (
    Connection,
    ConnectionLost,
    HTTPError,
    Piece,
)

KEEP_IDLE = 12.0
"""Seconds that an idle connection is kept, as aiobotocore does: servers and what lies between drop it later."""
RECEIVE_SIZE = 1024 * 1024
"""Bytes that are received at a time, at most: the fewer pieces, the less is done for each."""
KEEP_ADDRESSES = 10.0
"""Seconds that the addresses of a host are known, as aiohttp does."""
EYEBALLS_DELAY = 0.25
"""Seconds before the next address is tried beside the one before (RFC 8305, section 8)."""


AddressInfo = tuple[int, int, int, str, Sequence[Any]]
"""What `socket.getaddrinfo` says of one address."""


class Sockets:
    """Makes the TCP sockets of one client: those of its SDK, and those of the fast lane.

    A socket breaks when the other side takes nothing of what is sent for a while. Linux counts that for each connection
    (tcp(7), TCP_USER_TIMEOUT). Other systems give up later, by rules of their own.

    Args:
        limit: How many may be open, of which the idle ones of the fast lane are closed first.
        seconds: How long the other side may take nothing.

    Attributes:
        spare: Each closes a connection that nobody needs, and says whether there was one.
    """

    def __init__(self, *, limit: int, seconds: float) -> None:
        self.spare: list[Callable[[], bool]] = []
        self._limit = limit
        self._milliseconds = round(seconds * 1000)
        self._made: WeakSet[socket.socket] = WeakSet()

    @property
    def are_too_many(self) -> bool:
        """Whether more are open than may be."""
        return len(self._made) > self._limit and sum(made.fileno() >= 0 for made in self._made) > self._limit

    def forget(self, made: socket.socket) -> None:
        """Count a socket no more, which is about to be closed."""
        self._made.discard(made)

    def make(self, address: AddressInfo) -> socket.socket:
        """A socket that is about to be connected."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._milliseconds)
        self._made.add(made)
        if self.are_too_many:
            any(close() for close in self.spare)
        return made


class ConnectFailed(HTTPError):
    """No connection came about, so nothing was sent."""


class ConnectTimeout(ConnectFailed):
    """It took too long."""


class TLSFailed(ConnectFailed):
    """The other side can't be trusted, or speaks no TLS."""


class Origin(NamedTuple):
    """Where requests go to.

    Attributes:
        host: Its name or address.
        port: Its port.
        is_tls: Whether it is spoken to over TLS.
    """

    host: str
    port: int
    is_tls: bool


@dataclass(slots=True)
class Answer:
    """The answer to a request, while its body arrives. Whoever has it calls `close` at its end.

    Attributes:
        status: Its status.
        headers: Name in lower case -> value.
    """

    status: int
    headers: Mapping[str, str]
    _connection: Connection
    _home: "ConnectionPool"

    async def read(self, _size: int = -1) -> bytes:
        """The next bytes of the body as they come; none at its end. How many is not for the caller to say.

        Raises:
            HTTPError: The body broke off, or nothing came in time.
        """
        return await self._connection.read()

    async def read_all(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            UnsupportedResponse: It has more bytes than the limit.
            HTTPError: As for `read`.
        """
        return await self._connection.read_all(limit)

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        self._home.release(self._connection)


class ConnectionPool:
    """The connections to one origin, on one event loop. How many requests are under way is the transport's to limit.

    Args:
        origin: Where they lead to.
        tls: What TLS trusts; for an origin that is spoken to over TLS.
        sockets: Makes the sockets.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for the next bytes of an answer.
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
        self._all: dict[Connection, socket.socket] = {}
        self._addresses: Sequence[Any] = ()
        self._resolved_at = 0.0
        self._resolving = asyncio.Lock()
        self._sweeper: asyncio.TimerHandle | None = None
        sockets.spare.append(self._close_one)

    async def send(self, method: str, head: bytes, body: Sequence[Piece] = ()) -> Answer:
        """Send a request that may be sent twice, and wait for the head of its answer.

        A connection that was idle may just have been closed by the other side. Where it ends before anything of an answer
        came, the request is sent once more at once, over a new one, as every HTTP client does (RFC 9112, section 9.3.1).

        Args:
            method: PUT, GET or HEAD.
            head: Request line and headers with the empty line at their end.
            body: What follows; it must not change in the meantime.

        Raises:
            HTTPError: No answer came.
            UnsupportedResponse: One came that can't be read here.
        """
        connection = self._take_idle()
        if connection is not None:
            try:
                return await self._exchange(connection, method, head, body)
            except ConnectionLost:
                if connection.is_answered:
                    raise
        return await self._exchange(await self._connect(), method, head, body)

    def release(self, connection: Connection) -> None:
        """Keep a connection for the next request, if it can have one; else close it."""
        if not connection.is_reusable or self._sockets.are_too_many:
            self._drop(connection)
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(KEEP_IDLE, self._close_idle)

    def close(self) -> None:
        """Close all connections."""
        self._idle.clear()
        for connection in [*self._all]:
            self._drop(connection)
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _exchange(self, connection: Connection, method: str, head: bytes, body: Sequence[Piece]) -> Answer:
        try:
            answer = await connection.exchange(method, head, body)
        except BaseException:
            self._drop(connection)
            raise
        return Answer(answer.status, answer.headers, connection, self)

    def _take_idle(self) -> Connection | None:
        """The connection that was used last: so those that are not needed any more grow old."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
            self._drop(connection)
        return None

    def _close_idle(self) -> None:
        self._sweeper = None
        oldest = self._loop.time() - KEEP_IDLE
        while self._idle and self._idle[0].idle_since <= oldest:
            self._close_one()
        if self._idle:
            self._sweeper = self._loop.call_at(self._idle[0].idle_since + KEEP_IDLE, self._close_idle)

    def _close_one(self) -> bool:
        """Close the connection that has been idle for longest, if there is one."""
        if not self._idle:
            return False
        self._drop(self._idle.popleft())
        return True

    def _drop(self, connection: Connection) -> None:
        connection.close()
        made = self._all.pop(connection, None)
        if made is not None:
            self._sockets.forget(made)

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._open(await self._resolve())
        except TimeoutError as error:
            raise ConnectTimeout(f"no connection in {self._connect_timeout} seconds") from error
        except ssl.SSLError as error:
            raise TLSFailed(str(error)) from error
        except OSError as error:
            self._addresses = ()
            raise ConnectFailed(str(error)) from error

    async def _open(self, addresses: Sequence[Any]) -> Connection:
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
        self._all[connection] = made
        return connection

    async def _resolve(self) -> Sequence[Any]:
        async with self._resolving:
            if not self._addresses or self._loop.time() - self._resolved_at > KEEP_ADDRESSES:
                self._addresses = await self._loop.getaddrinfo(
                    self._origin.host, self._origin.port, type=socket.SOCK_STREAM
                )
                self._resolved_at = self._loop.time()
            return self._addresses
