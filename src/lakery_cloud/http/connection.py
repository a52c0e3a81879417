"""HTTP/1.1 for the fast lane: one exchange at a time over one connection, read strictly. It never repeats a request.

It reads what object stores answer with: a body of a known size, or a small one in chunks. Whatever else comes is an
`UnsupportedResponse`, after which the connection is closed.
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

MAX_HEAD = 64 * 1024
"""Bytes of an answer's status line and headers; object stores send less than 10 KiB."""
MAX_CHUNKED = 1024 * 1024
"""Bytes of a body in chunks. Only errors come so; objects have a size."""
SLICE_SIZE = 1024 * 1024
"""Bytes that are given to the connection at a time."""
TLS_SLICE_SIZE = 128 * 1024
"""The same over TLS, which copies what it is given and encrypts it in one go."""
SMALL = 64 * 1024
"""Bytes of a body that travels in one piece with its head."""
READ_AHEAD = 1024 * 1024
"""Bytes of a body that may have arrived and not been taken yet."""

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
# RFC 9110, section 5.1 and 5.5; a line that begins with a space (RFC 9112, section 5.2) is no header.
_HEADERS = re.compile(r"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*)*")
# What is written is stricter than what is read: printable ASCII without spaces at its ends, or nothing.
_WRITTEN = re.compile(r"(?:[A-Za-z0-9_-]+: (?:[\x21-\x7e]+(?: +[\x21-\x7e]+)*)?\r\n)*")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_SIZE = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")

Piece = bytes | memoryview


class UnsupportedResponse(Exception):
    """An answer that this room does not read. What it says of it repeats nothing that a store may have made up."""


class HTTPError(Exception):
    """There was no answer, or not all of one."""


class ConnectionLost(HTTPError):
    """The connection ended."""


class ReadTimeout(HTTPError):
    """Nothing came in time."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer.

    Attributes:
        status: Its status.
        headers: Name in lower case -> value; several of one name are joined by a comma.
        keeps_alive: Whether the connection can be used again after it.
    """

    status: int
    headers: Mapping[str, str]
    keeps_alive: bool

    def body_size(self, method: str) -> int | None:
        """Bytes of the body that follows; None for one in chunks.

        Raises:
            UnsupportedResponse: It can't be told (RFC 9112, section 6.3).
        """
        if method == "HEAD" or self.status in (204, 304):
            return 0
        size, coding = self.headers.get("content-length"), self.headers.get("transfer-encoding")
        if coding is not None:
            if size is not None or coding.lower() != "chunked":
                raise UnsupportedResponse("a body with a transfer encoding that is not chunked alone")
            return None
        if size is None or not _SIZE.fullmatch(size):
            raise UnsupportedResponse("a body whose size can't be told")
        return int(size)


def write_head(method: str, target: str, headers: Mapping[str, str]) -> bytes | None:
    """The head of a request; None where a value can't stand in one as it is."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not _WRITTEN.fullmatch(lines) or lines.count("\n") != len(headers) or not _TARGET.fullmatch(target):
        return None
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("ascii")


def read_head(raw: bytes) -> Head:
    """The head of an answer, without the empty line at its end.

    Raises:
        UnsupportedResponse: It is malformed.
    """
    try:
        line, found, rest = raw.decode().partition("\r\n")
    except UnicodeDecodeError as error:
        raise UnsupportedResponse("a head that is not UTF-8") from error
    status = _STATUS_LINE.fullmatch(line)
    if status is None or not _HEADERS.fullmatch(found + rest):
        raise UnsupportedResponse("a malformed head")
    headers: dict[str, str] = {}
    for header in rest.split("\r\n") if rest else ():
        name, _, value = header.partition(":")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    keeps_alive = status[1] == "1" and "close" not in headers.get("connection", "").lower()
    return Head(int(status[2]), headers, keeps_alive)


def read_chunked(raw: bytes | bytearray) -> bytes | None:
    """The body that came in chunks (RFC 9112, section 7.1); None as long as more has to come.

    Raises:
        UnsupportedResponse: It is malformed, too long, has trailers, or something follows it.
    """
    if len(raw) > MAX_CHUNKED:
        raise UnsupportedResponse("a long body in chunks")
    body: list[bytes] = []
    place = 0
    while (end := raw.find(b"\r\n", place)) >= 0:
        size = _CHUNK_SIZE.fullmatch(raw[place:end])
        if size is None:
            raise UnsupportedResponse("a malformed chunk")
        start, stop = end + 2, end + 2 + int(size[1], 16)
        if len(raw) < stop + 2:
            return None
        if raw[stop : stop + 2] != b"\r\n":
            raise UnsupportedResponse("a malformed chunk")
        if start == stop:
            if len(raw) > stop + 2:
                raise UnsupportedResponse("something after the last chunk")
            return b"".join(body)
        body.append(bytes(raw[start:stop]))
        place = stop + 2
    return None


class Connection(asyncio.BufferedProtocol):
    """One connection, for one exchange after another.

    Args:
        buffer: Where what comes is put for a moment. All connections of an event loop may share it: nothing stays there.
        read_timeout: Seconds to wait for the next bytes of an answer. How long the other side may take to take a request
            is the socket's to know; see `Sockets`.
    """

    def __init__(self, buffer: memoryview, read_timeout: float) -> None:
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._read_timeout = read_timeout
        self._transport: asyncio.Transport | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_full = False
        self._is_paused = False
        self._method: str | None = None
        self._is_sending = False
        self._raw = b""
        self._head: Head | None = None
        self._chunked: tuple[Head, bytearray] | None = None
        self._chunks: deque[bytes] = deque()
        self._arrived = 0
        self._left = 0
        self.is_answered = False
        """Whether anything of an answer came."""
        self.idle_since = 0.0
        """When it became idle, by the loop's clock."""

    @property
    def is_reusable(self) -> bool:
        """Whether another exchange can begin: the last one ended as it should, and nobody closed the connection."""
        return (
            self._method is None
            and self._error is None
            and self._transport is not None
            and not self._transport.is_closing()
        )

    async def exchange(self, method: str, head: bytes, body: Sequence[Piece] = ()) -> Head:
        """Send a request, and wait for the head of its answer. Then `read` the body to its end, or `close`.

        Args:
            method: Of the request.
            head: Request line and headers with the empty line at their end.
            body: What follows. It must not change until the exchange has ended.

        Raises:
            HTTPError: No answer came.
            UnsupportedResponse: One came that can't be read here.
        """
        if not self.is_reusable:
            raise self._error or ConnectionLost("it was closed")
        assert self._transport is not None
        self._method, self._head, self.is_answered = method, None, False
        # Of an answer that is here in full some may never have been taken.
        self._chunks.clear()
        self._arrived = 0
        if sum(map(len, body)) <= SMALL:
            self._transport.write(b"".join((head, *body)))
        else:
            await self._send(head, body)
        while self._head is None:
            await self._next(self._read_timeout)
        return self._head

    async def read(self) -> bytes:
        """The next bytes of the answer's body as they come; none at its end.

        Raises:
            HTTPError: The body broke off, or nothing came in time.
        """
        while not self._chunks:
            if self._method is None or not self._left:
                return b""
            await self._next(self._read_timeout)
        chunk = self._chunks.popleft()
        self._arrived -= len(chunk)
        if self._is_paused and self._arrived < READ_AHEAD and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return chunk

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body.

        Raises:
            UnsupportedResponse: It has more bytes than the limit.
            HTTPError: As for `read`.
        """
        if self._left + self._arrived > limit:
            raise UnsupportedResponse(f"a body of more than {limit} bytes")
        chunks = []
        while chunk := await self.read():
            chunks.append(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        """Close the connection at once, whatever is under way."""
        self._fail(ConnectionLost("it was closed"))

    async def _send(self, head: bytes, body: Sequence[Piece]) -> None:
        """Send a large request, no faster than it is taken, and no further once an answer has come: it is refused then."""
        assert self._transport is not None
        self._is_sending = True
        step = TLS_SLICE_SIZE if self._transport.get_extra_info("sslcontext") else SLICE_SIZE
        self._transport.write(head)
        for piece in body:
            view = memoryview(piece)
            for start in range(0, len(view), step):
                while self._is_full and self._head is None:
                    await self._next(None)
                if self._head is not None:
                    return
                if self._error is not None:
                    raise self._error
                self._transport.write(view[start : start + step])
        self._is_sending = False

    async def _next(self, seconds: float | None) -> None:
        """Wait until something happens. Errors come last: what arrived before them is there."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        if seconds is not None:
            self._deadline = self._loop.time() + seconds
            if self._timer is None:
                self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)
        try:
            await self._waiter
        finally:
            self._waiter = self._deadline = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look_at_the_clock(self) -> None:
        # One timer for many waits: to set one for each would cost more than all the rest of a wait.
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)
        else:
            self._fail(ReadTimeout(f"nothing came for {self._read_timeout} seconds"))

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        if self._transport is not None:
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionLost(str(error or "the other side closed it")))

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._take(bytes(self._buffer[:nbytes]))
        except UnsupportedResponse as error:
            self._fail(error)

    def _take(self, data: bytes) -> None:
        if self._method is None:
            raise UnsupportedResponse("an answer that nobody asked for")
        self.is_answered = True
        if self._head is not None:
            self._take_body(data)
        elif self._chunked is not None:
            self._take_chunked(data)
        else:
            self._take_head(data)

    def _take_head(self, data: bytes) -> None:
        assert self._method is not None
        data, self._raw = self._raw + data if self._raw else data, b""
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head, data = read_head(data[:end]), data[end + 4 :]
            if head.status == 101:
                raise UnsupportedResponse("another protocol")
            if head.status < 200:  # interim (RFC 9110, section 15.2)
                continue
            size = head.body_size(self._method)
            if size is None:
                self._chunked = head, bytearray()
                self._take_chunked(data)
            else:
                self._begin(head, size, data)
            return
        if len(data) > MAX_HEAD:
            raise UnsupportedResponse("a head without end")
        self._raw = data
        self._put_off()

    def _take_chunked(self, data: bytes) -> None:
        assert self._chunked is not None
        head, raw = self._chunked
        raw += data
        body = read_chunked(raw)
        if body is None:
            self._put_off()
            return
        self._chunked = None
        self._begin(head, len(body), body)

    def _begin(self, head: Head, size: int, body: bytes) -> None:
        if len(body) > size:
            raise UnsupportedResponse("more bytes than the answer has")
        self._head, self._left = head, size
        self._take_body(body)
        self._wake()

    def _take_body(self, data: bytes) -> None:
        if len(data) > self._left:
            raise UnsupportedResponse("more bytes than the answer has")
        if data:
            self._chunks.append(data)
            self._arrived += len(data)
            self._left -= len(data)
            self._wake()
        if not self._left:
            self._end()
        elif self._arrived >= READ_AHEAD and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _put_off(self) -> None:
        if self._deadline is not None:
            self._deadline = self._loop.time() + self._read_timeout

    def _end(self) -> None:
        """The answer is here in full."""
        self._method = None
        assert self._head is not None
        if self._is_sending or not self._head.keeps_alive:
            self._fail(ConnectionLost("it can't be used again"))
