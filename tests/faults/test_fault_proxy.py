"""Every fault of `FaultProxy`, seen by a plain client in front of a server that does nothing wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from lakery_cloud.testing import FaultNotFired, FaultProxy, Rule
from lakery_cloud.testing.faults import (
    Answer,
    CutAnswer,
    Delay,
    ExpiredCredentials,
    Fault,
    FlipAnswerByte,
    FlipRequestByte,
    ResetAfter,
    ResetBefore,
    ResetDuring,
    Stall,
    StallRequest,
    SwallowAnswer,
    Throttle,
)
from tests.faults.server import Server, ask
from tests.helpers import PATIENCE

BODY = bytes(range(256)) * 4096  # 1 MiB
SHORT = aiohttp.ClientTimeout(total=0.3)
TARGETS = {
    "s3": ("/bucket/key", {}),
    "gcs": ("/storage/v1/b/bucket/o/key", {}),
    "azure": ("/account/container/key", {"x-ms-version": "2021-08-06"}),
}


async def chunks(data: bytes = BODY, size: int = 10_000) -> AsyncIterator[bytes]:
    """A body whose length is not announced."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


class TestAnswers:
    @pytest.mark.parametrize("dialect", TARGETS)
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 412, 429, 500, 503, 507])
    async def test_error_has_the_shape_of_its_provider(
        self, server: Server, client: aiohttp.ClientSession, dialect: str, status: int
    ) -> None:
        target, headers = TARGETS[dialect]
        async with FaultProxy(server.url, [Rule(Answer(status))]) as proxy:
            answer = await ask(client, "PUT", proxy.url + target, data=BODY, headers=headers)
        assert answer.status == status
        match dialect:
            case "s3":
                assert "<Error><Code>" in answer.text
            case "gcs":
                assert json.loads(answer.text)["error"]["code"] == status
                assert json.loads(answer.text)["error"]["errors"][0]["reason"]
            case "azure":
                assert f"<Code>{answer.headers['x-ms-error-code']}</Code>" in answer.text
        [exchange] = proxy.exchanges
        assert (exchange.status, exchange.fault, exchange.sent_bytes) == (status, Answer(status), len(BODY))
        assert server.received == []

    @pytest.mark.parametrize(
        ("dialect", "code"), [("s3", "SlowDown"), ("gcs", "backendError"), ("azure", "ServerBusy")]
    )
    async def test_code_is_the_usual_one_or_that_of_the_rule(
        self, server: Server, client: aiohttp.ClientSession, dialect: str, code: str
    ) -> None:
        target, headers = TARGETS[dialect]
        rules = [Rule(Answer(503)), Rule(Answer(503, "Other<&", headers={"Retry-After": "7"}))]
        async with FaultProxy(server.url, rules) as proxy:
            usual = await ask(client, "GET", proxy.url + target, headers=headers)
            other = await ask(client, "GET", proxy.url + target, headers=headers)
        assert code in usual.text
        assert ("Other<&" if dialect == "gcs" else "Other&lt;&amp;") in other.text
        assert other.headers["Retry-After"] == "7"

    async def test_200_can_hold_an_error(self, server: Server, client: aiohttp.ClientSession) -> None:
        rules = [Rule(Answer(200, "InternalError"), "copy")]
        async with FaultProxy(server.url, rules) as proxy:
            headers = {"x-amz-copy-source": "/bucket/other"}
            answer = await ask(client, "PUT", f"{proxy.url}/bucket/key", headers=headers)
        assert answer.status == 200
        assert "<Code>InternalError</Code>" in answer.text

    @pytest.mark.parametrize(
        ("dialect", "status", "said"),
        [("s3", 400, "ExpiredToken"), ("gcs", 401, "authError"), ("azure", 401, "InvalidAuthenticationInfo")],
    )
    async def test_expired_credentials_have_the_response_of_the_provider(
        self, server: Server, client: aiohttp.ClientSession, dialect: str, status: int, said: str
    ) -> None:
        target, headers = TARGETS[dialect]
        async with FaultProxy(server.url, [Rule(ExpiredCredentials())]) as proxy:
            answer = await ask(client, "GET", proxy.url + target, headers=headers)
        assert answer.status == status
        assert said in answer.text

    async def test_answer_to_a_head_has_no_body(self, server: Server, client: aiohttp.ClientSession) -> None:
        async with FaultProxy(server.url, [Rule(Answer(404), "head_object")]) as proxy:
            answer = await ask(client, "HEAD", f"{proxy.url}/bucket/key")
        assert (answer.status, answer.body) == (404, b"")

    async def test_client_that_waits_to_be_asked_sends_no_body(self, server: Server) -> None:
        async with FaultProxy(server.url, [Rule(Answer(503), "put")]) as proxy:
            reader, writer = await connect(proxy.url)
            writer.write(b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"503"
            writer.close()
            await writer.wait_closed()
        assert proxy.exchanges[0].sent_bytes == 0


class TestResets:
    @pytest.mark.parametrize(
        ("fault", "least", "most"),
        [
            (ResetBefore(), 0, 0),
            (ResetDuring(100_000), 100_000, len(BODY)),
            (ResetDuring(), 0, len(BODY)),
            (ResetDuring(-1), len(BODY) - 1, len(BODY)),
            (ResetAfter(), len(BODY), len(BODY)),
        ],
    )
    @pytest.mark.parametrize("is_chunked", [False, True])
    async def test_server_never_sees_the_request(
        self,
        server: Server,
        client: aiohttp.ClientSession,
        fault: Fault,
        least: int,
        most: int,
        is_chunked: bool,
    ) -> None:
        async with FaultProxy(server.url, [Rule(fault, "put")]) as proxy:
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.put(f"{proxy.url}/bucket/key", data=chunks() if is_chunked else BODY)
            answer = await ask(client, "PUT", f"{proxy.url}/bucket/key", data=chunks() if is_chunked else BODY)
        assert answer.status == 200
        assert server.bodies == [BODY]
        assert least <= proxy.exchanges[0].sent_bytes <= most
        assert (proxy.exchanges[0].status, proxy.exchanges[0].fault) == (None, fault)
        assert (proxy.exchanges[1].status, proxy.exchanges[1].fault) == (200, None)

    @pytest.mark.parametrize("fault", [ResetBefore(), ResetDuring(2), ResetAfter()])
    async def test_reset_is_a_reset_and_no_mere_end(self, server: Server, fault: Fault) -> None:
        async with FaultProxy(server.url, [Rule(fault)]) as proxy:
            reader, writer = await connect(proxy.url)
            writer.write(b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            with suppress(ConnectionResetError):
                await writer.wait_closed()

    async def test_body_that_is_too_short_is_not_reset(self, server: Server, client: aiohttp.ClientSession) -> None:
        with pytest.raises(FaultNotFired, match=r"ResetDuring.* 2 requests matched, 2 got the fault, it fired 0 of 2"):
            async with FaultProxy(server.url, [Rule(ResetDuring(5), times=2)]) as proxy:
                for data in (b"hello", chunks(b"hello")):
                    assert (await ask(client, "PUT", f"{proxy.url}/bucket/key", data=data)).status == 200
        assert server.bodies == [b"hello", b"hello"]


class TestLostAndCutAnswers:
    async def test_swallowed_answer_comes_after_the_server_has_acted(
        self, server: Server, client: aiohttp.ClientSession
    ) -> None:
        async with FaultProxy(server.url, [Rule(SwallowAnswer(), "put")]) as proxy:
            with pytest.raises(aiohttp.ClientConnectionError, match="ServerDisconnected"):
                await client.put(f"{proxy.url}/bucket/key", data=BODY)
        assert server.bodies == [BODY]
        assert (proxy.exchanges[0].status, proxy.exchanges[0].fault) == (None, SwallowAnswer())

    @pytest.mark.parametrize(("after", "received"), [(0, 0), (100_000, 100_000), (-1, len(BODY) - 1)])
    @pytest.mark.parametrize("is_chunked", [False, True])
    async def test_answer_is_cut_at_the_byte(
        self, server: Server, client: aiohttp.ClientSession, after: int, received: int, is_chunked: bool
    ) -> None:
        server.body = BODY
        if is_chunked:
            server.answer = answer_in_chunks
        got = b""
        async with FaultProxy(server.url, [Rule(CutAnswer(after), "get")]) as proxy:
            with pytest.raises(aiohttp.ClientPayloadError):
                async with client.get(f"{proxy.url}/bucket/key") as answer:
                    async for chunk in answer.content.iter_any():
                        got += chunk
        assert got == BODY[:received]
        assert (proxy.exchanges[0].status, proxy.exchanges[0].fault) == (200, CutAnswer(after))

    async def test_answer_that_is_too_short_is_not_cut(self, server: Server, client: aiohttp.ClientSession) -> None:
        async with FaultProxy(server.url, [Rule(CutAnswer(10), times=3, probability=0.999999)]) as proxy:
            for method in ("GET", "HEAD"):
                answer = await ask(client, method, f"{proxy.url}/bucket/key")
                assert answer.body == (b"the answer" if method == "GET" else b"")
            assert [exchange.fault for exchange in proxy.exchanges] == [None, None]


class TestFlippedBytes:
    @pytest.mark.parametrize("offset", [0, 9_999, 10_000, -1])
    @pytest.mark.parametrize("is_chunked", [False, True])
    async def test_one_byte_of_a_request_is_another(
        self, server: Server, client: aiohttp.ClientSession, offset: int, is_chunked: bool
    ) -> None:
        async with FaultProxy(server.url, [Rule(FlipRequestByte(offset))]) as proxy:
            answer = await ask(client, "PUT", f"{proxy.url}/bucket/key", data=chunks() if is_chunked else BODY)
        assert answer.status == 200
        assert server.bodies[0] == flipped(BODY, offset)

    @pytest.mark.parametrize("offset", [0, 9_999, 10_000, -1])
    @pytest.mark.parametrize("is_chunked", [False, True])
    async def test_one_byte_of_an_answer_is_another(
        self, server: Server, client: aiohttp.ClientSession, offset: int, is_chunked: bool
    ) -> None:
        server.body = BODY
        if is_chunked:
            server.answer = answer_in_chunks
        async with FaultProxy(server.url, [Rule(FlipAnswerByte(offset))]) as proxy:
            assert (await ask(client, "GET", f"{proxy.url}/bucket/key")).body == flipped(BODY, offset)

    async def test_position_that_is_left_open_comes_from_the_seed(
        self, server: Server, client: aiohttp.ClientSession
    ) -> None:
        server.body = BODY
        found = []
        for seed in (1, 1, 2):
            async with FaultProxy(server.url, [Rule(FlipAnswerByte())], seed=seed) as proxy:
                data = (await ask(client, "GET", f"{proxy.url}/bucket/key")).body
            [position] = [number for number, (a, b) in enumerate(zip(data, BODY, strict=True)) if a != b]
            found.append(position)
        assert found[0] == found[1] != found[2]


class TestWaiting:
    async def test_delay_ends(self, server: Server, client: aiohttp.ClientSession) -> None:
        async with FaultProxy(server.url) as proxy:
            delay = proxy.arm(Rule(Delay(0.2)))
            asking = asyncio.create_task(ask(client, "GET", f"{proxy.url}/bucket/key"))
            await delay.wait()
            assert server.received == []
            assert (await asking).body == b"the answer"

    @pytest.mark.parametrize("fault", [Delay(None), StallRequest(1000)])
    async def test_request_that_waits_without_end_never_reaches_the_server(
        self, server: Server, client: aiohttp.ClientSession, fault: Fault
    ) -> None:
        async with FaultProxy(server.url, [Rule(fault)]) as proxy:
            with pytest.raises(TimeoutError):
                await client.put(f"{proxy.url}/bucket/key", data=BODY, timeout=SHORT)
        assert server.received == []

    async def test_stalled_request_goes_on(self, server: Server, client: aiohttp.ClientSession) -> None:
        async with FaultProxy(server.url, [Rule(StallRequest(1000, 0.1))]) as proxy:
            assert (await ask(client, "PUT", f"{proxy.url}/bucket/key", data=BODY)).status == 200
        assert server.bodies == [BODY]

    async def test_answer_stalls_after_so_many_bytes_until_the_client_goes(
        self, server: Server, client: aiohttp.ClientSession
    ) -> None:
        server.body = BODY
        async with FaultProxy(server.url) as proxy:
            stall = proxy.arm(Rule(Stall(1000)))
            async with client.get(f"{proxy.url}/bucket/key") as answer:
                assert await answer.content.readexactly(1000) == BODY[:1000]
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(answer.content.readany(), 0.1)
            await stall.wait()

    async def test_stalled_answer_goes_on(self, server: Server, client: aiohttp.ClientSession) -> None:
        server.body = BODY
        async with FaultProxy(server.url, [Rule(Stall(1000, 0.1))]) as proxy:
            assert (await ask(client, "GET", f"{proxy.url}/bucket/key")).body == BODY

    async def test_proxy_ends_though_a_client_is_kept_waiting(
        self, server: Server, client: aiohttp.ClientSession
    ) -> None:
        async with FaultProxy(server.url) as proxy:
            delay = proxy.arm(Rule(Delay(None)))
            waiting = asyncio.create_task(client.get(f"{proxy.url}/bucket/key"))
            await delay.wait()
        with pytest.raises(aiohttp.ClientConnectionError):
            await asyncio.wait_for(waiting, PATIENCE)

    async def test_both_bodies_are_throttled(
        self, server: Server, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[float] = []

        async def wait(seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr(FaultProxy, "_waiting_for", lambda *_: wait)
        server.body = BODY[:4000]
        async with FaultProxy(server.url, [Rule(Throttle(20_000))]) as proxy:
            assert (await ask(client, "PUT", f"{proxy.url}/bucket/key", data=BODY[:4000])).body == BODY[:4000]
        assert sum(waits) == pytest.approx(2 * 4000 / 20_000)
        assert server.bodies == [BODY[:4000]]


def flipped(data: bytes, offset: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 0xFF
    return bytes(changed)


async def answer_in_chunks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for chunk in chunks():
        await response.write(chunk)
    await response.write_eof()
    return response


async def test_fault_that_stops_is_met_by_no_further_request(server: Server, client: aiohttp.ClientSession) -> None:
    async with FaultProxy(server.url) as proxy:
        armed = proxy.arm(Rule(Answer(503), times=None))
        before = await ask(client, "GET", f"{proxy.url}/bucket/key")
        proxy.disarm(armed)
        after = await ask(client, "GET", f"{proxy.url}/bucket/key")
    assert (before.status, after.status) == (503, 200)
    assert (armed.fired, armed.matched) == (1, 2)


async def test_bytes_of_the_answer_are_counted_up_to_a_cut(server: Server, client: aiohttp.ClientSession) -> None:
    async with FaultProxy(server.url, [Rule(CutAnswer(1))]) as proxy:
        with suppress(aiohttp.ClientError):
            await ask(client, "GET", f"{proxy.url}/bucket/key")
        whole = await ask(client, "GET", f"{proxy.url}/bucket/key")
    assert [exchange.received_bytes for exchange in proxy.exchanges] == [1, len(whole.body)]
