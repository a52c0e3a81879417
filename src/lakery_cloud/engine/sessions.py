"""One open client for each event loop: opened on first use, closed with the storage, not shared with a forked process."""

import asyncio
import copy
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from lakery_cloud.engine.settings import EngineSettings
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError
from lakery_cloud.streams.budget import ByteBudget
from lakery_cloud.streams.pace import Link

REMEMBERED_KEYS = 10_000

# Clients that a fork copied into this process. They stay open, since closing them would disturb the parent.
_of_the_parent: list[Any] = []

_forks = 0
"""How many forks lie between this process and the one that imported the module. Asking for its id is a system call."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603, it is about the process
    _forks += 1


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_count_fork)


class Session:
    """A transport with the state of one storage on one event loop."""

    def __init__(self, transport: Transport, settings: EngineSettings) -> None:
        self.transport = transport
        self.settings = settings
        self.write_budget = ByteBudget(settings.max_buffered_bytes)
        # Separate from the writers' budget, since the consumer of a read may wait to write.
        self.read_budget = ByteBudget(settings.max_buffered_bytes)
        self.link = Link()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def with_transport(self, transport: Transport) -> "Session":
        """This session with another transport to the same store."""
        other = copy.copy(self)
        other.transport = transport
        return other

    def remember(self, key: str) -> None:
        """Remember that a key has content."""
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED_KEYS:
            self._seen.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget a key whose content was deleted."""
        self._seen.pop(key, None)

    def remembers(self, key: str) -> bool:
        """Whether a key had content: a hint that a look-up is cheaper than a write, no proof."""
        return key in self._seen


class Sessions:
    """The sessions of one storage, one per running event loop."""

    def __init__(self, open_transport: Callable[[], AbstractAsyncContextManager[Transport]]) -> None:
        self._open_transport = open_transport
        self._forks = _forks
        self._open: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Task[tuple[Session, AsyncExitStack]]
        ] = weakref.WeakKeyDictionary()

    async def current(self, settings: EngineSettings) -> Session:
        """The session of the running event loop.

        Raises:
            ConfigError: The event loop is not asyncio's.
        """
        loop = _running_loop()
        if self._forks != _forks:
            _of_the_parent.append(self._open)
            self._open, self._forks = weakref.WeakKeyDictionary(), _forks
        opening = self._open.get(loop)
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception())):
            # A task of its own, since cancelling one waiting caller must not end it for the others.
            opening = self._open[loop] = loop.create_task(self._new_session(settings))
        session, _ = opening.result() if opening.done() else await asyncio.shield(opening)
        return session

    async def aclose(self) -> None:
        """Close the session of the running event loop."""
        opening = self._open.pop(_running_loop(), None)
        if opening is None or self._forks != _forks:
            return
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            _, resources = opening.result()
            await resources.aclose()

    async def _new_session(self, settings: EngineSettings) -> tuple[Session, AsyncExitStack]:
        async with AsyncExitStack() as stack:
            transport = await stack.enter_async_context(self._open_transport())
            return Session(transport, settings), stack.pop_all()
        raise AssertionError("an exit stack never swallows an error")


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise ConfigError("lakery-cloud needs asyncio; run it with asyncio.run or anyio's asyncio backend") from error
