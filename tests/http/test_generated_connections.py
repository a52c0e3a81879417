"""Connections to generated servers: each response answers its own request, or the request fails with an error of ours.

Stray bytes arrive before the next request. Later ones can't be told from its response, since requests of HTTP/1.1 have no
names.
"""

import asyncio
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud.http.exchange import HTTPError, Request
from tests.attack.cases import cases, counted
from tests.helpers import PATIENCE
from tests.http.raw import pooled

REQUESTS = 8
STRAYS = (
    b"x",
    b"\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nother\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nother",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
)


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, bytes, list[int], bool, bool]:
    """How a server answers one request: framing, stray bytes, where it cuts, whether it pauses, whether it ends the connection."""
    framing = draw(st.sampled_from(["length", "length", "chunks", "short", "long", "interim", "none"]))
    stray = draw(st.sampled_from([b""] * 6 + [*STRAYS]))
    cuts = sorted(draw(st.lists(st.integers(0, 120), max_size=4)))
    return framing, stray, cuts, draw(st.booleans()), draw(st.sampled_from([False] * 5 + [True]))


def response_to(number: bytes, framing: str) -> bytes:
    """A response whose body names its request; some are malformed."""
    body = b"answer to " + number
    if framing == "chunks":
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    length = len(body) + {"short": -2, "long": 3}.get(framing, 0)
    framed = b"" if framing == "none" else b"Content-Length: %d\r\n" % length
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" if framing == "interim" else b""
    return interim + b"HTTP/1.1 200 OK\r\n" + framed + b"\r\n" + body


def pieces(data: bytes, cuts: Iterable[int]) -> Iterable[bytes]:
    start = 0
    for cut in (*cuts, len(data)):
        yield data[start:cut]
        start = max(start, cut)


@cases(40)
@given(plan=st.lists(answers(), min_size=REQUESTS, max_size=REQUESTS), concurrent=st.booleans())
async def test_response_answers_its_own_request_or_none(
    plan: list[tuple[str, bytes, list[int], bool, bool]], concurrent: bool
) -> None:
    waiting = list(plan)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            number = head.split(b" ", 2)[1].removeprefix(b"/")
            framing, stray, cuts, pauses, ends = waiting.pop(0) if waiting else ("length", b"", [], False, False)
            response = response_to(number, framing)
            for piece in pieces(response + stray, [cut for cut in cuts if cut < len(response)]):
                writer.write(piece)
                await writer.drain()
                if pauses:
                    await asyncio.sleep(0.001)
            if ends or framing in ("long", "none"):
                return

    async with pooled(serve) as (pool, _):

        async def ask(number: int) -> None:
            try:
                response = await pool.send(Request("GET", f"/{number}", {"host": "127.0.0.1"}))
                try:
                    body = b""
                    while chunk := await response.read():
                        body += chunk
                finally:
                    response.close()
            except HTTPError:
                return
            expected = f"answer to {number}".encode()
            assert response.status == 200
            assert body in (expected, expected[:-2]), "a response answers another request"  # short ones are complete
            counted["responses on connections with stray bytes"] += 1

        async with asyncio.timeout(PATIENCE):
            if concurrent:
                await asyncio.gather(*map(ask, range(REQUESTS)))
            else:
                for number in range(REQUESTS):
                    await ask(number)
