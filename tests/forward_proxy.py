"""A forward proxy as companies have them, for `HTTP_PROXY` and `HTTPS_PROXY`: it passes requests and tunnels on."""

import asyncio
from base64 import b64encode
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

LIMIT = 1024 * 1024


class ForwardProxy:
    """The proxy, on a free port of 127.0.0.1.

    Args:
        login: `user:password` that it demands.

    Attributes:
        url: Its URL, with the login if there is one.
        connections: Connections that clients have opened.
        hosts: `host:port` of each request and tunnel that it passed on.
        routes: `host:port` -> another one to pass its requests on to.
    """

    def __init__(self, *, login: str = "") -> None:
        self.url = ""
        self.connections = 0
        self.hosts: list[str] = []
        self.routes: dict[str, str] = {}
        self._login = login
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LIMIT)
        self.url = f"http://{self._login}{'@' if self._login else ''}{self.address}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        upstream = None
        try:
            first, _, headers = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            method, url, version = first.decode().split()
            if (
                self._login
                and f"basic {b64encode(self._login.encode()).decode()}".lower() not in headers.decode().lower()
            ):
                writer.write(b"HTTP/1.1 407 Login needed\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return
            parts = urlsplit(f"//{url}" if method == "CONNECT" else url)
            self.hosts.append(parts.netloc)
            host, _, port = self.routes.get(parts.netloc, parts.netloc).rpartition(":")
            upstream_reader, upstream = await asyncio.open_connection(host, int(port), limit=LIMIT)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                target = url.removeprefix(f"{parts.scheme}://{parts.netloc}")
                # One request for each connection, since the next one may have another target.
                headers = headers.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
                upstream.write(f"{method} {target} {version}\r\n".encode() + headers)
            sending = asyncio.create_task(_copy(reader, upstream))
            await _copy(upstream_reader, writer)
            sending.cancel()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has disconnected, or there is no such host
        finally:
            for each in (writer, upstream):
                if each is not None:
                    each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(LIMIT):
            writer.write(data)
            await writer.drain()
