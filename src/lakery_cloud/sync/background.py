"""An event loop in a thread of its own, and calls into it from threads that wait. Nothing here knows a storage."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from lakery_cloud.errors import ConfigError

T = TypeVar("T")

_END: Final = object()


class Caller:
    """The thread that waits for one call. It runs what the call asks of it, since what it gave belongs to it."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    async def chunks(self, source: Iterable[bytes]) -> AsyncGenerator[bytes]:
        """The items of an iterable, each made by the caller."""
        iterator = await self._run(partial(iter, source))
        while (chunk := await self._run(partial(next, iterator, _END))) is not _END:
            yield chunk

    def work(self) -> None:
        """Run what is asked, until the call has ended."""
        while (job := self._jobs.get()) is not None:
            job()

    def wait(self) -> None:
        """Wait until the call has ended, and leave undone what is asked."""
        while self._jobs.get() is not None:
            pass

    def dismiss(self, _: object = None) -> None:
        """Say that the call has ended."""
        self._jobs.put(None)

    async def _run(self, function: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def settle(result: object, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def job() -> None:
            # What is no Exception, such as KeyboardInterrupt, is the caller's own and ends the call.
            result, error = None, None
            try:
                result = function()
            except Exception as raised:  # noqa: BLE001, it is raised again where the result is awaited
                error = raised
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result, error)

        self._jobs.put(job)
        return await future


class BackgroundLoop:
    """Runs coroutines for other threads. Each call sees the context variables of its caller.

    Its thread is a daemon: it keeps no process alive.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._is_stopped = False
        self._scheduling = threading.Lock()
        self._open: set[AsyncGenerator[Any]] = set()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="lakery-cloud", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[Caller], Awaitable[T]]) -> T:
        """What a coroutine returns or raises. Whatever interrupts the wait cancels it, and waits for its clean-up.

        Raises:
            ConfigError: The loop is stopped, or can't be reached from here: after a fork, or on its own thread.
        """
        caller = Caller()
        tasks: list[asyncio.Task[T]] = []

        async def run() -> T:
            return await function(caller)

        def start() -> None:
            tasks.append(self._loop.create_task(run()))
            tasks[0].add_done_callback(caller.dismiss)

        def stop() -> None:
            if tasks:
                tasks[0].cancel()
            else:
                caller.dismiss()

        self._check_reachable()
        try:
            self._schedule(start)
            caller.work()
        except ConfigError:
            raise
        except BaseException:
            self._loop.call_soon_threadsafe(stop)
            caller.wait()
            raise
        try:
            return tasks.pop().result()
        except asyncio.CancelledError:
            raise ConfigError("this was closed by another thread before the call had ended") from None

    def iterate(self, source: AsyncGenerator[T]) -> Generator[T]:
        """The items of an asynchronous generator, which is closed when this one is."""
        self._open.add(source)
        try:
            while True:
                item: Any = self.call(lambda _: anext(source, _END))
                if item is _END:
                    return
                yield item
        finally:
            self._open.discard(source)
            self._close(source)

    def stop(self, finally_: Callable[[], Awaitable[None]]) -> None:
        """Close open streams, await what is to be done last, and end the thread. Once more, it does nothing."""
        if self._is_stopped or self._pid != os.getpid():
            return

        async def close(_: Caller) -> None:
            for source in list(self._open):
                with suppress(RuntimeError):  # another thread is reading it
                    await source.aclose()
            await finally_()

        on_own_thread = self._is_own_thread()  # of a garbage collector
        try:
            if not on_own_thread:
                self.call(close)
        finally:
            with self._scheduling:
                self._is_stopped = True
                self._loop.call_soon_threadsafe(self._stopping.set)
            if not on_own_thread:
                self._thread.join()

    def _run(self) -> None:
        # At the interpreter's exit no thread can be started any more, not even the one that waits for others.
        with suppress(RuntimeError), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stopping.wait())

    def _schedule(self, function: Callable[[], None]) -> None:
        with self._scheduling:
            if self._is_stopped:
                raise ConfigError("this is closed; open it again")
            self._loop.call_soon_threadsafe(function)

    def _close(self, source: AsyncGenerator[Any]) -> None:
        if self._is_stopped or self._pid != os.getpid():
            return
        if self._is_own_thread():
            self._loop.create_task(source.aclose())
        else:
            self.call(lambda _: source.aclose())

    def _check_reachable(self) -> None:
        if self._pid != os.getpid():
            raise ConfigError("this was opened before a fork, and its thread is in the parent; open it again here")
        if self._is_own_thread():
            raise ConfigError("a blocking call would wait for itself here; use the asynchronous storage")

    def _is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread.ident
