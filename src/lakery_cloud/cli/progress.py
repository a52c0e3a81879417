"""Progress on standard error: a bar for each transfer in progress and one for all, with rate and time left; or lines."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

from rich.filesize import decimal

from lakery_cloud.cli.words import PROGRESS, pluralize, printable
from lakery_cloud.streams.chunks import close_stream

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

Display: TypeAlias = "Progress | NoProgress"
"""What shows progress."""
PIECE_SIZE = 64 * 1024
"""Most bytes that a limited rate lets pass at once."""


def new_progress(columns: "Callable[[], Sequence[ProgressColumn]] | None" = None, *, quiet: bool) -> Display:
    """Return the display that the user has chosen: by default bars if standard error is a terminal.

    Args:
        columns: Makes the columns of a bar; None if its tasks count bytes.
        quiet: Show nothing.
    """
    mode = PROGRESS.get()
    if quiet or mode == "none" or (mode == "auto" and not _may_be_terminal()):
        return NoProgress()
    from lakery_cloud.cli.bars import PlainProgress, bars, transfer_columns

    if mode == "plain":
        return PlainProgress(is_transfer=columns is None)
    return bars((columns or transfer_columns)(), is_forced=mode == "bar") or NoProgress()


def _may_be_terminal() -> bool:
    """Whether rich, which takes long to import, could take standard error for a terminal."""
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stderr is not None and sys.stderr.isatty())


class NoProgress:
    """Progress that shows nothing."""

    disable = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        """Show nothing."""

    def stop(self) -> None:
        """Show nothing."""

    def add_task(self, description: str, *, total: float | None = None, visible: bool = True) -> "TaskID":
        """Return what names no task."""
        return cast("TaskID", 0)

    def advance(self, task_id: "TaskID", advance: float = 1) -> None:
        """Count nothing."""

    def update(self, task_id: "TaskID", **changes: Any) -> None:
        """Change nothing."""

    reset = update

    def remove_task(self, task_id: "TaskID") -> None:
        """Remove nothing."""


class RateLimit:
    """Lets at most so many bytes pass in a second, on average.

    Args:
        rate: Bytes a second.
        clock: Tells the time in seconds.
    """

    def __init__(self, rate: int, *, clock: Callable[[], float] = perf_counter) -> None:
        self._rate = rate
        self._clock = clock
        self._free_at = 0.0

    async def limited(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """Pass chunks on in small pieces, each when its time has come. Closes `chunks`."""
        try:
            async for chunk in chunks:
                for start in range(0, len(chunk), PIECE_SIZE):
                    piece = chunk[start : start + PIECE_SIZE]
                    now = self._clock()
                    begin = max(self._free_at, now)
                    self._free_at = begin + len(piece) / self._rate
                    await asyncio.sleep(begin - now)
                    yield piece
        finally:
            await close_stream(chunks)


class Transfers:
    """Progress bars of transfers, shown only if standard error is a terminal.

    Args:
        quiet: Show nothing.
        files: Number of files, or None if unknown. A total bar is shown unless it is 1.
        size: Total bytes of the files, or None if unknown.
        noun: Noun for a file in the total bar.
        limit: Limits the rate of all transfers together.
    """

    def __init__(
        self,
        *,
        quiet: bool,
        files: int | None = 1,
        size: int | None = None,
        noun: str = "file",
        limit: RateLimit | None = None,
    ) -> None:
        self._progress = new_progress(quiet=quiet)
        self._limit = limit
        self._files = files
        self._noun = noun
        self._done = 0
        self._all: TaskID | None = None
        if files != 1:
            self._all = self._progress.add_task(self._state(), total=size)

    @property
    def are_followed(self) -> bool:
        """Whether chunks must be followed: to show progress, or to limit their rate."""
        return self._limit is not None or not isinstance(self._progress, NoProgress)

    @contextlib.contextmanager
    def show(self) -> Iterator[None]:
        """Show the bars while the block runs."""
        with self._progress:
            yield

    @contextlib.contextmanager
    def bar(self, *, total: int | None) -> Iterator["Bar"]:
        """Add a bar for one file, and remove it when the block ends."""
        task = self._progress.add_task("", total=total, visible=False)
        try:
            yield Bar(self._progress, task, self._all, self._limit)
        finally:
            self._progress.remove_task(task)

    async def follow(
        self, chunks: AsyncIterable[bytes], *, description: str, total: int | None, is_transfer: bool = True
    ) -> AsyncGenerator[bytes]:
        """Pass chunks on and count them on a new bar, transferred ones also on the total bar. Closes `chunks`."""
        with self.bar(total=total) as bar:
            async with aclosing(bar.follow(chunks, description=description, is_transfer=is_transfer)) as followed:
                async for chunk in followed:
                    yield chunk

    def finish(self, *, skipped: int = 0) -> None:
        """Count a file as done, with the number of its bytes that were not transferred."""
        self._done += 1
        if self._all is not None:
            self._progress.update(self._all, description=self._state(), advance=skipped)

    def print(self, line: str) -> None:
        """Print a result to standard output, above the bars if that is their terminal."""
        print_above(self._progress, line)

    def _state(self) -> str:
        if self._files is None:
            return pluralize(self._done, self._noun)
        return f"{self._done} of {pluralize(self._files, self._noun)}"


class Bar:
    """The bar of one file, which may be read several times.

    Args:
        progress: The display.
        task: The task of the bar.
        all_files: The task of the total bar, if there is one.
        limit: Limits the rate of transfers.
    """

    def __init__(
        self, progress: Display, task: "TaskID", all_files: "TaskID | None", limit: RateLimit | None = None
    ) -> None:
        self._progress = progress
        self._task = task
        self._all = all_files
        self._limit = limit

    async def follow(
        self, chunks: AsyncIterable[bytes], *, description: str, is_transfer: bool = True
    ) -> AsyncGenerator[bytes]:
        """Reset the bar, pass chunks on and count them, transferred ones also on the total bar. Closes `chunks`."""
        self._progress.reset(self._task, description=printable(description), visible=True)
        if is_transfer and self._limit is not None:
            chunks = self._limit.limited(chunks)
        try:
            async for chunk in chunks:
                yield chunk
                self._progress.advance(self._task, len(chunk))
                if is_transfer and self._all is not None:
                    self._progress.advance(self._all, len(chunk))
        finally:
            await close_stream(chunks)


def print_above(progress: Display, line: str) -> None:
    """Print a result to standard output, without wrapping, and above the bars if that is their terminal."""
    if not isinstance(progress, NoProgress) and not progress.disable and sys.stdout is not None and sys.stdout.isatty():
        progress.console.print(line, soft_wrap=True, markup=False, highlight=False)
    else:
        print(line, flush=True)


class Summary:
    """Counts of a command that works on many files, printed as one line to standard error.

    Args:
        done: Participle for transferred bytes, such as `sent`.
        skipped: Participle for bytes that needed no transfer.
        noun: Noun for a file.
    """

    def __init__(self, done: str, *, skipped: str = "deduplicated", noun: str = "file") -> None:
        self._noun = noun
        self._words = done, skipped
        self._started = perf_counter()
        self._files = self._moved = self._skipped = 0

    def add(self, *, files: int = 1, moved: int = 0, skipped: int = 0) -> None:
        """Count a file, or several."""
        self._files += files
        self._moved += moved
        self._skipped += skipped

    def print(self, *, failed: int = 0) -> None:
        """Print the counts, the duration and the rate."""
        seconds = perf_counter() - self._started
        done, skipped = self._words
        parts = [
            pluralize(self._files, self._noun),
            f"{decimal(self._moved)} {done}",
            f"{decimal(self._skipped)} {skipped}",
            *([f"{failed} failed"] if failed else []),
            f"{seconds:.1f} seconds",
            f"{decimal(int(self._moved / seconds) if seconds else 0)}/s",
        ]
        print_note(", ".join(parts))


def print_note(text: str) -> None:
    """Print a line that is not a result to standard error."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
