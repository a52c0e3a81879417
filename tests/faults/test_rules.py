"""Which requests meet a fault: rules, seeds, and what happens when a fault never does."""

import asyncio
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from lakery_cloud.testing import FaultNotFired, FaultProxy, Rule
from lakery_cloud.testing.faults import (
    FAULTS,
    Answer,
    Delay,
    FlipAnswerByte,
    Stall,
    StallRequest,
    Throttle,
)
from tests.faults.server import Server

BUSY = Answer(503)
EVERY_FAULT = [
    Answer(503, "SlowDown", headers={"Retry-After": "1"}, body="busy"),
    Delay(None),
    Stall(-1, 2.5),
    Throttle(1000),
    *(kind() for name, kind in FAULTS.items() if name not in ("Answer", "Delay", "Stall", "Throttle")),
]


async def statuses(proxy: FaultProxy, client: aiohttp.ClientSession, *requests: str) -> list[int]:
    """Send requests, such as `PUT key`, one after another."""
    found = []
    for request in requests:
        method, key = request.split()
        async with client.request(
            method, f"{proxy.url}/bucket/{key}", data=b"x" if method == "PUT" else None
        ) as answer:
            await answer.read()
            found.append(answer.status)
    return found


class TestWhichRequests:
    @pytest.mark.parametrize("operation", ["put_object", "put"])
    async def test_operation_has_two_names(self, server: Server, client: aiohttp.ClientSession, operation: str) -> None:
        async with FaultProxy(server.url, [Rule(BUSY, operation)]) as proxy:
            assert await statuses(proxy, client, "GET a", "PUT a", "PUT a") == [200, 503, 200]
            assert len(proxy.exchanges_of(operation)) == 2

    async def test_no_operation_is_any(self, server: Server, client: aiohttp.ClientSession) -> None:
        async with FaultProxy(server.url, [Rule(BUSY, times=2)]) as proxy:
            assert await statuses(proxy, client, "PATCH a", "PUT a", "PUT a") == [503, 503, 200]

    async def test_nth_and_those_after_it(self, server: Server, client: aiohttp.ClientSession) -> None:
        async with FaultProxy(server.url, [Rule(BUSY, "get", nth=2, times=2)]) as proxy:
            assert await statuses(proxy, client, "GET a", "PUT a", *["GET a"] * 4) == [200, 200, 503, 503, 200, 200]

    async def test_times_without_limit(self, server: Server, client: aiohttp.ClientSession) -> None:
        async with FaultProxy(server.url, [Rule(BUSY, "get", nth=3, times=None)]) as proxy:
            assert await statuses(proxy, client, *["GET a"] * 5) == [200, 200, 503, 503, 503]

    async def test_key_is_a_regular_expression_on_the_decoded_key(
        self, server: Server, client: aiohttp.ClientSession
    ) -> None:
        async with FaultProxy(server.url, [Rule(BUSY, key=r"^\.tmp/[a ]+$")]) as proxy:
            assert await statuses(proxy, client, "GET x.tmp/a", "GET .tmp/b", "GET .tmp/a%20a") == [200, 200, 503]

    async def test_first_rule_that_is_for_a_request_counts(self, server: Server, client: aiohttp.ClientSession) -> None:
        rules = [Rule(Answer(500), "get"), Rule(Answer(501)), Rule(Answer(502), "get")]
        async with FaultProxy(server.url, rules) as proxy:
            assert await statuses(proxy, client, *["GET a"] * 4) == [500, 501, 502, 200]

    async def test_rule_armed_later_counts_from_then_on(self, server: Server, client: aiohttp.ClientSession) -> None:
        async with FaultProxy(server.url) as proxy:
            assert await statuses(proxy, client, "GET a") == [200]
            armed = proxy.arm(Rule(BUSY, "get", nth=1))
            assert proxy.unfired() == [armed]
            assert await statuses(proxy, client, "GET a") == [503]
            assert (armed.matched, armed.met, armed.fired) == (1, 1, 1)
            assert proxy.unfired() == []

    async def test_key_of_an_upload_is_known_from_the_body_and_from_the_session(
        self, server: Server, client: aiohttp.ClientSession
    ) -> None:
        async def begin(request: web.Request) -> web.Response:
            return web.Response(headers={"Location": f"{server.url}/upload/storage/v1/b/b/o?upload_id=secret"})

        server.answer = begin
        head = b'--x\r\nContent-Type: application/json\r\n\r\n{"name": "a/b"}\r\n--x\r\n\r\n' + b"x" * 100_000
        async with FaultProxy(server.url, [Rule(BUSY, "put", key="^a/b$"), Rule(BUSY, "upload", key="^c d$")]) as proxy:
            url = f"{proxy.url}/upload/storage/v1/b/b/o"
            async with client.post(f"{url}?uploadType=multipart", data=head) as answer:
                assert answer.status == 503
            async with client.post(f"{url}?uploadType=multipart", data=head) as answer:
                assert answer.status == 200
            async with client.post(f"{url}?uploadType=resumable&name=c%20d") as answer:
                session = answer.headers["Location"]
            assert session == f"{url}?upload_id=secret"
            async with client.put(session, data=b"part", headers={"Content-Range": "bytes 0-3/*"}) as answer:
                assert answer.status == 503
        assert server.bodies == [head, b""]
        assert [exchange.key for exchange in proxy.exchanges] == ["a/b", "a/b", "c d", "c d"]


class TestSeeds:
    async def faults(self, server: Server, client: aiohttp.ClientSession, seed: int) -> list[int]:
        rules = [Rule(BUSY, "get", times=None, probability=0.3), Rule(Answer(500), times=None, probability=0.3)]
        async with FaultProxy(server.url, rules, seed=seed) as proxy:
            return await statuses(proxy, client, *["GET a", "PUT a"] * 30)

    async def test_same_seed_makes_the_same_faults(self, server: Server, client: aiohttp.ClientSession) -> None:
        one, again, other = [await self.faults(server, client, seed) for seed in (1, 1, 2)]
        assert one == again != other
        assert {200, 500, 503} == set(one)

    async def test_effect_of_a_rule_depends_on_no_other_request(
        self, server: Server, client: aiohttp.ClientSession
    ) -> None:
        found = []
        for others in ([], ["PUT a"]):
            async with FaultProxy(server.url, [Rule(BUSY, "get", times=None, probability=0.5)], seed=3) as proxy:
                await statuses(proxy, client, *(["GET a", *others] * 30))
                found.append([exchange.status for exchange in proxy.exchanges_of("get")])
        assert found[0] == found[1]

    async def test_probability_of_0_never_fires_and_need_not(
        self, server: Server, client: aiohttp.ClientSession
    ) -> None:
        async with FaultProxy(server.url, [Rule(BUSY, times=None, probability=0)]) as proxy:
            assert await statuses(proxy, client, *["GET a"] * 20) == [200] * 20


class TestFaultsThatDoNotFire:
    @pytest.mark.parametrize("rule", [Rule(BUSY, "put"), Rule(BUSY, times=3), Rule(BUSY, "put", times=None)])
    async def test_they_are_an_error(self, server: Server, client: aiohttp.ClientSession, rule: Rule) -> None:
        with pytest.raises(FaultNotFired, match="503"):
            async with FaultProxy(server.url, [rule]) as proxy:
                await statuses(proxy, client, "GET a", "GET b")

    async def test_message_names_the_progress(self, server: Server, client: aiohttp.ClientSession) -> None:
        with pytest.raises(AssertionError, match="5 requests matched, 2 got the fault, it fired 0 of 2"):
            async with FaultProxy(server.url, [Rule(FlipAnswerByte(100), "get", nth=2, times=2)]) as proxy:
                await statuses(proxy, client, *["GET a"] * 5)

    async def test_they_never_hide_another_error(self, server: Server) -> None:
        with pytest.raises(LookupError, match="the test's own"):
            async with FaultProxy(server.url, [Rule(BUSY)]):
                raise LookupError("the test's own")
        with pytest.raises(asyncio.CancelledError):
            async with FaultProxy(server.url, [Rule(BUSY)]):
                raise asyncio.CancelledError


class TestData:
    def test_every_fault_is_there(self) -> None:
        assert {type(fault).__name__ for fault in EVERY_FAULT} == set(FAULTS)

    @pytest.mark.parametrize("fault", EVERY_FAULT, ids=lambda fault: type(fault).__name__)
    def test_rules_survive_json(self, fault: object) -> None:
        rule = Rule(fault, "put", nth=2, times=None, probability=0.5, key="^a")
        assert Rule.from_json(rule.to_json()) == rule
        assert hash(Rule.from_json(rule.to_json())) == hash(rule)
        assert replace(rule, nth=3) != rule

    def test_missing_fields_of_json_have_defaults(self) -> None:
        text = '{"fault": {"kind": "Answer", "status": 503}, "operation": "put"}'
        assert Rule.from_json(text) == Rule(Answer(503), "put")

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"fault": {"kind": "Nothing"}}', '{"fault": {"kind": "Answer"}, "operation": "put"}']
    )
    def test_invalid_rules_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError):
            Rule.from_json(text)

    @pytest.mark.parametrize(
        "wrong", [{"nth": 0}, {"times": 0}, {"probability": 1.1}, {"probability": -1}, {"key": "("}, {"fault": "503"}]
    )
    def test_values_out_of_range_are_refused(self, wrong: dict) -> None:
        with pytest.raises(ValueError):
            Rule(**{"fault": BUSY, **wrong})

    def test_faults_out_of_range_are_refused(self) -> None:
        for make in (lambda: Answer(100), lambda: Throttle(0), lambda: Delay(-1), lambda: StallRequest(0, -1)):
            with pytest.raises(ValueError):
                make()

    def test_unknown_operations_and_dialects_are_refused(self) -> None:
        with pytest.raises(ValueError, match="put_objekt"):
            FaultProxy("http://127.0.0.1:1", [Rule(BUSY, "put_objekt")])
        with pytest.raises(ValueError, match="put_blob"):
            FaultProxy("http://127.0.0.1:1", [Rule(BUSY, "put_blob")], dialect="s3")
        with pytest.raises(ValueError, match="s3, gcs, azure"):
            FaultProxy("http://127.0.0.1:1", dialect="ftp")
