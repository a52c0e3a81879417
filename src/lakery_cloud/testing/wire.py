"""A tap between the engine and a transport: it notes each request, and lets a test hold, fail or watch any of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.sessions import Sessions
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
    """What passed between a storage and its store, in transport operations such as `put` and `upload_part`.

    Attributes:
        log: Operations in the order in which they began.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self._rules: list[_Rule] = []
        self._counts: Counter[str] = Counter()

    def before(self, operation: str, action: Action, *, nth: int = 1) -> None:
        """Run an action before the nth request of an operation; what it raises fails the request, unsent."""
        self._rules.append(_Rule("before", operation, nth, action))

    def after(self, operation: str, action: Action, *, nth: int = 1) -> None:
        """Run an action when the nth request of an operation has succeeded in the store, unseen by the storage."""
        self._rules.append(_Rule("after", operation, nth, action))

    def hold(self, operation: str, *, nth: int = 1, moment: str = "before") -> "Hold":
        """Stop the nth request of an operation, before it is sent or after it was answered, until it is released."""
        hold = Hold()
        self._rules.append(_Rule(moment, operation, nth, hold.wait))
        return hold

    def count(self, operation: str) -> int:
        """How many requests of an operation began."""
        return self._counts[operation]

    def began(self, operation: str) -> int:
        """Note a request; its number, from 1."""
        self.log.append(operation)
        self._counts[operation] += 1
        return self._counts[operation]

    async def at(self, moment: str, operation: str, number: int) -> None:
        """Run the actions for this moment of this request."""
        for rule in self._rules:
            if (rule.moment, rule.operation, rule.nth) == (moment, operation, number):
                await rule.action()


class Hold:
    """A request that waits for a test."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._released = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the release."""
        self.reached.set()
        await self._released.wait()

    def release(self) -> None:
        """Let the request go on."""
        self._released.set()


def tap(storage: ObjectStorage[Any]) -> Wire:
    """Tap a storage that was not used yet."""
    wire = Wire()
    open_transport = storage._open_transport

    @asynccontextmanager
    async def open_tapped() -> AsyncGenerator[Transport]:
        async with open_transport() as transport:
            yield cast("Transport", _Tapped(transport, wire))

    storage._sessions = Sessions(open_tapped)
    return wire


class _Tapped:
    """Passes everything on to a transport; requests pass by the wire."""

    def __init__(self, transport: Transport, wire: Wire) -> None:
        self._transport = transport
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._transport, name)
        return self._tapped(name, found) if name in REQUESTS else found

    @asynccontextmanager
    async def get(self, *args: Any, **options: Any) -> AsyncGenerator[Any]:
        number = self._wire.began("get")
        await self._wire.at("before", "get", number)
        async with self._transport.get(*args, **options) as body:
            await self._wire.at("after", "get", number)
            yield body

    def _tapped(self, operation: str, request: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any, **options: Any) -> Any:
            number = self._wire.began(operation)
            await self._wire.at("before", operation, number)
            answer = await request(*args, **options)
            await self._wire.at("after", operation, number)
            return answer

        return run
