"""Requests and responses of null servers."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Request:
    """One request; header names are in lower case. `beginning` has the first bytes also of a body that is not kept."""

    method: str
    path: str
    query: str
    head: bytes
    lower: bytes
    is_tls: bool = False
    size: int = 0
    body: bytes | None = b""
    beginning: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the value of a header."""
        start = self.lower.find(b"\r\n" + name.encode() + b":")
        if start < 0:
            return None
        start += len(name) + 3
        end = self.head.find(b"\r\n", start)
        return self.head[start : end if end >= 0 else None].decode("latin-1").strip()

    def headers(self) -> Iterator[tuple[str, str]]:
        """Return all headers."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()


@dataclass(slots=True)
class Answer:
    """A response. Its body is `body`, or the bytes `start` to `stop` of the repeated block.

    `copied` are the bytes that the server copies for it, which takes time.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    start: int = 0
    stop: int = 0
    copied: int = 0
    is_head: bool = False

    def encoded(self) -> bytes:
        """Return the head, and `body` if it is the body."""
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Whatever')}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if "Content-Length" not in self.headers and self.status != 204:
            lines.append(f"Content-Length: {len(self.body) or self.stop - self.start}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return head if self.is_head else head + self.body


REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    308: "Resume Incomplete",
    400: "Bad Request",
    404: "Not Found",
    409: "Conflict",
    411: "Length Required",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    499: "Client Closed Request",
    501: "Not Implemented",
}
