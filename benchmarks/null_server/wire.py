"""HTTP for null servers: a small parser of requests, which drops large bodies as they arrive, without copies.

A dialect makes the responses. The parser knows only what the SDKs send; it has no pipelining.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.null_server.counts import Counts
from benchmarks.null_server.messages import Answer, Request
from benchmarks.null_server.objects import KEPT
from benchmarks.payload import KiB, MiB, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_SIZE = MiB
HIGH_WATER = 4 * MiB
"""Bytes of a response that are buffered before more are made."""
STEP = 256 * KiB
"""Bytes that are read at a time under a limited rate."""
LATENESS = 0.02
"""Seconds that a busy server may be late under a limited rate and still catch up, since a link goes on meanwhile."""
BEGINNING = 4 * KiB
"""Bytes of each body that are kept."""
TICK = 0.001
"""Seconds; the timers of the loop have this resolution."""


class Dialect(Protocol):
    """The responses of an API.

    Attributes:
        counts: What clients have sent and received.
    """

    counts: Counts

    def answer(self, request: Request) -> Answer:
        """Return the response to a request. A body that is too large to keep is None."""


class Connection(asyncio.BufferedProtocol):
    """One connection.

    Args:
        dialect: What answers.
        latency: Seconds that each answer waits.
        rate: Bytes a second that a connection carries each way; 0 is as many as it can.
        copy_rate: Bytes a second that the server copies for one request; 0 takes no time.
    """

    # The loop reads into it and passes it on at once, so all connections share it.
    _buffer = memoryview(bytearray(READ_SIZE))

    def __init__(self, dialect: Dialect, *, latency: float = 0, rate: float = 0, copy_rate: float = 0) -> None:
        self._dialect = dialect
        self._latency = latency
        self._rate = rate
        self._copy_rate = copy_rate
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._is_tls = False
        self._head = b""
        self._request: Request | None = None
        self._left = 0
        self._chunk: str | None = None  # kind of the next line in a chunked body
        self._kept: bytearray | None = None
        self._beginning = b""
        self._sending: Iterator[memoryview] | None = None
        self._is_full = False
        self._waits = False
        self._arrived_at = 0.0
        self._sent_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._is_tls = transport.get_extra_info("ssl_object") is not None
        transport.set_write_buffer_limits(high=HIGH_WATER, low=MiB)

    def connection_lost(self, _: Exception | None) -> None:
        self._sending = None
        self._transport = None

    def get_buffer(self, _: int) -> memoryview:
        return self._buffer[: STEP if self._rate else READ_SIZE]

    def buffer_updated(self, count: int) -> None:
        start = 0
        while start < count:
            if self._request is None:
                start = self._read_head(start, count)
            elif self._left:
                start = self._read_body(start, count)
            else:
                start = self._read_chunk_line(start, count)
            if self._request is not None and not self._left and self._chunk is None:
                self._finish()
        if self._rate:
            self._pace(count)

    def _read_head(self, start: int, count: int) -> int:
        """Read a request up to the end of its head, and return the body's position in the buffer."""
        head, start = self._read_until(b"\r\n\r\n", start, count)
        if head is None:
            return start
        line, _, _ = head.partition(b"\r\n")
        method, target, _ = line.decode("latin-1").split(" ", 2)
        path, _, query = target.partition("?")
        request = Request(method, path, query, head, head.lower(), self._is_tls)
        self._chunk = "size" if b"\r\ntransfer-encoding: chunked" in request.lower else None
        request.size = self._left = int(request.header("content-length") or 0)
        self._kept = bytearray() if request.size <= KEPT else None
        self._beginning = b""
        self._request = request
        if self._rate:
            self._arrived_at = max(self._arrived_at, self._loop.time())
        if (self._left or self._chunk) and b"\r\nexpect: 100-continue" in request.lower:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return start

    def _read_chunk_line(self, start: int, count: int) -> int:
        """Read a line of a chunked body (RFC 9112, 7.1), and return the position after it."""
        assert self._request is not None
        line, start = self._read_until(b"\r\n", start, count)
        if line is None:
            return start
        if self._chunk == "size":
            self._left = int(line.partition(b";")[0], 16)
            self._request.size += self._left
            self._chunk = "end" if self._left else "trailer"
        elif self._chunk == "end":  # after the data of a chunk
            self._chunk = "size"
        elif not line:  # the end of the trailer
            self._chunk = None
        return start

    def _read_until(self, mark: bytes, start: int, count: int) -> tuple[bytes | None, int]:
        """Return the bytes before a mark if it has arrived, and the position after it."""
        before = len(self._head)
        self._head += bytes(self._buffer[start:count])
        end = self._head.find(mark)
        if end < 0:
            return None, count
        found, self._head = self._head[:end], b""
        return found, start + end + len(mark) - before

    def _read_body(self, start: int, count: int) -> int:
        """Read a piece of the body, and return the position after it."""
        taken = min(self._left, count - start)
        if self._kept is not None:
            self._kept += self._buffer[start : start + taken]
            if len(self._kept) > KEPT:  # a chunked body has no known size
                self._kept = None
        if (missing := BEGINNING - len(self._beginning)) > 0:
            self._beginning += self._buffer[start : start + min(taken, missing)]
        self._left -= taken
        return start + taken

    def _finish(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        request.body = None if self._kept is None else bytes(self._kept)
        request.beginning = self._beginning
        answer = self._dialect.answer(request)
        answer.is_head = request.method == "HEAD"
        self._dialect.counts.add(request, answer)
        delay = self._latency + (answer.copied / self._copy_rate if self._copy_rate else 0)
        if delay:
            self._loop.call_later(delay, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        if self._transport is None:
            return
        self._transport.write(answer.encoded())
        if answer.stop and not answer.is_head:
            self._sending, self._sent_at = pattern(answer.start, answer.stop), self._loop.time()
            self._send_more()

    def _send_more(self) -> None:
        while self._sending is not None and not self._is_full and not self._waits:
            piece = next(self._sending, None)
            if piece is None:
                self._sending = None
                return
            self._transport.write(piece)
            if self._rate:
                self._waits = True
                self._sent_at = max(self._sent_at, self._loop.time() - LATENESS) + len(piece) / self._rate
                self._loop.call_at(self._sent_at, self._send_on)

    def _send_on(self) -> None:
        self._waits = False
        self._send_more()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._send_more()

    def _pace(self, count: int) -> None:
        """Pause reading for the time that the received bytes take at the limited rate."""
        now = self._loop.time()
        self._arrived_at = max(self._arrived_at, now - LATENESS) + count / self._rate
        if self._arrived_at - now > TICK and self._transport is not None:
            self._transport.pause_reading()
            self._loop.call_at(self._arrived_at, self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()
