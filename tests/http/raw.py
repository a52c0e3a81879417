"""Servers and connections made of raw bytes, for tests of the HTTP room."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lakery_cloud.http.connection import Connection
from lakery_cloud.http.exchange import Exchange, Origin, Piece, Request
from lakery_cloud.http.pool import ConnectionPool, Sockets
from tests.helpers import PATIENCE

LARGE = 8 * 1024**2
"""More bytes than the buffers between client and server have room for."""
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """A server on a free port of 127.0.0.1.

    Attributes:
        url: Its URL.
        connections: Connections that clients have opened.
        heads: The heads of the requests that `responding` has read.
    """

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.heads: list[bytes] = []

    @property
    def origin(self) -> Origin:
        return Origin.of(self.url)


@asynccontextmanager
async def running(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """A server that serves each connection with a function."""
    server = RawServer()
    serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        assert task is not None
        serving[task] = writer
        task.add_done_callback(serving.pop)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has disconnected
        finally:
            writer.close()

    started = await asyncio.start_server(connected, "127.0.0.1", 0, limit=LARGE, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{started.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        started.close()
        for writer in serving.values():
            writer.transport.abort()  # else a socket is closed when it is collected, in another test
        await asyncio.sleep(0)


def responding(*responses: bytes, at_end: Awaitable[object] | None = None) -> Serve:
    """Responds to one request after another without a body, and then closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for response in responses:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            await writer.drain()
        if at_end is not None:
            await at_end

    return serve


def trickling(response: Iterable[bytes], *, seconds: float = 0.01) -> Serve:
    """Responds to one request slowly, one piece at a time; the connection stays open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in response:
            writer.write(piece)
            await asyncio.sleep(seconds)
            if writer.is_closing():
                return
        await reader.read()

    return serve


def in_bytes(data: bytes) -> Iterable[bytes]:
    """One byte after another."""
    return (data[place : place + 1] for place in range(len(data)))


def pool_of(
    origin: Origin,
    *,
    read_timeout: float = PATIENCE,
    connect_timeout: float = PATIENCE,
    tls: ssl.SSLContext | None = None,
) -> ConnectionPool:
    sockets = Sockets(limit=10, seconds=PATIENCE)
    return ConnectionPool(origin, tls=tls, sockets=sockets, connect_timeout=connect_timeout, read_timeout=read_timeout)


@asynccontextmanager
async def pooled(serve: Serve, *, read_timeout: float = PATIENCE) -> AsyncIterator[tuple[ConnectionPool, RawServer]]:
    """A pool of connections to a server."""
    async with running(serve) as server:
        pool = pool_of(server.origin, read_timeout=read_timeout)
        try:
            yield pool, server
        finally:
            pool.close()


def request_of(method: str = "GET", *body: Piece) -> Request:
    return Request(method, "/key", {"host": "127.0.0.1"}, body)


async def fetch(exchange: Exchange, method: str = "GET", *body: Piece) -> tuple[int, bytes]:
    """Send a request, and read its response to the end."""
    response = await exchange.send(request_of(method, *body))
    try:
        chunks = []
        while chunk := await response.read():
            chunks.append(chunk)
        return response.status, b"".join(chunks)
    finally:
        response.close()


class RecordingTransport(asyncio.Transport):
    """Keeps what a connection sends, in place of a socket.

    Attributes:
        sent: The bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self._is_closing

    def abort(self) -> None:
        self._is_closing = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@dataclass
class Wire:
    """A connection, and the transport below it."""

    connection: Connection
    transport: RecordingTransport

    def receive(self, *segments: bytes) -> None:
        """Let segments arrive, each in one piece, until the connection closes."""
        for segment in segments:
            if segment and not self.transport.is_closing():
                buffer = self.connection.get_buffer(-1)
                buffer[: len(segment)] = segment
                self.connection.buffer_updated(len(segment))

    def end(self) -> None:
        """Let the server close the connection."""
        self.connection.connection_lost(None)


_BUFFER = memoryview(bytearray(LARGE))


def open_wire(*, read_timeout: float = PATIENCE) -> Wire:
    """A connection without a socket. Nothing stays in its buffer, so that all share one."""
    wire = Wire(Connection(_BUFFER, read_timeout), RecordingTransport())
    wire.connection.connection_made(wire.transport)
    return wire


@dataclass(frozen=True)
class Outcome:
    """A response that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_reusable: bool


async def read_over_wire(segments: Iterable[bytes], method: str = "GET") -> Outcome:
    """Send a request, and read the response that arrives in segments before the server closes the connection.

    Raises:
        HTTPError: As `Connection` does.
    """
    wire = open_wire()
    exchange = asyncio.ensure_future(wire.connection.exchange(request_of(method)))
    await asyncio.sleep(0)
    wire.receive(*segments)
    is_reusable = wire.connection.is_reusable
    wire.end()
    head = await exchange
    chunks = []
    while chunk := await wire.connection.read():
        chunks.append(chunk)
    return Outcome(head.status, dict(head.headers), b"".join(chunks), is_reusable)


class Straying:
    """A blocking server in a thread, whose first connection sends bytes between two requests: see `straying`.

    Attributes:
        origin: Where it listens.
        connections: Connections that clients have opened.
    """

    def __init__(self, stray: bytes | None, tls: ssl.SSLContext | None) -> None:
        self.connections = 0
        self._stray = stray
        self._tls = tls
        self._now, self._sent = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.origin = Origin.of(f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}")

    def send_stray_bytes(self) -> None:
        """Send the bytes now, and block the event loop until they are on their way."""
        self._now.set()
        assert self._sent.wait(10)
        time.sleep(0.05)

    def serve(self) -> None:
        try:
            while True:
                accepted, _ = self._listener.accept()
                self.connections += 1
                accepted.settimeout(PATIENCE)
                with suppress(OSError), accepted:
                    if self._tls is not None:
                        accepted = self._tls.wrap_socket(accepted, server_side=True)
                    self._serve_one(accepted)
        except OSError:
            pass  # the listener is closed

    def close(self) -> None:
        self._now.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve_one(self, client: socket.socket) -> None:
        with client:
            if self.connections == 1:
                _receive_request(client)
                client.sendall(EMPTY)
                self._now.wait()
                if self._stray:
                    client.sendall(self._stray)
                else:
                    client.shutdown(socket.SHUT_WR)
                self._sent.set()
            while _receive_request(client):
                client.sendall(REFUSAL)


def _receive_request(client: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        data = client.recv(65536)
        if not data:
            return b""
        received += data
    return received


@contextmanager
def straying(stray: bytes | None, *, tls: ssl.SSLContext | None = None) -> Iterator[Straying]:
    """A server that responds to one request, sends bytes that answer none, and refuses all other requests.

    Args:
        stray: The bytes; None to end the connection instead.
        tls: Its certificate.
    """
    server = Straying(stray, tls)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(20)
        assert not thread.is_alive()
