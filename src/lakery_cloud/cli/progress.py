"""Progress on standard error: a bar for each transfer in progress and one for all, with rate and time left."""

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

from lakery_cloud.cli.words import pluralize, printable
from lakery_cloud.streams.chunks import close_stream


class Transfers:
    """Progress bars of transfers, shown only if standard error is a terminal.

    Args:
        quiet: Show nothing.
        files: Number of files, or None if unknown. A total bar is shown unless it is 1.
        size: Total bytes of the files, or None if unknown.
        noun: Noun for a file in the total bar.
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
            # Otherwise rich would write redirected standard output to standard error.
            redirect_stdout=False,
            disable=quiet or not console.is_terminal,
        )
        self._files = files
        self._noun = noun
        self._done = 0
        self._all: TaskID | None = None
        if files != 1:
            self._all = self._progress.add_task(self._state(), total=size)

    @property
    def are_shown(self) -> bool:
        """Whether the bars are shown."""
        return not self._progress.disable

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
            yield Bar(self._progress, task, self._all)
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
    """

    def __init__(self, progress: Progress, task: TaskID, all_files: TaskID | None) -> None:
        self._progress = progress
        self._task = task
        self._all = all_files

    async def follow(
        self, chunks: AsyncIterable[bytes], *, description: str, is_transfer: bool = True
    ) -> AsyncGenerator[bytes]:
        """Reset the bar, pass chunks on and count them, transferred ones also on the total bar. Closes `chunks`."""
        self._progress.reset(self._task, description=printable(description), visible=True)
        try:
            async for chunk in chunks:
                yield chunk
                self._progress.advance(self._task, len(chunk))
                if is_transfer and self._all is not None:
                    self._progress.advance(self._all, len(chunk))
        finally:
            await close_stream(chunks)


def print_above(progress: Progress, line: str) -> None:
    """Print a result to standard output, without wrapping, and above the bars if that is their terminal."""
    if not progress.disable and sys.stdout.isatty():
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
    error_console().print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)


def error_console() -> Console:
    """Return a console on the current standard error."""
    return Console(stderr=True)
