"""A tap between the engine and a transport: it logs each request and lets a test hold, fail or observe requests."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.telemetry.transport import REQUESTS
from lakery_cloud.engine.transport import Transport

Action = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class _Rule:
    moment: str
    operation: str
    nth: int
    action: Action


class Wire:
    """The requests of a storage, as transport operations such as `put` and `upload_part`.

    Attributes:
        log: Operations, in the order in which they started.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self._rules: list[_Rule] = []
        self._counts: Counter[str] = Counter()

    def before(self, operation: str, action: Action, *, nth: int = 1) -> None:
        """Run an action before the nth request of an operation. An exception in it fails the request, which is not sent."""
        self._rules.append(_Rule("before", operation, nth, action))

    def after(self, operation: str, action: Action, *, nth: int = 1) -> None:
        """Run an action when the nth request of an operation has succeeded, before the storage gets the result."""
        self._rules.append(_Rule("after", operation, nth, action))

    def hold(self, operation: str, *, nth: int = 1, moment: str = "before") -> "Hold":
        """Hold the nth request of an operation, before it is sent or after its response, until you release it."""
        hold = Hold()
        self._rules.append(_Rule(moment, operation, nth, hold.wait))
        return hold

    def count(self, operation: str) -> int:
        """Return how many requests of an operation started."""
        return self._counts[operation]

    def start(self, operation: str) -> int:
        """Log a request and return its number among those of the operation, from 1."""
        self.log.append(operation)
        self._counts[operation] += 1
        return self._counts[operation]

    async def run_actions(self, moment: str, operation: str, number: int) -> None:
        """Run the actions for this moment of a request."""
        for rule in self._rules:
            if (rule.moment, rule.operation, rule.nth) == (moment, operation, number):
                await rule.action()


class Hold:
    """A hold on a request. `reached` is set when the request waits."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    async def wait(self) -> None:
        """Wait until the hold is released."""
        self.reached.set()
        await self._released.wait()

    async def reached_by(self, task: "asyncio.Task[Any]") -> None:
        """Wait until the request of a task waits. If the task ends without it, raise the error of the task."""
        reached = asyncio.create_task(self.reached.wait())
        try:
            await asyncio.wait({reached, task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reached.cancel()
        if not self.reached.is_set():
            await task
            raise AssertionError("the task ended without the request")

    def release(self) -> None:
        """Let the request continue."""
        self._released.set()


def tap(storage: ObjectStorage[Any]) -> Wire:
    """Tap a storage before its first use."""
    wire = Wire()
    storage.wrap_transports(lambda transport: cast("Transport", _Tapped(transport, wire)))
    return wire


class _Tapped:
    """A transport that reports its requests to a `Wire`."""

    def __init__(self, transport: Transport, wire: Wire) -> None:
        self._transport = transport
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._transport, name)
        return self._tapped(name, found) if name in REQUESTS else found

    @asynccontextmanager
    async def get(self, *args: Any, **options: Any) -> AsyncGenerator[Any]:
        number = self._wire.start("get")
        await self._wire.run_actions("before", "get", number)
        async with self._transport.get(*args, **options) as body:
            await self._wire.run_actions("after", "get", number)
            yield body

    def _tapped(self, operation: str, request: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any, **options: Any) -> Any:
            number = self._wire.start(operation)
            await self._wire.run_actions("before", operation, number)
            result = await request(*args, **options)
            await self._wire.run_actions("after", operation, number)
            return result

        return run
