"""An HTTP proxy in front of a local server: it records each request, and gives scripted answers where a test says so.

For what no local server does by itself: errors inside of a 200, throttling, 403 for a missing object, lost answers.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

# RFC 9110, section 7.6.1: these concern one connection. Lengths are set anew with each body.
_NOT_PASSED_ON = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "te", "upgrade"}
)


@dataclass(slots=True)
class Exchange:
    """One request that reached the proxy.

    Attributes:
        method: HTTP method.
        target: Path and query as they were sent.
        headers: Headers, names in lower case.
        sent_bytes: Size of the request's body.
        status: Status that the client got; None if the answer was swallowed.
    """

    method: str
    target: str
    headers: dict[str, str]
    sent_bytes: int
    status: int | None = None


@dataclass(slots=True)
class Script:
    """What happens to the requests that match, for so many of them.

    Attributes:
        matches: Which requests.
        times: How many of them.
        status: Answer with this status instead of passing the request on.
        body: Body of that answer.
        is_swallowed: Pass the request on and cut the connection instead of answering.
        cut_after: Pass the request on and cut the connection after so many bytes of the answer's body.
        fired: How many requests met it.
    """

    matches: Callable[[Exchange], bool]
    times: int
    status: int = 200
    body: bytes = b""
    is_swallowed: bool = False
    cut_after: int | None = None
    fired: int = field(default=0)


class ScriptedProxy:
    """A proxy in front of `upstream`, on a free port of 127.0.0.1, for the length of an `async with` block.

    Args:
        upstream: URL of the server, such as `http://127.0.0.1:8333`.

    Attributes:
        url: URL of the proxy.
        exchanges: What passed, in order of arrival.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.exchanges: list[Exchange] = []
        self._upstream = upstream.rstrip("/")
        self._scripts: list[Script] = []
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, auto_decompress=False, shutdown_timeout=1, access_log=None)
        self._client: aiohttp.ClientSession | None = None

    def answer(self, matches: Callable[[Exchange], bool], *, status: int, body: bytes = b"", times: int = 1) -> Script:
        """Answer the next matching requests without passing them on."""
        script = Script(matches, times, status, body)
        self._scripts.append(script)
        return script

    def swallow(self, matches: Callable[[Exchange], bool], *, times: int = 1) -> Script:
        """Let the server act on the next matching requests, and cut the connection before its answer."""
        script = Script(matches, times, is_swallowed=True)
        self._scripts.append(script)
        return script

    def cut(self, matches: Callable[[Exchange], bool], *, after: int, times: int = 1) -> Script:
        """Cut the connection after so many bytes of the answers' bodies to the next matching requests."""
        script = Script(matches, times, cut_after=after)
        self._scripts.append(script)
        return script

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except ConnectionError:  # the client has gone, as a cancelled one does
            return web.Response()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.content.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        exchange = Exchange(request.method, request.raw_path, headers, len(body))
        self.exchanges.append(exchange)
        script = next((s for s in self._scripts if s.fired < s.times and s.matches(exchange)), None)
        if script is not None:
            script.fired += 1
            if not script.is_swallowed and script.cut_after is None:
                exchange.status = script.status
                return web.Response(status=script.status, body=script.body, content_type="application/xml")
        return await self._pass_on(request, exchange, body, script or Script(lambda _: True, 1))

    async def _pass_on(
        self, request: web.Request, exchange: Exchange, body: bytes, script: Script
    ) -> web.StreamResponse:
        assert self._client is not None
        # Host goes along as it is: it is part of the signature.
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        async with self._client.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=io.BytesIO(body) if body else None,
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
        ) as answer:
            if script.is_swallowed:
                await answer.read()
                return _hang_up(request)
            exchange.status = answer.status
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED_ON}
            response = web.StreamResponse(status=answer.status, headers=passed)
            if answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            if request.method != "HEAD":
                rest = script.cut_after
                async for chunk in answer.content.iter_any():
                    await response.write(chunk[:rest])
                    rest = None if rest is None else rest - len(chunk)
                    if rest is not None and rest <= 0:
                        return _hang_up(request)
            await response.write_eof()
            return response


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()
