"""S3 with responses that something changed: each operation ends with the right result or an error of ours."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lakery_cloud import LakeryCloudError, S3Storage
from lakery_cloud.maintenance import sweep, verify
from lakery_cloud.providers.s3.settings import S3_LIMITS
from lakery_cloud.testing import StrictS3, content, digest_of
from tests.helpers import write, write_stream
from tests.stores.stores import BUCKET, PART, s3_storage

pytestmark = [pytest.mark.case("49"), pytest.mark.usefixtures("short_pauses")]

OLD, NEW = b"old", content(2 * PART + 1)
OLD_KEY, NEW_KEY = digest_of(OLD)["content_hash"], digest_of(NEW)["content_hash"]
STATUSES = (
    200,
    201,
    204,
    206,
    301,
    302,
    304,
    307,
    308,
    400,
    401,
    403,
    404,
    405,
    409,
    411,
    412,
    416,
    429,
    500,
    501,
    503,
    504,
)
JUNK = ("", "x", "-1", "bytes a-b/*", "bytes 0-1/*", "9" * 30, 'W/"x"', "null")

Mutation = Callable[[web.Response], web.Response]


def _with(
    answer: web.Response, *, status: int | None = None, body: bytes | None = None, **headers: Any
) -> web.Response:
    """An answer with another status, body or headers. A header that is None is removed."""
    kept = {name: value for name, value in answer.headers.items() if name != "Content-Length"}
    kept = {name: value for name, value in {**kept, **headers}.items() if value is not None}
    given_body = answer.body if body is None else body
    status = status or answer.status
    return web.Response(status=status, body=None if status in (204, 304) else given_body, headers=kept)


def _header(answer: web.Response, number: int, value: str | None) -> web.Response:
    names = sorted(answer.headers)
    return _with(answer, **{names[number % len(names)]: value}) if names else answer


def _texts(answer: web.Response, texts: Sequence[bytes]) -> web.Response:
    found = iter(texts * 100)
    body = answer.body if isinstance(answer.body, bytes) else b""
    return _with(answer, body=re.sub(rb">[^<>]+<", lambda _: b">" + next(found) + b"<", body))


def _cut(answer: web.Response, share: float) -> web.Response:
    body = answer.body if isinstance(answer.body, bytes) else b""
    return _with(answer, body=body[: int(len(body) * share)])


def _as_it_is(answer: web.Response) -> web.Response:
    return answer


MUTATIONS = st.one_of(
    st.sampled_from(STATUSES).map(lambda status: lambda answer: _with(answer, status=status)),
    st.tuples(st.integers(0, 9), st.sampled_from([None, *JUNK])).map(
        lambda each: lambda answer: _header(answer, *each)
    ),
    st.lists(st.sampled_from([b"", b"x", b"-1", b"<a>b</a>", b"true"]), min_size=1).map(
        lambda texts: lambda answer: _texts(answer, texts)
    ),
    st.floats(0, 1).map(lambda share: lambda answer: _cut(answer, share)),
    st.sampled_from([b"<html>Please log in</html>", b'{"error": {}}', b"\xff\xfe", b"<Error/>"]).map(
        lambda body: lambda answer: web.Response(body=body, headers={"etag": '"page"'})
    ),
)


class MutatingS3(StrictS3):
    """A double whose responses `first` to `first + times` are changed, counted once `is_armed`.

    Unless it `acts`, it does nothing for these requests, as a proxy that answers in place of the store.
    """

    def __init__(self, mutate: Mutation, *, first: int, times: int, profile: str, acts: bool) -> None:
        super().__init__(profile)
        self._mutate = mutate
        self._acts = acts
        self._changed = range(first, first + times)
        self._count = 0
        self.is_armed = False

    async def _answer(self, *args: Any) -> web.StreamResponse:
        self._count += self.is_armed
        if not self.is_armed or self._count - 1 not in self._changed:
            return await super()._answer(*args)
        answer = await super()._answer(*args) if self._acts else web.Response()
        return self._mutate(answer) if isinstance(answer, web.Response) else answer


OPERATIONS: Mapping[str, Callable[[S3Storage], Any]] = {
    "put": lambda storage: write(storage, NEW[:PART], {}),
    "stream": lambda storage: write_stream(storage, NEW, {}),
    "read": lambda storage: storage.read_data(storage.storage_data_of(digest_of(OLD))),
    "stat": lambda storage: storage.stat(storage.storage_data_of(digest_of(OLD))),
    "exists": lambda storage: storage.exists(storage.storage_data_of(digest_of(OLD))),
    "delete": lambda storage: storage.delete(storage.storage_data_of(digest_of(OLD))),
    "list": lambda storage: _all(storage.list()),
    "verify": lambda storage: _all(verify(storage)),
    "sweep": lambda storage: _all(sweep(storage)),
}


_UNSEEN: Any = {"mutate": _as_it_is, "first": 0, "times": 1, "profile": "aws", "acts": False}
"""An empty success for a request that the store has not seen."""


@given(
    operation=st.sampled_from([*OPERATIONS, "put", "stream", "stream"]),
    mutate=MUTATIONS,
    first=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
    times=st.sampled_from([1, 2, 50]),
    profile=st.sampled_from(["aws", "aws-versioned", "minimal"]),
    fast_lane=st.booleans(),
    copies_in_parts=st.booleans(),
    acts=st.booleans(),
)
@example(**_UNSEEN, operation="put", fast_lane=True, copies_in_parts=False)
@example(**_UNSEEN, operation="stream", fast_lane=False, copies_in_parts=True)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_response_is_no_false_success_and_no_raw_error(
    operation: str,
    mutate: Mutation,
    first: int,
    times: int,
    profile: str,
    fast_lane: bool,
    copies_in_parts: bool,
    acts: bool,
) -> None:
    async def run() -> None:
        async with MutatingS3(mutate, first=first, times=times, profile=profile, acts=acts) as server:
            server.make_bucket(BUCKET)
            limits = replace(S3_LIMITS, min_part_size=PART)
            if copies_in_parts:
                limits = replace(limits, max_copy_size=PART, copy_part_size=PART)
            async with s3_storage(server, fast_lane=fast_lane, limits=limits, read_timeout=10) as storage:
                await write(storage, OLD, {})
                server.is_armed = True
                try:
                    result = await OPERATIONS[operation](storage)
                except LakeryCloudError:
                    result = None
                else:
                    _check_success(server, operation, result, acts=acts)
                for key, data in ((OLD_KEY, OLD), (NEW_KEY, NEW)):
                    found = server.current(BUCKET, key)
                    assert found is None or found.data == data

    asyncio.run(run())


def _check_success(server: StrictS3, operation: str, result: Any, *, acts: bool) -> None:
    if operation == "read":
        assert result == OLD
    elif operation == "delete" and acts:  # else the proxy may have sent all that proves a deletion
        assert server.current(BUCKET, OLD_KEY) is None
    elif operation in ("put", "stream"):
        found = server.current(BUCKET, result["key"])
        assert found is not None
        assert found.data == (NEW if operation == "stream" else NEW[:PART])


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]
