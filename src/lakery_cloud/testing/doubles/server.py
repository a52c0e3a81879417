"""A server of aiohttp on a free port, which the test doubles answer the requests of."""

import abc
from typing import Self

from aiohttp import web

MAX_BODY = 16 * 1024**3


class DoubleServer(abc.ABC):
    """A server on a free port of 127.0.0.1, for the duration of an `async with` block.

    Attributes:
        url: URL of the server.
        received: The requests.
    """

    def __init__(self) -> None:
        self.url = ""
        self.received: list[str] = []
        application = web.Application(client_max_size=MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, auto_decompress=False, shutdown_timeout=1, access_log=None)

    @property
    def endpoint_url(self) -> str:
        """URL of the server."""
        return self.url

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @abc.abstractmethod
    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
