"""What `--progress` shows by rich, which takes long to import: bars, and lines about them."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lakery_cloud.cli.progress import print_note

LINE_INTERVAL = 10.0
"""Seconds between the lines of plain progress."""


def transfer_columns() -> Sequence[ProgressColumn]:
    """Make the columns of a bar that counts bytes."""
    text, bar, rate = TextColumn("{task.description}", markup=False), BarColumn(), TransferSpeedColumn()
    return text, bar, DownloadColumn(), rate, TimeRemainingColumn()


def bars(columns: Sequence[ProgressColumn], *, is_forced: bool) -> Progress | None:
    """Return bars on standard error; None if it is no terminal, unless they are forced."""
    console = Console(stderr=True, force_terminal=is_forced or None)
    # Otherwise rich would write redirected standard output to standard error.
    return Progress(*columns, console=console, transient=True, redirect_stdout=False) if console.is_terminal else None


class PlainProgress(Progress):
    """Progress as lines on standard error: one every few seconds, and one at the end.

    Args:
        is_transfer: Whether tasks count bytes.
        clock: Tells the time in seconds.
    """

    def __init__(self, *, is_transfer: bool, clock: Callable[[], float] | None = None) -> None:
        super().__init__(console=Console(stderr=True), disable=True, redirect_stdout=False, get_time=clock)
        self._is_transfer = is_transfer
        self._next = self.get_time() + LINE_INTERVAL
        self._line = ""

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Count, and print a line if it is time."""
        super().advance(task_id, advance)
        self._note()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task, and print a line if it is time."""
        super().update(task_id, **changes)
        self._note()

    def remove_task(self, task_id: TaskID) -> None:
        """Remove a task; the last line says how it ended."""
        self._keep_line()
        super().remove_task(task_id)

    def stop(self) -> None:
        """Print the last line."""
        self._keep_line()
        if self._line:
            print_note(self._line)
        self._line = ""

    def _note(self) -> None:
        if self.get_time() >= self._next:
            self._next = self.get_time() + LINE_INTERVAL
            self._keep_line()
            print_note(self._line)

    def _keep_line(self) -> None:
        """Describe the first task, which is that of all files if there are several."""
        if not self.tasks:
            return
        task = self.tasks[0]
        if not self._is_transfer:
            self._line = f"{task.description} ({task.percentage:.0f}%)"
            return
        total = "" if task.total is None else f" of {decimal(int(task.total))}"
        rate = f", {decimal(int(task.speed))}/s" if task.speed else ""
        self._line = f"{task.description}: {decimal(int(task.completed))}{total}{rate}"
