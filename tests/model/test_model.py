"""Random operations, with faults on the wire, against the same on `MemoryStorage`: case 45."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from lakery_cloud import (
    IntegrityError,
    MemoryStorage,
    NoStorageData,
    StorageUnavailable,
)
from lakery_cloud.maintenance import sweep
from lakery_cloud.testing import (
    Exchange,
    ScriptedProxy,
    chunked,
    content,
    digest_of,
    stream_of,
)
from lakery_cloud.testing.faults import (
    Answer,
    CutAnswer,
    Fault,
    ResetAfter,
    ResetBefore,
    SwallowAnswer,
)
from lakery_cloud.testing.faults.scripted import Script
from tests.conftest import rig_on
from tests.helpers import PATIENCE, write_stream
from tests.rigs.base import CloudRig, PairRig
from tests.rigs.pairs import PAIRS, PROFILE_PAIRS

CONTENTS = 6
"""Few, so that the same content is written again, deleted and read."""
EXAMPLES, STEPS = 12, 25
FEW_EXAMPLES = {"s3-localstack", "s3-seaweedfs", "gcs-composite"}
"""Pairs with two examples: the parts of these servers have 5 MiB, or the others of the cloud show the same."""
ATTEMPTS = 2
FULLY = {"memory", "file", "s3-aws", "gcs-strict", "azure-azurite"}
OPERATIONS = ("put", "begin_upload", "upload_part", "complete_upload", "copy", "head", "get", "delete", "list")
rig = rig_on(
    *(pair for pair in (*PAIRS, *PROFILE_PAIRS) if pair.is_live or pair.name in {*FULLY, *FEW_EXAMPLES}),
)
PASSING: tuple[Fault, ...] = (Answer(500), Answer(503), ResetBefore(), ResetAfter(), SwallowAnswer(), CutAnswer(0))


@dataclass(frozen=True)
class Trouble:
    """A fault from the nth request of an operation on, and how often it is used. It need not occur."""

    fault: Fault
    operation: str
    nth: int
    times: int

    def matches(self) -> Callable[[Exchange], bool]:
        """Which requests meet it."""
        numbers = itertools.count(1)
        return lambda exchange: exchange.neutral == self.operation and next(numbers) >= self.nth


troubles = st.none() | st.builds(
    Trouble, st.sampled_from(PASSING), st.sampled_from(OPERATIONS), st.integers(1, 3), st.sampled_from([1, 1, 1, 20])
)
"""Faults during one operation: mostly once, which retries must hide; or until the attempts are used up."""


class Model(RuleBasedStateMachine):
    """A storage and its model. What ends by an error may have happened or not; then the store is asked, around the proxy.

    hypothesis is synchronous, so each step is run on the event loop of the rig, in another thread.
    """

    stored = Bundle("stored")
    rig: PairRig
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def __init__(self) -> None:
        super().__init__()
        self.run(self._open())

    async def _open(self) -> None:
        for key in await self.rig.keys():
            await self.rig.delete(key)
        self.stack = AsyncExitStack()
        self.model = await self.stack.enter_async_context(MemoryStorage(part_size=self.rig.part_size))
        self.direct = await self.stack.enter_async_context(self.rig.storage())
        self.proxy = None
        options: dict[str, Any] = {}
        if isinstance(self.rig, CloudRig):
            self.proxy = await self.stack.enter_async_context(ScriptedProxy(self.rig.server_url))
            endpoint_url = self.rig.endpoint_url
            self.rig.point_to(self.proxy.url)
            options = {"max_attempts": ATTEMPTS}
        self.storage = await self.stack.enter_async_context(self.rig.storage(**options))
        if isinstance(self.rig, CloudRig):
            self.rig.endpoint_url = endpoint_url

    def teardown(self) -> None:
        self.run(self.stack.aclose())

    def data(self, number: int) -> bytes:
        """Contents of one request, of one part, and of more."""
        sizes = [0, 1, 1000, self.rig.part_size, self.rig.part_size + 1, self.rig.part_size * 5 // 2]
        return content(sizes[number], seed=number)

    async def attempt(self, trouble: Trouble | None, operation: Callable[[], Awaitable[Any]]) -> tuple[Any, bool]:
        """What an operation gave, and whether it ended. A fault that passes must not be noticed."""
        armed = self.arm(trouble) if trouble else None
        try:
            return await operation(), True
        except StorageUnavailable:
            assert armed is not None, "nothing went wrong on the wire"
            assert armed.fired >= ATTEMPTS, f"one failure is no reason to give up: {trouble}"
            return None, False
        finally:
            if armed is not None:
                armed.is_stopped = True

    def arm(self, trouble: Trouble) -> Script | None:
        """Let something go wrong, if there is a wire."""
        return self.proxy and self.proxy.script(trouble.matches(), trouble.fault, times=trouble.times)

    async def settle(self, number: int) -> None:
        """Update the model with the state of a content in the store, complete or missing; and remove leftovers."""
        async for _ in sweep(self.direct, older_than=timedelta(0)):
            pass
        digest = digest_of(self.data(number))
        if await self.direct.find(digest) is None:
            await self.model.delete(self.model.storage_data_of(digest))
        else:
            await self.model.write_data(self.data(number), digest, {})
            assert await self.direct.read_data(self.direct.storage_data_of(digest)) == self.data(number)

    @rule(target=stored, number=st.integers(0, CONTENTS - 1), trouble=troubles)
    def write_blob(self, number: int, trouble: Trouble | None) -> Any:
        async def steps() -> Any:
            data = self.data(number)
            digest = digest_of(data)
            storage_data, ended = await self.attempt(trouble, lambda: self.storage.write_data(data, digest, {}))
            return await self.after_writing(number, storage_data, ended=ended)

        return self.run(steps())

    @rule(target=stored, number=st.integers(0, CONTENTS - 1), size=st.integers(1, 10_000_000), trouble=troubles)
    def write_stream(self, number: int, size: int, trouble: Trouble | None) -> Any:
        async def steps() -> Any:
            data = self.data(number)
            stream = stream_of(chunked(data, [max(size, len(data) // 50)]))
            storage_data, ended = await self.attempt(trouble, lambda: write_stream(self.storage, stream, {}))
            return await self.after_writing(number, storage_data, ended=ended)

        return self.run(steps())

    async def after_writing(self, number: int, storage_data: Any, *, ended: bool) -> Any:
        if not ended:
            await self.settle(number)
            return multiple()
        digest = digest_of(self.data(number))
        assert storage_data == self.storage.storage_data_of(digest)
        await self.model.write_data(self.data(number), digest, {})
        return number

    @rule(number=st.integers(0, CONTENTS - 1), trouble=troubles)
    def write_what_fails(self, number: int, trouble: Trouble | None) -> None:
        async def steps() -> None:
            stream = stream_of([self.data(number)], failure=EOFError("the source is broken"))
            with pytest.raises((EOFError, StorageUnavailable)):
                await self.attempt_raising(trouble, stream)
            async for _ in sweep(self.direct, older_than=timedelta(0)):
                pass

        self.run(steps())

    async def attempt_raising(self, trouble: Trouble | None, stream: Any) -> None:
        _, ended = await self.attempt(trouble, lambda: write_stream(self.storage, stream, {}))
        if not ended:
            raise StorageUnavailable

    @rule(number=st.integers(0, CONTENTS - 1))
    def write_what_is_not_its_digest(self, number: int) -> None:
        async def steps() -> None:
            data = self.data(number) + b"!"
            with pytest.raises(IntegrityError):
                stream = stream_of([data])
                await self.storage.write_data_stream(stream, lambda **_: digest_of(self.data(number)), {})

        self.run(steps())

    @rule(number=st.integers(0, CONTENTS - 1), operation=st.sampled_from(OPERATIONS), nth=st.integers(1, 3))
    def cancel_a_write(self, number: int, operation: str, nth: int) -> None:
        """Cancelled when the server has answered a request, before the answer arrives; or not at all."""

        async def steps() -> None:
            unknown = set() if self.rig.shows_uploads else set(await self.rig.uploads())
            stream = stream_of([self.data(number)])
            writing = asyncio.ensure_future(write_stream(self.storage, stream, {}))
            armed = self.arm(Trouble(SwallowAnswer(), operation, nth, 1))
            if armed is None:
                await asyncio.sleep(0)
            else:
                fired = asyncio.ensure_future(armed.wait())
                await asyncio.wait([writing, fired], return_when=asyncio.FIRST_COMPLETED)
                fired.cancel()
                armed.is_stopped = True
            writing.cancel()
            await asyncio.wait([writing])
            if self.proxy is not None:
                await self.proxy.wait_until_idle()
            if operation != "begin_upload" or self.rig.shows_uploads:  # else the upload is unknown to the client
                assert set(await self.rig.uploads()) <= unknown
            await self.settle(number)

        self.run(steps())

    @rule(number=stored, trouble=troubles, is_stream=st.booleans())
    def read(self, number: int, trouble: Trouble | None, *, is_stream: bool) -> None:
        async def steps() -> None:
            digest = digest_of(self.data(number))
            storage_data = self.storage.storage_data_of(digest)

            async def read() -> bytes:
                if not is_stream:
                    return await self.storage.read_data(storage_data)
                async with aclosing(self.storage.read_data_stream(storage_data)) as chunks:
                    return b"".join([chunk async for chunk in chunks])

            try:
                data, ended = await self.attempt(trouble, read)
            except NoStorageData:
                assert await self.model.find(digest) is None
            else:
                assert not ended or (data == self.data(number) and await self.model.find(digest))

        self.run(steps())

    @rule(number=stored)
    def close_a_reader_early(self, number: int) -> None:
        async def steps() -> None:
            digest = digest_of(self.data(number))
            if await self.model.find(digest):
                async with aclosing(self.storage.read_data_stream(self.storage.storage_data_of(digest))) as chunks:
                    await anext(chunks, None)

        self.run(steps())

    @rule(number=st.integers(0, CONTENTS - 1), trouble=troubles)
    def find(self, number: int, trouble: Trouble | None) -> None:
        async def steps() -> None:
            digest = digest_of(self.data(number))
            found, ended = await self.attempt(trouble, lambda: self.storage.find(digest))
            assert not ended or (found is None) == (await self.model.find(digest) is None)

        self.run(steps())

    @rule(number=consumes(stored), trouble=troubles)
    def delete(self, number: int, trouble: Trouble | None) -> None:
        async def steps() -> None:
            digest = digest_of(self.data(number))
            _, ended = await self.attempt(trouble, lambda: self.storage.delete(self.storage.storage_data_of(digest)))
            await self.model.delete(self.model.storage_data_of(digest))
            if not ended:
                await self.settle(number)

        self.run(steps())

    @rule()
    def close(self) -> None:
        self.run(self.storage.aclose())

    @invariant()
    def same_content(self) -> None:
        async def steps() -> None:
            expected = {info.address.key for info in [info async for info in self.model.list()]}
            assert set(await self.rig.keys()) == expected

        self.run(steps())


@pytest.mark.case("45")
async def test_storage_does_what_memory_does(rig: PairRig, request: pytest.FixtureRequest) -> None:
    if isinstance(rig, CloudRig) and rig.is_live:
        pytest.skip("no proxy stands before a real account")
    loop = asyncio.get_running_loop()
    pair = request.node.callspec.params["rig"]

    class OnRig(Model):
        pass

    OnRig.rig = rig
    OnRig.run = staticmethod(lambda steps: asyncio.run_coroutine_threadsafe(steps, loop).result(PATIENCE))  # type: ignore[assignment]
    await asyncio.to_thread(
        run_state_machine_as_test,
        OnRig,
        settings=settings(
            max_examples=2 if pair.name in FEW_EXAMPLES else EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
