"""The seam to HTTP: one request, one response, and the ways in which an exchange fails. It sends nothing itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

Piece = bytes | memoryview

MAX_BUFFERED = 1024 * 1024
"""Bytes of a response that is no content; errors and metadata have less than 10 KiB."""


MAX_INTERIM = 10
"""Interim responses before the response; object stores send at most one, `100 Continue`."""


WORKING = 10
"""How much longer than a silent store one may take that sends white space while it works (S3's API Reference,
"CopyObject")."""


class HTTPError(Exception):
    """No response arrived, or not all of it."""


class ConnectFailed(HTTPError):
    """No connection was established, so no request was sent."""


class ConnectTimeout(ConnectFailed):
    """Connecting took too long."""


class ProxyFailed(ConnectFailed):
    """The proxy can't be reached, or refuses to pass requests on. The message names it, without its credentials."""


class TLSFailed(ConnectFailed):
    """The server has no trusted certificate, or speaks no TLS."""


class ConnectionLost(HTTPError):
    """The connection ended."""


class ReadTimeout(HTTPError):
    """The response, or the rest of its body, did not arrive in time."""


class UnsupportedResponse(HTTPError):
    """A response that we refuse to read. The message never quotes data from the server."""


class InvalidRequest(ValueError):
    """A request with a character that HTTP can't carry. It was not sent."""


class Origin(NamedTuple):
    """Where requests go.

    Attributes:
        host: Name or address.
        port: TCP port.
        is_tls: Whether connections use TLS.
        netloc: Host, and port where the URL has one, as the header `Host` has them.
    """

    host: str
    port: int
    is_tls: bool
    netloc: str

    @classmethod
    def of(cls, url: str) -> "Origin":
        """The origin of a URL."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        netloc = parts.netloc.rpartition("@")[2]
        return cls(parts.hostname or "", parts.port or (443 if is_tls else 80), is_tls, netloc)

    @property
    def url(self) -> str:
        """The URL without a path."""
        return f"{'https' if self.is_tls else 'http'}://{self.netloc}"


@dataclass(slots=True)
class Request:
    """One request, which may be sent several times.

    Attributes:
        method: HTTP method.
        target: Path and query, percent-encoded as they are sent.
        headers: Header name -> value.
        body: Pieces of the body. They must not change until the response has arrived.
        before_last: Called right before the last bytes of the body are handed to the connection. From then on the server
            may have received all of them. If it raises, they are not sent.
        read_timeout: Seconds to wait for the head of the response, then for the next bytes of its body, where the server
            works for longer than usual; None for the client's own. A body that is no content may take `WORKING` times as
            long in all.
        is_repeatable: Whether it may be sent again although the server may still be at work, since no response has arrived.
        attempts: How often it was sent, also over a connection that turned out to be closed.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: Sequence[Piece] = ()
    before_last: Callable[[], None] | None = None
    read_timeout: float | None = None
    is_repeatable: bool = True
    attempts: int = 0

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.body))


class Response(Protocol):
    """A response whose body arrives while it is read. Its holder calls `close` at the end."""

    status: int
    headers: Mapping[str, str]  # by names in lower case

    def set_deadline(self) -> None:
        """Wait for the rest of the body no longer than the read time-out in all, instead of for each of its chunks.

        See `Request.read_timeout` for a server that works for longer.
        """

    async def read(self) -> bytes:
        """The next bytes of the body, as encoded by the server; empty at its end.

        Raises:
            HTTPError: The body broke off, or did not arrive in time.
        """

    def close(self) -> None:
        """Return the connection for reuse, or close it if the body was not read to its end."""


class BufferedResponse(NamedTuple):
    """A response with its whole body.

    Attributes:
        status: Status code.
        headers: Header name in lower case -> value.
        body: The body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


async def buffer(response: Response, limit: int = MAX_BUFFERED) -> BufferedResponse:
    """Read a response that is no content to its end, within the read time-out, and close it.

    Raises:
        UnsupportedResponse: The body has more bytes than the limit.
        HTTPError: As for `Response.read`.
    """
    try:
        response.set_deadline()
        chunks, size = [], 0
        while chunk := await response.read():
            size += len(chunk)
            if size > limit:
                raise UnsupportedResponse(f"a body of more than {limit} bytes")
            chunks.append(chunk)
        return BufferedResponse(response.status, response.headers, b"".join(chunks))
    finally:
        response.close()


class Exchange(Protocol):
    """Sends requests to one origin."""

    async def send(self, request: Request) -> Response:
        """Send a request and wait for the head of the response.

        Raises:
            HTTPError: No response arrived.
        """
