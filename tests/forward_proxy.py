"""A forward proxy as companies have them, for `HTTP_PROXY`: it passes plain HTTP on and counts connections."""

import asyncio
from typing import Self
from urllib.parse import urlsplit

LIMIT = 1024 * 1024


class ForwardProxy:
    """The proxy, on a free port of 127.0.0.1.

    Attributes:
        url: Its URL.
        connections: Connections that clients have opened.
    """

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LIMIT)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        upstream = None
        try:
            head = await reader.readuntil(b"\r\n")
            method, url, version = head.decode().split()
            parts = urlsplit(url)
            upstream_reader, upstream = await asyncio.open_connection(parts.hostname, parts.port, limit=LIMIT)
            target = url.removeprefix(f"{parts.scheme}://{parts.netloc}")
            # One request for each connection, since the next one may have another target.
            headers = (await reader.readuntil(b"\r\n\r\n")).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            upstream.write(f"{method} {target} {version}\r\n".encode() + headers)
            sending = asyncio.create_task(_copy(reader, upstream))
            await _copy(upstream_reader, writer)
            sending.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has disconnected
        finally:
            for each in (writer, upstream):
                if each is not None:
                    each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(LIMIT):
        writer.write(data)
        await writer.drain()
