"""Servers that repeat what they got, what is asked of them, and the log that must not show it."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

from lakery_cloud import ContentRecord, MemoryStorage, ObjectStorage, StorageRegistry
from lakery_cloud.maintenance import apply_lifecycle, copy, diagnose, sweep, verify
from lakery_cloud.testing import content, digest_of
from tests.helpers import write, write_stream


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Start a server that answers the head of each request with any bytes, and closes; yield its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(answer(await reader.readuntil(b"\r\n\r\n")))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def echo(head: bytes) -> bytes:
    """Return a 403 whose message repeats the first line of the request, which may hold a signature."""
    line = head.partition(b"\r\n")[0].decode().replace("&", "&amp;")
    body = f'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no: {line}</Message></Error>'.encode()
    return b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def echo_of_parts(head: bytes) -> bytes:
    """The same, but uploads begin."""
    begun = beginning_of_an_upload(head)
    return echo(head) if begun is None else begun


def beginning_of_an_upload(head: bytes) -> bytes | None:
    """The response to a request that begins an upload; None for every other request."""
    line, _, headers = head.decode().partition("\r\n")
    if line.startswith("POST ") and "uploadType=resumable" in line:
        host = re.search(r"^host: (.*?)\r$", headers, flags=re.MULTILINE | re.IGNORECASE)
        assert host is not None
        session = f"http://{host[1]}/upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id=session"
        return f"HTTP/1.1 200 OK\r\nLocation: {session}\r\nContent-Length: 0\r\n\r\n".encode()
    if line.startswith("POST ") and re.search(r"[?&]uploads\b", line):
        body = b"<InitiateMultipartUploadResult><UploadId>upload</UploadId></InitiateMultipartUploadResult>"
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    return None


def echo_of_headers(status: int, write: Callable[[str], str], kind: str) -> Callable[[bytes], bytes]:
    """Return what answers with the head of the request: in the body, in headers and beside the status."""

    def answer(head: bytes) -> bytes:
        lines = head.decode().strip().split("\r\n")
        body = write("\n".join(lines)).encode()
        headers = "".join(f"x-seen-{number}: {line}\r\n" for number, line in enumerate(lines))
        reason = " ".join(lines)[:4000]
        return (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
            + body
        )

    return answer


def in_xml(text: str) -> str:
    seen = "".join(f"<{name}>{escape(text)}</{name}>" for name in ("Code", "Message", "RequestId", "StringToSign"))
    return f'<?xml version="1.0"?><Error>{seen}</Error>'


def in_json(text: str) -> str:
    headers = dict(line.split(": ", 1) for line in text.split("\n")[1:])
    reason = {"reason": text, "message": json.dumps(headers)}
    return json.dumps(
        {"error": {"code": 400, "message": f"{text} {headers} {json.dumps(headers)}", "errors": [reason]}}
    )


async def operations(storage: ObjectStorage[Any], *, upkeep: bool = False) -> AsyncIterator[tuple[str, Awaitable[Any]]]:
    """Each method that sends requests; with `upkeep` also what works on a whole storage."""
    data = content(storage.settings.part_size + 1)
    digest = digest_of(data)
    storage_data = storage.storage_data_of(digest)
    yield "write_data", write(storage, data)
    yield "write_data_stream", write_stream(storage, data)
    yield "read_data", storage.read_data(storage_data)
    yield "stat", storage.stat(storage_data)
    yield "delete", storage.delete(storage_data)
    yield "find", storage.find(digest)
    yield "list", anext(storage.list())
    yield "read_data_stream", _all_of(storage.read_data_stream(storage_data))
    if not upkeep:
        return
    yield "exists", storage.exists(storage_data)
    yield "digest_of", storage.digest_of(digest["content_hash"])
    yield "presign", storage.presign(storage_data)
    yield "sweep", _all_of(sweep(storage))
    yield "lifecycle", apply_lifecycle(storage)
    yield "verify", _all_of(verify(storage))
    yield "diagnose", _all_of(diagnose(storage))
    memory = MemoryStorage()
    await write(memory, data)
    yield "copy to it", _all_of(copy(StorageRegistry([memory]), storage))
    record = ContentRecord.of(storage, digest, storage_data)
    yield "copy from it", _all_of(copy(StorageRegistry([storage]), MemoryStorage(), records=[record]))


async def _all_of(results: AsyncIterable[Any]) -> list[Any]:
    return [result async for result in results]


class Logs(logging.Handler):
    """The log lines of our loggers at any level, with tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args!r}")


_ENCODINGS: tuple[Callable[[str], str], ...] = (
    str,
    quote,
    quote_plus,
    escape,
    json.dumps,
    repr,
    lambda text: quote(quote(text)),
)
_HEADERS = (
    *("x-amz-request-id", "x-amz-id-2", "x-ms-error-code", "x-ms-request-id", "x-goog-hash", "etag", "content-type"),
    *("www-authenticate", "proxy-authenticate", "location", "retry-after", "content-range", "x-amz-bucket-region"),
    *("x-amz-checksum-sha256", "x-ms-meta-content_hash", "server", "date", "x-anything"),
)
_STATUSES = (200, 206, 301, 307, 308, 400, 401, 403, 404, 405, 407, 409, 412, 416, 429, 500, 501, 503)
_BODIES: dict[str, tuple[str, Callable[[str], str]]] = {
    "xml": ("application/xml", in_xml),
    "json": (
        "application/json",
        lambda text: json.dumps({"error": {"code": 400, "message": text, "errors": [{"reason": text}]}}),
    ),
    "json of another shape": (
        "application/json",
        lambda text: json.dumps({"error": text, "error_description": [text, {text: text}]}),
    ),
    "html": ("text/html", lambda text: f"<html><head><title>{text}</title></head><body>{escape(text)}</body></html>"),
    "text": ("text/plain", str),
    "malformed xml": ("application/xml", lambda text: f"<Error><Code>{text}</Message>{text}"),
    "malformed json": ("application/json", lambda text: f'{{"error": "{text}'),
}


def redirect_with_echo(head: bytes) -> bytes:
    """A redirect with the head of the request in a header."""
    seen = head.strip().replace(b"\r\n", b" ")
    return b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nX-Seen: %b\r\nContent-Length: 0\r\n\r\n" % seen


@st.composite
def echoes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What answers with parts of the head of the request, in some encoding, in some places; uploads may begin."""
    status, encode = draw(st.sampled_from(_STATUSES)), draw(st.sampled_from(_ENCODINGS))
    kind, write_body = _BODIES[draw(st.sampled_from(sorted(_BODIES)))]
    places = draw(st.lists(st.sampled_from(_HEADERS), max_size=4, unique=True))
    in_reason, in_body, values_alone = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    begins = draw(st.booleans())

    def answer(head: bytes) -> bytes:
        if begins and (begun := beginning_of_an_upload(head)) is not None:
            return begun
        lines = head.decode().strip().split("\r\n")
        if values_alone:
            lines = [line.partition(": ")[2] or line for line in lines]
        seen = [encode(line).replace("\n", " ") for line in lines]
        body = write_body("\n".join(seen)).encode() if in_body else b""
        reason = " ".join(seen)[:4000] if in_reason else "Refused"
        headers = {"content-type": kind, **{name: " ".join(seen)[:4000] for name in places}}
        written = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\n{written}\r\n".encode() + body

    return answer
