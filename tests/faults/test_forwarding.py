"""A proxy passes on bodies of any size, heads, connections and secrets, and lets clients disconnect."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import psutil
import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from lakery_cloud.testing import FaultProxy, Rule, ScriptedProxy
from lakery_cloud.testing.faults import FlipAnswerByte, FlipRequestByte
from tests.faults.server import Server, ask
from tests.faults.test_fault_proxy import BODY, chunks, connect, flipped
from tests.helpers import PATIENCE

MiB = 1024**2
LARGE = 512 * MiB


async def large_body() -> AsyncIterator[bytes]:
    for _ in range(LARGE // MiB):
        yield bytes(MiB)


async def test_large_bodies_need_little_memory(server: Server, client: aiohttp.ClientSession) -> None:
    async def give_large_body(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(LARGE)})
        await response.prepare(request)
        async for chunk in large_body():
            await response.write(chunk)
        return response

    server.counts_only = True
    server.answer = give_large_body
    process = psutil.Process(os.getpid())
    before = most = process.memory_info().rss
    rules = [Rule(FlipRequestByte(LARGE // 2), "put"), Rule(FlipAnswerByte(LARGE // 2), "get")]
    async with FaultProxy(server.url, rules) as proxy:
        headers = {"Content-Length": str(LARGE)}
        for method in ("PUT", "GET"):
            received = 0
            data = large_body() if method == "PUT" else None
            async with client.request(
                method, f"{proxy.url}/bucket/key", data=data, headers=headers if data else {}
            ) as answer:
                async for chunk in answer.content.iter_any():
                    received += len(chunk)
                    most = max(most, process.memory_info().rss)
            assert received == LARGE
    assert server.size == LARGE
    assert proxy.exchanges[0].sent_bytes == LARGE
    assert most - before < 96 * MiB


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_bodies_keep_their_framing(server: Server, client: aiohttp.ClientSession, is_chunked: bool) -> None:
    async with FaultProxy(server.url) as proxy:
        await ask(client, "PUT", f"{proxy.url}/bucket/key", data=chunks() if is_chunked else BODY)
    assert server.bodies == [BODY]
    assert ("Content-Length" in server.received[0].headers) is not is_chunked
    assert (server.received[0].headers.get("Transfer-Encoding") == "chunked") is is_chunked
    assert proxy.exchanges[0].sent_bytes == len(BODY)


async def test_target_and_headers_pass_as_they_are(server: Server, client: aiohttp.ClientSession) -> None:
    async def answer_twice(request: web.Request) -> web.Response:
        headers = CIMultiDict([("X-Twice", "1"), ("X-Twice", "2"), ("Set-Cookie", "a=b")])
        return web.Response(headers=headers, status=209, reason="Odd", body=b"\x1f\x8b no gzip")

    server.answer = answer_twice
    target = "/bucket//a%2Fb%20%C3%A4/..%2f?x-id=%2B&empty&prefix=a%2Fb"
    async with FaultProxy(server.url) as proxy:
        headers = {"Host": "bucket.s3.example.com", "X-Meta": "ä", "Content-Encoding": "gzip"}
        url = URL(proxy.url + target, encoded=True)
        async with client.get(
            url, headers=headers, skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding"]
        ) as answer:
            assert (answer.status, answer.reason, await answer.read()) == (209, "Odd", b"\x1f\x8b no gzip")
            assert answer.headers.getall("X-Twice") == ["1", "2"]
        async with client.get(url) as answer:
            pass
    assert server.received[0].target == target
    assert server.received[0].headers == {**headers, "Connection": "close"}
    assert "Cookie" not in server.received[1].headers


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        ("HEAD", 200, {"Content-Length": "12345", "ETag": '"x"'}),
        ("HEAD", 404, {"Content-Length": "0"}),
        ("GET", 304, {"ETag": '"x"'}),
        ("DELETE", 204, {}),
        ("PUT", 308, {"Range": "bytes=0-41", "Content-Length": "0"}),
        ("PUT", 201, {"Content-Length": "0"}),
    ],
)
async def test_answers_without_a_body_pass(server: Server, method: str, status: int, headers: dict[str, str]) -> None:
    async def head_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [f"HTTP/1.1 {status} Some", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        writer.close()

    bare = await asyncio.start_server(head_only, "127.0.0.1", 0)
    async with bare, FaultProxy(f"http://127.0.0.1:{bare.sockets[0].getsockname()[1]}") as proxy:
        reader, writer = await connect(proxy.url)
        request = f"{method} /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode()
        for _ in range(2):  # on one connection
            writer.write(request)
            first, *rest = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).decode().split("\r\n")
            assert first.split()[1] == str(status)
            received = dict(line.lower().split(": ", 1) for line in rest if line)
            received.pop("date")
            assert received == {name.lower(): value for name, value in headers.items()}
        writer.close()
        await writer.wait_closed()


async def test_client_that_waits_to_be_asked_is_asked(server: Server) -> None:
    async with FaultProxy(server.url) as proxy:
        reader, writer = await connect(proxy.url)
        writer.write(b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
    assert server.bodies == [b"hello"]


async def test_connections_are_kept(server: Server) -> None:
    made = 0

    async def count(*_: object) -> None:
        nonlocal made
        made += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(count)
    async with FaultProxy(server.url) as proxy, aiohttp.ClientSession(trace_configs=[trace]) as client:
        for number in range(10):
            async with client.put(f"{proxy.url}/bucket/{number}", data=BODY) as answer:
                await answer.read()
    assert (made, len(server.received)) == (1, 10)


async def test_hundreds_of_clients_at_once(server: Server, client: aiohttp.ClientSession) -> None:
    async def exchange(number: int) -> None:
        data = bytes([number % 256]) * 10_000
        async with client.put(f"{proxy.url}/bucket/{number}", data=data) as answer:
            assert await answer.read() == b"the answer"

    async with FaultProxy(server.url) as proxy:
        await asyncio.gather(*(exchange(number) for number in range(400)))
    assert len(server.received) == len(proxy.exchanges) == 400
    assert all(body is not None and len(body) == 10_000 for body in server.bodies)


async def test_client_that_goes_leaves_neither_noise_nor_tasks(
    server: Server, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen, enough = 0, asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal seen
        while True:
            seen += 1
            if seen > 50:
                enough.set()
            yield bytes(10_000)
            await asyncio.sleep(0)

    async def go_on_and_on(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            async for chunk in endless():
                await response.write(chunk)
        return response

    server.answer = go_on_and_on
    tasks = asyncio.all_tasks()
    async with FaultProxy(server.url) as proxy:
        putting = asyncio.create_task(client.put(f"{proxy.url}/bucket/key", data=endless()))
        await asyncio.wait_for(enough.wait(), PATIENCE)
        putting.cancel()
        await asyncio.wait([putting])
        async with client.get(f"{proxy.url}/bucket/key") as answer:
            await answer.content.readexactly(1_000_000)
    left = asyncio.all_tasks() - tasks
    assert not [task for task in left if "lakery_cloud" in repr(task)], left
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert None in server.bodies, "the server did not see that the client broke off"


async def test_server_that_breaks_off_looks_the_same_through_the_proxy(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        request.transport.close()
        return response

    async def answer_nothing(request: web.Request) -> web.StreamResponse:
        request.transport.abort()
        return web.Response()

    async with FaultProxy(server.url) as proxy:
        server.answer = break_off
        with pytest.raises(aiohttp.ClientPayloadError):
            async with client.get(f"{proxy.url}/bucket/key") as answer:
                await answer.read()
        server.answer = answer_nothing
        async with client.put(f"{proxy.url}/bucket/key", data=b"x") as answer:
            assert answer.status == 502
    assert [received.method for received in server.received] == ["GET", "PUT"], "nothing is sent twice"


async def test_server_that_is_not_there_is_a_bad_gateway(client: aiohttp.ClientSession) -> None:
    async with FaultProxy("http://127.0.0.1:1") as proxy, client.put(f"{proxy.url}/bucket/key", data=BODY) as answer:
        assert answer.status == 502
        assert "no response from http://127.0.0.1:1" in await answer.text()


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("{server}/upload/x?a=%2F", "{proxy}/upload/x?a=%2F"),
        ("/upload/x", "/upload/x"),
        ("http://elsewhere.example/x", "http://elsewhere.example/x"),
    ],
)
async def test_addresses_of_the_server_lead_through_the_proxy(
    server: Server, client: aiohttp.ClientSession, given: str, seen: str
) -> None:
    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": given.format(server=server.url)})

    server.answer = redirect
    async with FaultProxy(server.url) as proxy, client.get(f"{proxy.url}/bucket/key", allow_redirects=False) as answer:
        assert answer.headers["Location"] == seen.format(proxy=proxy.url)
    assert len(server.received) == 1


async def test_no_secret_is_shown(server: Server, client: aiohttp.ClientSession) -> None:
    target = (
        "/b/key?X-Amz-Signature=SECRET&X-Amz-Credential=SECRET&X-Amz-Security-Token=SECRET&sig=SECRET&Signature=SECRET"
        "&upload_id=SECRET&access_token=SECRET&x=shown&key=SECRET"
    )
    headers = {
        "Authorization": "Bearer SECRET",
        "Cookie": "SECRET",
        "x-amz-security-token": "SECRET",
        "x-amz-server-side-encryption-customer-key": "SECRET",
        "x-ms-copy-source": "https://account/container/blob?sv=1&sig=SECRET",
        "x-ms-copy-source-authorization": "Bearer SECRET",
        "x-amz-meta-key": "shown",
    }
    async with FaultProxy(server.url) as proxy:
        await ask(client, "GET", URL(proxy.url + target, encoded=True), headers=headers)
    [exchange] = proxy.exchanges
    assert "SECRET" not in repr(proxy.exchanges)
    assert repr(exchange).count("shown") == 2
    assert exchange.headers["authorization"] == "Bearer SECRET"
    assert exchange.target == target


async def test_proxy_can_be_opened_again(server: Server, client: aiohttp.ClientSession) -> None:
    proxy = FaultProxy(server.url)
    for _ in range(2):
        async with proxy, client.get(f"{proxy.url}/bucket/key") as answer:
            assert answer.status == 200


async def test_scripted_proxy_makes_any_fault_that_a_function_selects(
    server: Server, client: aiohttp.ClientSession
) -> None:
    async with ScriptedProxy(server.url) as proxy:
        flip = proxy.script(lambda exchange: exchange.sent_bytes == len(BODY), FlipRequestByte(-1))
        never = proxy.answer(lambda _: False, status=500)
        for data in (b"hello", BODY, BODY):
            async with client.put(f"{proxy.url}/bucket/key", data=data) as answer:
                assert answer.status == 200
        assert (flip.fired, never.fired) == (1, 0)
    assert server.bodies == [b"hello", flipped(BODY, -1), BODY]


async def test_answer_before_the_end_of_the_request_arrives(server: Server, client: aiohttp.ClientSession) -> None:
    refused = asyncio.Semaphore(0)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        refused.release()

    early = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with early, FaultProxy(f"http://127.0.0.1:{early.sockets[0].getsockname()[1]}") as proxy:
        for _ in range(5):
            reader, writer = await connect(proxy.url)
            writer.write(b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhello")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            assert head.startswith(b"HTTP/1.1 403")
            assert await reader.readexactly(2) == b"no"
            writer.write(b"x" * 995)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            await asyncio.wait_for(refused.acquire(), PATIENCE)
