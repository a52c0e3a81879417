"""An event loop in a background thread, and blocking calls into it. Knows no storage."""

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
    """The thread that waits for calls. It iterates its own iterables for them, since they may be bound to it."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    async def items(self, source: Iterable[T]) -> AsyncGenerator[T]:
        """Yield the items of an iterable, which is iterated in the calling thread, while it waits for a call."""
        iterator = await self._run(partial(iter, source))
        while (item := await self._run(partial(next, iterator, _END))) is not _END:
            yield item
            del item

    def work(self) -> None:
        """Run the call's jobs until the call ends."""
        while (job := self._jobs.get()) is not None:
            job()

    def wait(self) -> None:
        """Wait until the call ends, and discard its jobs."""
        while self._jobs.get() is not None:
            pass

    def dismiss(self, _: object = None) -> None:
        """Signal the end of the call."""
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
            # Other errors, such as KeyboardInterrupt, belong to the caller and end the call.
            result, error = None, None
            try:
                result = function()
            except Exception as raised:  # noqa: BLE001, raised again where the result is awaited
                error = raised
            with suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(settle, result, error)

        self._jobs.put(job)
        return await future


class BackgroundLoop:
    """Runs coroutines for other threads, each with the context variables of its caller.

    The thread is a daemon, so it does not keep the process alive.
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

    def call(self, function: Callable[[Caller], Awaitable[T]], caller: Caller | None = None) -> T:
        """Run a coroutine and return its result. If the wait is interrupted, cancel it and wait for its clean-up.

        Args:
            function: The coroutine function.
            caller: The caller, if its iterables are used by several calls.

        Raises:
            ConfigError: The loop is stopped, belongs to the parent process, or runs the calling thread itself.
        """
        caller = caller or Caller()
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
            raise ConfigError("the call was cancelled, since another thread closed the storage or registry") from None

    def iterate(self, source: AsyncGenerator[T], caller: Caller | None = None) -> Generator[T]:
        """Yield the items of an asynchronous generator, and close it at the end.

        Args:
            source: The generator.
            caller: The caller whose iterables the generator uses.
        """
        self._open.add(source)
        try:
            while True:
                item: Any = self.call(lambda _: anext(source, _END), caller)
                if item is _END:
                    return
                yield item
        finally:
            self._open.discard(source)
            self._close(source)

    def stop(self, finally_: Callable[[], Awaitable[None]]) -> None:
        """Close open streams, await `finally_`, and end the thread. Further calls do nothing."""
        if self._is_stopped or self._pid != os.getpid():
            return

        async def close(_: Caller) -> None:
            for source in list(self._open):
                with suppress(RuntimeError):  # another thread is reading it
                    await source.aclose()
            await finally_()

        is_own_thread = self._is_own_thread()  # if the garbage collector runs there
        try:
            if not is_own_thread:
                self.call(close)
        finally:
            with self._scheduling:
                self._is_stopped = True
                self._loop.call_soon_threadsafe(self._stopping.set)
            if not is_own_thread:
                self._thread.join()

    def _run(self) -> None:
        # At the interpreter's exit no thread can start, not even the one by which the runner joins the executor.
        with suppress(RuntimeError), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stopping.wait())

    def _schedule(self, function: Callable[[], None]) -> None:
        with self._scheduling:
            if self._is_stopped:
                raise ConfigError("the storage or registry is closed; open it again")
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
            raise ConfigError("the storage or registry was opened before a fork; open it again in this process")
        if self._is_own_thread():
            raise ConfigError(
                "a blocking call on its own background thread would never end; use the asynchronous methods"
            )

    def _is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread.ident
