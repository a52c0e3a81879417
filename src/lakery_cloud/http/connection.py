"""HTTP/1.1 (RFC 9112) over one connection, one exchange at a time, parsed strictly. It never repeats a request.

It reads the responses of object stores: a body of a known size, or a small one in chunks. Anything else is an
`UnsupportedResponse`, after which the connection is closed.
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, cast

from lakery_cloud.http.exchange import (
    MAX_INTERIM,
    WORKING,
    ConnectionLost,
    HTTPError,
    InvalidRequest,
    ReadTimeout,
    Request,
    UnsupportedResponse,
)
from lakery_cloud.http.headers import SIZE

MAX_HEAD = 64 * 1024
"""Bytes of a status line and headers, with the empty line; object stores send less than 10 KiB."""
MAX_CHUNKED = 64 * 1024 * 1024
"""Bytes of a chunked body as it is sent. Stores send errors and listings in chunks; content has a size."""
MAX_CHUNK_LINE = 256
"""Bytes of the line before a chunk, with its extensions."""
MAX_CHUNK_LINES = 1024 * 1024
"""Bytes of all those lines, which would take seconds to read in a body of very small chunks."""
SLICE_SIZE = 1024 * 1024
"""Bytes written to the connection at a time."""
TLS_SLICE_SIZE = 128 * 1024
"""The same over TLS, which copies a slice and encrypts it in one step."""
SMALL = 64 * 1024
"""Bytes of a body that is sent in one piece with its head."""
READ_AHEAD = 1024 * 1024
"""Bytes of a body that may wait here for the reader."""

# Text has no control characters but tabs (RFC 9110, section 5.5).
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\0-\x08\x0a-\x1f\x7f]*)?")
# RFC 9110, section 5.1; a line that begins with a space (RFC 9112, section 5.2) is no header. Possessive, for speed.
_HEADERS = re.compile(r"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\0-\x08\x0a-\x1f\x7f]*+)*+")
_PRINTABLE = bytes(range(0x20, 0x7F))
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[^\0-\x08\x0a-\x1f\x7f]*|[ \t]*)")


class Head(NamedTuple):
    """The head of a response.

    Attributes:
        status: Status code.
        headers: Header name in lower case -> value; repeated headers are joined by commas.
        keeps_alive: Whether the server keeps the connection open.
    """

    status: int
    headers: Mapping[str, str]
    keeps_alive: bool

    def body_size(self, method: str) -> int | None:
        """Bytes of the body; None if it is chunked.

        Raises:
            UnsupportedResponse: The headers don't tell (RFC 9112, section 6.3).
        """
        if method == "HEAD" or self.status in (204, 304):
            return 0
        if "transfer-encoding" in self.headers:
            return None
        if "content-length" not in self.headers:
            raise UnsupportedResponse("a body of unknown size")
        return int(self.headers["content-length"])


def write_head(request: Request) -> bytes:
    """The head of a request, with its `Content-Length`.

    Raises:
        InvalidRequest: The target or a header has a character that a request can't carry.
    """
    headers = request.headers
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if request.method in ("PUT", "POST", "PATCH") and "content-length" not in headers:
        lines.append(f"content-length: {request.size}")
    head = "\r\n".join([*lines, "\r\n"])
    # In one pass: beside printable characters, it has the line ends and nothing else.
    if not head.isascii() or (raw := head.encode()).translate(None, _PRINTABLE) != b"\r\n" * (len(lines) + 1):
        raise InvalidRequest("a header or the target of the request has a character that HTTP can't carry")
    if " " in request.target:
        raise InvalidRequest("the target of the request has a character that HTTP can't carry")
    return raw


def read_head(raw: bytes) -> Head:
    """The head of a response, without the empty line at its end.

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
    lines = [header.partition(":") for header in rest.split("\r\n")] if rest else []
    headers = {name.lower(): value.strip(" \t") for name, _, value in lines}
    if len(headers) < len(lines):
        headers = _joined(lines)
    size, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if size is not None and not SIZE.fullmatch(size):
        raise UnsupportedResponse("a malformed Content-Length")
    if coding is not None and (size is not None or coding.lower() != "chunked"):
        raise UnsupportedResponse("a body with another transfer encoding than chunked")
    keeps_alive = status[1] == "1" and "close" not in headers.get("connection", "").lower()
    return Head(int(status[2]), headers, keeps_alive)


def _joined(lines: list[tuple[str, str, str]]) -> dict[str, str]:
    """Headers of which some are repeated."""
    headers: dict[str, str] = {}
    for name, _, text in lines:
        known, value = headers.get(name.lower()), text.strip(" \t")
        headers[name.lower()] = value if known is None else f"{known}, {value}"
    return headers


class ChunkedBody:
    """Decodes a chunked body (RFC 9112, section 7.1) as it arrives.

    Attributes:
        is_complete: Whether the last chunk has arrived.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._line = b""  # the beginning of a chunk's line
        self._left = 0  # bytes of the current chunk, with the line end behind it
        self._is_last = False
        self._size = self._lines_size = 0

    def decode(self, data: bytes) -> bytes:
        """The bytes of the body in the next bytes from the connection.

        Raises:
            UnsupportedResponse: They are malformed, too many, trailers, or follow the last chunk.
        """
        body: list[bytes] = []
        self._size += len(data)
        if self._size > MAX_CHUNKED:
            raise UnsupportedResponse("a long chunked body")
        data, self._line = self._line + data, b""
        place = 0
        while place < len(data):
            if self.is_complete:
                raise UnsupportedResponse("bytes after the last chunk")
            if self._left:
                place = self._decode_chunk(data, place, body)
                continue
            end = data.find(b"\r\n", place, place + MAX_CHUNK_LINE)
            if end < 0:
                if len(data) - place >= MAX_CHUNK_LINE:
                    raise UnsupportedResponse("a malformed chunk")
                self._line = data[place:]
                break
            line = _CHUNK_LINE.fullmatch(data, place, end)
            if line is None:
                raise UnsupportedResponse("a malformed chunk")
            size = int(line[1], 16)
            self._lines_size += end + 4 - place
            if self._lines_size > MAX_CHUNK_LINES:
                raise UnsupportedResponse("a body in too many chunks")
            place, self._left, self._is_last = end + 2, size + 2, size == 0
        return b"".join(body)

    def _decode_chunk(self, data: bytes, place: int, body: list[bytes]) -> int:
        """Decode bytes of the current chunk, or the line end behind it; return the position after them."""
        if self._left > 2:
            taken = data[place : place + self._left - 2]
            body.append(taken)
        else:
            taken = data[place : place + self._left]
            if not b"\r\n"[2 - self._left :].startswith(taken):
                raise UnsupportedResponse("a malformed chunk")
        self._left -= len(taken)
        self.is_complete = self._is_last and not self._left
        return place + len(taken)


class Connection(asyncio.BufferedProtocol):
    """One connection, for one exchange after another.

    Args:
        buffer: Receives bytes for a moment. All connections of an event loop may share it, since nothing stays there.
        read_timeout: Seconds to wait for the head of a response, then for the next bytes of its body; see `set_deadline`.
            The socket limits how long the server may take to receive a request; see `Sockets`.

    Attributes:
        is_answered: Whether any bytes of the current response have arrived.
        idle_since: When the connection became idle, by the event loop's clock.
    """

    def __init__(self, buffer: memoryview, read_timeout: float) -> None:
        self.is_answered = False
        self.idle_since = 0.0
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._read_timeout = self._patience = self._body_patience = read_timeout
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
        self._interim = 0
        self._head: Head | None = None
        self._chunked: ChunkedBody | None = None
        self._chunks: deque[bytes] = deque()
        self._arrived = 0
        self._left = 0
        self._body_deadline: float | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether another exchange can begin: the last one is complete and the connection is open."""
        return (
            self._method is None
            and self._error is None
            and self._transport is not None
            and not self._transport.is_closing()
        )

    async def exchange(self, request: Request) -> Head:
        """Send a request and wait for the head of the response. Then `read` the body to its end, or `close`.

        Raises:
            HTTPError: No response arrived.
            InvalidRequest: HTTP can't carry the request.
        """
        if self._error is not None or self._method is not None:
            raise self._error or ConnectionLost("the last exchange is not complete")
        assert self._transport is not None
        head = write_head(request)
        self._method, self._head, self._chunked, self.is_answered = request.method, None, None, False
        # The reader of the last response may have left some of it.
        self._chunks.clear()
        self._arrived = self._interim = 0
        self._body_deadline = None
        self._patience = self._body_patience = request.read_timeout or self._read_timeout
        if request.read_timeout is not None:
            self._body_patience *= WORKING
        if request.size <= SMALL:
            if request.before_last is not None:
                request.before_last()
            self._transport.write(b"".join((head, *request.body)))
        else:
            await self._send(head, request)
        deadline = self._loop.time() + self._patience
        while self._head is None:
            await self._next(deadline)
        return self._head

    def set_deadline(self) -> None:
        """Limit the time for the rest of the body to the read time-out. A chunked body has this deadline anyway."""
        if self._body_deadline is None:
            self._body_deadline = self._loop.time() + self._body_patience

    async def read(self) -> bytes:
        """The next bytes of the body as they arrive; empty at its end.

        Raises:
            HTTPError: The body broke off, or did not arrive in time.
        """
        while not self._chunks:
            if self._method is None:
                return b""
            deadline = self._loop.time() + self._patience
            await self._next(min(self._body_deadline or deadline, deadline))
        chunk = self._chunks.popleft()
        self._arrived -= len(chunk)
        if self._is_paused and self._arrived < READ_AHEAD and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return chunk

    def close(self) -> None:
        """Close the connection at once, whatever is in progress."""
        self._fail(ConnectionLost("the connection was closed"))

    async def _send(self, head: bytes, request: Request) -> None:
        """Send a large request at the server's pace. A response that arrives before the end is a refusal: stop then."""
        assert self._transport is not None
        self._is_sending = True
        step = TLS_SLICE_SIZE if self._transport.get_extra_info("sslcontext") else SLICE_SIZE
        self._transport.write(head)
        left = request.size
        for piece in request.body:
            view = memoryview(piece)
            for start in range(0, len(view), step):
                while self._is_full and self._head is None:
                    await self._next(None)
                if self._head is not None:
                    return
                if self._error is not None:
                    raise self._error
                taken = view[start : start + step]
                left -= len(taken)
                if not left and request.before_last is not None:
                    request.before_last()
                self._transport.write(taken)
        while self._is_full and self._head is None:
            await self._next(None)
        self._is_sending = self._head is not None

    async def _next(self, deadline: float | None) -> None:
        """Wait for the next event. Errors come last: bytes that arrived before them can be read."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        if deadline is not None:
            self._deadline = deadline
            if self._timer is not None and deadline < self._timer.when():
                self._timer.cancel()
                self._timer = None
            if self._timer is None:
                self._timer = self._loop.call_at(deadline, self._check_deadline)
        try:
            await self._waiter
        finally:
            self._waiter = self._deadline = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_deadline(self) -> None:
        # One timer for many waits: a timer for each would cost more than the rest of the wait.
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)
        else:
            self._fail(ReadTimeout(f"no response, or not all of it, in {self._patience:g} seconds"))

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        if self._transport is not None:
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionLost(str(error or "the server closed the connection")))

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
        except HTTPError as error:
            self._fail(error)

    def _take(self, data: bytes) -> None:
        if self._method is None:
            raise UnsupportedResponse("a response without a request")
        self.is_answered = True
        if self._head is None:
            self._take_head(data)
        else:
            self._take_body(data)
            self._end_if_complete(self._head)

    def _take_head(self, data: bytes) -> None:
        assert self._method is not None
        searched = max(0, len(self._raw) - 3)
        data, self._raw = self._raw + data if self._raw else data, b""
        while (end := data.find(b"\r\n\r\n", searched, MAX_HEAD)) >= 0:
            head, data, searched = read_head(data[:end]), data[end + 4 :], 0
            if head.status == 101:
                raise UnsupportedResponse("a switch to another protocol")
            if head.status < 200:  # interim (RFC 9110, section 15.2)
                self._interim += 1
                if self._interim > MAX_INTERIM:
                    raise UnsupportedResponse("too many interim responses")
                continue
            if self._is_sending and head.status < 300:
                raise ConnectionLost("the server confirmed a request before its end was sent")
            size = head.body_size(self._method)
            if size is None:
                self._chunked = ChunkedBody()
                self.set_deadline()
            else:
                self._left = size
            self._take_body(data)
            self._head = head
            self._wake()
            self._end_if_complete(head)
            return
        if len(data) >= MAX_HEAD:
            raise UnsupportedResponse("a head without an end")
        self._raw = data

    def _take_body(self, data: bytes) -> None:
        if self._chunked is not None:
            data = self._chunked.decode(data)
        else:
            if len(data) > self._left:
                raise UnsupportedResponse("more bytes than the response has")
            self._left -= len(data)
        if data:
            self._chunks.append(data)
            self._arrived += len(data)
            self._wake()

    def _end_if_complete(self, head: Head) -> None:
        is_complete = self._chunked.is_complete if self._chunked is not None else not self._left
        if is_complete:
            self._method = None
            self._wake()
            if self._is_sending or not head.keeps_alive:
                self._fail(ConnectionLost("the connection can't be used again"))
        elif self._arrived >= READ_AHEAD and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
