"""Progress of transfers on standard error: one bar for each file under way, one for all, with rate and time left."""

import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import aclosing
from time import perf_counter

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lakery_cloud.cli.common import counted
from lakery_cloud.streams.chunks import close_stream


class Transfers:
    """Bars of transfers; none where standard error is no terminal.

    Args:
        quiet: Show nothing.
        files: How many there are, None where that is not known; a bar for all is shown unless it is one.
        size: Bytes of all of them, where that is known.
        noun: What they are.
    """

    def __init__(self, *, quiet: bool, files: int | None = 1, size: int | None = None, noun: str = "file") -> None:
        console = error_console()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            # Else rich would send to standard error what belongs on standard output.
            redirect_stdout=False,
            disable=quiet or not console.is_terminal,
        )
        self._files = files
        self._noun = noun
        self._done = 0
        self._all: TaskID | None = None
        if files != 1:
            self._all = self._progress.add_task(self._state(), total=size)

    @contextlib.contextmanager
    def show(self) -> Iterator[None]:
        """Show the bars while the block runs."""
        with self._progress:
            yield

    @contextlib.contextmanager
    def bar(self, *, total: int | None) -> Iterator["Bar"]:
        """A bar for one file, shown until the block ends."""
        task = self._progress.add_task("", total=total, visible=False)
        try:
            yield Bar(self._progress, task, self._all)
        finally:
            self._progress.remove_task(task)

    async def follow(
        self, chunks: AsyncIterable[bytes], *, description: str, total: int | None, counts: bool = True
    ) -> AsyncGenerator[bytes]:
        """The chunks, counted on a bar of their own and, if it `counts`, on that of all; closed at the end."""
        with self.bar(total=total) as bar:
            async with aclosing(bar.follow(chunks, description=description, counts=counts)) as followed:
                async for chunk in followed:
                    yield chunk

    def finish(self, *, skipped: int = 0) -> None:
        """Count a file as done, with the bytes of it that did not have to travel."""
        self._done += 1
        if self._all is not None:
            self._progress.update(self._all, description=self._state(), advance=skipped)

    def print(self, line: str) -> None:
        """Print a line of results to standard output; where that is the terminal of the bars, above them."""
        print_above(self._progress, line)

    def _state(self) -> str:
        if self._files is None:
            return counted(self._done, self._noun)
        return f"{self._done} of {counted(self._files, self._noun)}"


class Bar:
    """The bar of one file, which may be read several times.

    Args:
        progress: What shows it.
        task: The bar.
        all_files: The bar of all files, if there is one.
    """

    def __init__(self, progress: Progress, task: TaskID, all_files: TaskID | None) -> None:
        self._progress = progress
        self._task = task
        self._all = all_files

    async def follow(
        self, chunks: AsyncIterable[bytes], *, description: str, counts: bool = True
    ) -> AsyncGenerator[bytes]:
        """The chunks, counted from the bar's beginning and, if it `counts`, on that of all; closed at the end."""
        self._progress.reset(self._task, description=printable(description), visible=True)
        try:
            async for chunk in chunks:
                yield chunk
                self._progress.advance(self._task, len(chunk))
                if counts and self._all is not None:
                    self._progress.advance(self._all, len(chunk))
        finally:
            await close_stream(chunks)


def print_above(progress: Progress, line: str) -> None:
    """Print a line of results to standard output; where that is the terminal of the bars, above them and not wrapped."""
    if not progress.disable and sys.stdout.isatty():
        progress.console.print(line, soft_wrap=True, markup=False, highlight=False)
    else:
        print(line, flush=True)


class Summary:
    """What a command has done with many files, told in one line on standard error.

    Args:
        done: What became of a file that travelled, such as `sent`.
        skipped: What is said of bytes that need not travel.
        noun: What the files are.
    """

    def __init__(self, done: str, *, skipped: str = "deduplicated", noun: str = "file") -> None:
        self._noun = noun
        self._words = done, skipped
        self._started = perf_counter()
        self._files = self._moved = self._skipped = 0

    def add(self, *, moved: int = 0, skipped: int = 0) -> None:
        """Count a file."""
        self._files += 1
        self._moved += moved
        self._skipped += skipped

    def tell(self, *, failed: int = 0) -> None:
        """Print the line."""
        seconds = perf_counter() - self._started
        done, skipped = self._words
        parts = [
            counted(self._files, self._noun),
            f"{decimal(self._moved)} {done}",
            f"{decimal(self._skipped)} {skipped}",
            *([f"{failed} failed"] if failed else []),
            f"{seconds:.1f} seconds",
            f"{decimal(int(self._moved / seconds) if seconds else 0)}/s",
        ]
        note(", ".join(parts))


def note(text: str) -> None:
    """Say something on standard error, beside the output."""
    error_console().print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)


def error_console() -> Console:
    """Standard error as it is now."""
    return Console(stderr=True)


def printable(text: str) -> str:
    """A name as a terminal may show it: what could steer the terminal, or has no character, is escaped."""
    return text if text.isprintable() else repr(text)
