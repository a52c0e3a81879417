"""Words that commands read and print. This room is imported by every command, and imports next to nothing itself."""

from contextvars import ContextVar

STANDARD_INPUT = "\0"
"""Replaces a bare `-` when the command line is read: no argument can contain a null byte, so it is unambiguous."""

PROGRESS: ContextVar[str] = ContextVar("progress", default="auto")
"""How the running command shows progress: `auto`, `bar`, `plain` or `none`."""


def pluralize(count: int, noun: str) -> str:
    """Format a count with its noun: `1 object`, `2 objects`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Escape a name that holds control characters, which could otherwise control the terminal."""
    return text if text.isprintable() else repr(text)
