"""A store that is busy says when it wants the request again: `Retry-After`, and Azure's headers in milliseconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import pytest

from lakery_cloud.engine import requests
from lakery_cloud.engine.requests import LONGEST_PAUSE, requested_pause
from lakery_cloud.testing import Rule, content, digest_of
from lakery_cloud.testing.faults import Answer
from tests.helpers import proxy_before, write, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS, params

pytestmark = pytest.mark.case("24")

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "007"}, 7),
        ({"retry-after": "120"}, LONGEST_PAUSE),
        ({"retry-after": "9" * 5000}, LONGEST_PAUSE),
        ({"retry-after": formatdate(NOW + 7, usegmt=True)}, 7),
        ({"retry-after": formatdate(NOW + 7)}, 7),
        ({"retry-after": formatdate(NOW + 3600, usegmt=True)}, LONGEST_PAUSE),
        ({"retry-after": formatdate(NOW - 7, usegmt=True)}, 0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "99999999"}, LONGEST_PAUSE),
        ({"retry-after": "2", "x-ms-retry-after-ms": "250"}, 2),
        ({"retry-after": "soon", "x-ms-retry-after-ms": "250"}, 0.25),
        *(
            ({name: text}, 0)
            for name in ("retry-after", "x-ms-retry-after-ms")
            for text in (
                "",
                "soon",
                "-1",
                "1.5",
                "nan",
                "inf",
                "1e9",
                "\u0664",
                "7 seconds",
                "Fri, 31 Feb 2027",
                "1, 2",
            )
        ),
        ({"retry-after": "Fri, 31 Dec 99999999999 23:59:59 GMT"}, 0),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, 0),
    ],
)
def test_pause_is_read_and_limited(headers: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert requested_pause(headers) == seconds


async def read(storage: Any, data: bytes) -> object:
    return await storage.read_data(storage.storage_data_of(digest_of(data)))


async def delete(storage: Any, data: bytes) -> object:
    return await storage.delete(storage.storage_data_of(digest_of(data)))


# The request, whether lakery-cloud sends it itself, and what sends it.
REQUESTS: dict[str, tuple[str, bool, Callable[[Any, bytes], Awaitable[object]]]] = {
    "put": ("put", True, write),
    "put by the SDK": ("put", False, write),
    "get": ("get", True, read),
    "get by the SDK": ("get", False, read),
    "part": ("upload_part", True, write_stream),
    "deletion": ("delete", True, delete),
}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """All pauses, which take no time."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float, result: Any = None) -> Any:
        found.append(seconds)
        return await sleep(0, result)

    monkeypatch.setattr(asyncio, "sleep", note)
    return found


@pytest.mark.parametrize(
    "cloud_rig",
    params(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite")),
    indirect=True,
)
@pytest.mark.parametrize("kind", REQUESTS)
async def test_request_comes_again_when_the_store_wants_it(cloud_rig: CloudRig, kind: str, pauses: list[float]) -> None:
    operation, fast_lane, send = REQUESTS[kind]
    data = content(cloud_rig.part_size + 1 if operation == "upload_part" else 100)
    if operation in ("get", "delete"):
        await cloud_rig.put(digest_of(data)["content_hash"], data)
    # S3's SDK waits for the rest of a pause that begins with the response.
    for status, headers, least, most in (
        (503, {}, 0, 1),
        (503, {"Retry-After": "7"}, 3, 7),
        (429, {"Retry-After": "8"}, 4, 8),
        (503, {"x-ms-retry-after-ms": "9000"}, 4, 9),
        (503, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, 10, LONGEST_PAUSE),
        (503, {"Retry-After": "3600"}, 10, LONGEST_PAUSE),
    ):
        rule = Rule(Answer(status, headers=headers), operation)
        async with (
            proxy_before(cloud_rig, rule) as proxy,
            cloud_rig.storage(fast_lane=fast_lane, max_attempts=2) as storage,
        ):
            pauses.clear()
            await send(storage, data)
            assert least <= max(pauses, default=0) <= most, (status, headers, pauses)
            assert len(proxy.exchanges_of(operation)) > 1
        await cloud_rig.delete(digest_of(data)["content_hash"])
        if operation in ("get", "delete"):
            await cloud_rig.put(digest_of(data)["content_hash"], data)


async def test_pause_is_that_of_the_clients_own_if_it_is_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "FIRST_PAUSE", 4.0)
    refused = requests.RefusedRequest(requests.BufferedResponse(503, {"retry-after": "1"}, b""))
    assert 2 <= requests.pause_after(refused, 1) <= 4
    assert requests.pause_after(None, 1) >= 2
    patient = requests.RefusedRequest(requests.BufferedResponse(503, {"retry-after": "15"}, b""))
    assert requests.pause_after(patient, 1) == 15
