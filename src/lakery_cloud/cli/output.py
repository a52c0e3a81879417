"""Standard output whose errors name it, also where the shell has closed it."""

import io
import os
import sys
from typing import Any, NoReturn

from lakery_cloud.errors import ConfigError

STANDARD_OUTPUT = "standard output"
CLOSED_OUTPUT = f"{STANDARD_OUTPUT} is closed"


def open_output() -> None:
    """Replace `sys.stdout` by one whose errors name it. Names of files need not be text, so it accepts all."""
    if sys.stdout is None:  # the shell has closed it: >&-
        sys.stdout = _Closed()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(sys.stdout.fileno(), "wb", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            line_buffering=sys.stdout.line_buffering,
        )


def close_output() -> None:
    """Print nothing more to standard output, not even what the interpreter would flush at its exit."""
    if isinstance(sys.stdout, io.TextIOWrapper) and isinstance(getattr(sys.stdout.buffer, "raw", None), _Descriptor):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    sys.stdout = None


class _Descriptor(io.FileIO):
    """A descriptor whose errors, such as a full disk, name standard output."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error


class _Closed(io.TextIOBase):
    """Standard output that the shell has closed. A command that prints nothing never notices."""

    def write(self, text: str, /) -> NoReturn:
        raise ConfigError(CLOSED_OUTPUT)

    def fileno(self) -> NoReturn:
        raise ConfigError(CLOSED_OUTPUT)
