"""A tiny server for tests of proxies: it records requests, and a test chooses the responses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web
from multidict import CIMultiDictProxy
from yarl import URL


@dataclass
class Received:
    """One request that came to the server; its body is None if the client broke off."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None


@dataclass
class Server:
    """The server.

    Attributes:
        url: Its URL.
        received: The requests.
        answer: Makes the response; by default 200 with `body`.
        body: Body of the default response.
        counts_only: Whether bodies are counted in `size`, not kept.
        size: How many bytes were counted.
    """

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    body: bytes = b"the answer"
    counts_only: bool = False
    size: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(request.method, request.raw_path, dict(request.headers), None)
        self.received.append(received)
        try:
            if self.counts_only:
                async for chunk in request.content.iter_any():
                    self.size += len(chunk)
            else:
                received.body = await request.read()
        except ConnectionError:
            return web.Response()
        return await self.answer(request) if self.answer else web.Response(body=self.body)

    @property
    def bodies(self) -> list[bytes | None]:
        return [received.body for received in self.received]


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    application = web.Application(client_max_size=2**40)
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, auto_decompress=False, shutdown_timeout=1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@dataclass(frozen=True)
class Answered:
    """An answer with its whole body."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def ask(client: ClientSession, method: str, url: str | URL, **parameters: Any) -> Answered:
    """Send a request, and read its answer to the end."""
    async with client.request(method, url, **parameters) as answer:
        return Answered(answer.status, answer.headers, await answer.read())
