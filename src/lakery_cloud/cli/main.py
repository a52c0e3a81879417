"""Entry point of `lakery-cloud`: registers the commands, and turns errors into one line and an exit code."""

import asyncio
import io
import logging
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.text import Text

from lakery_cloud import __version__
from lakery_cloud.cli import (
    configuration,
    doctor,
    objects,
    upkeep,
    url,
)
from lakery_cloud.cli.copy import copy
from lakery_cloud.cli.failures import (
    EXIT_CODES,
    FAILED,
    INTERRUPTED,
    TERMINATED,
    USAGE,
    exit_code_of,
    print_error,
)
from lakery_cloud.cli.get import get
from lakery_cloud.cli.log import show_log
from lakery_cloud.cli.put import put
from lakery_cloud.cli.records import STANDARD_INPUT
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.redaction import redact

__all__ = ["EXIT_CODES", "app", "main"]

app = App(
    name="lakery-cloud",
    help="Persist data by content hash on S3, Google Cloud Storage, Azure Blob Storage, or in files. A storage is a name "
    "from your lakery-cloud.toml or a URL: s3://bucket/prefix, gs://bucket, az://container, file:///folder.",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
app.error_formatter = lambda error: Text.assemble(("Usage: ", "red"), redact(str(error)))
app.command(put)
app.command(get)
app.command(copy)
app.command(objects.ls)
app.command(objects.stat)
app.command(objects.rm)
app.command(upkeep.sweep)
app.command(upkeep.lifecycle)
app.command(upkeep.verify)
app.command(configuration.config)
app.command(configuration.explain)
app.command(configuration.storages)
app.command(doctor.doctor)
app.command(url.url)
app.command(
    "lakery_cloud.cli.emulators:app",  # a string, so that other commands start without importing it
    name="emulators",
    help="Run local servers for S3, Cloud Storage and Blob Storage, without Docker or an account.",
)
app.register_install_completion_command(help="Set up completion for your shell: bash, zsh or fish.")


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative="", help="Show the traceback of an error.")] = False,
    verbose: Annotated[
        int, Parameter(name=["--verbose", "-v"], count=True, help="Show the library's log; -vv shows more.")
    ] = 0,
) -> int:
    """Run one command, and turn its errors into a line and an exit code."""
    errors = Console(stderr=True, soft_wrap=True)
    if verbose:
        show_log(logging.INFO if verbose == 1 else logging.DEBUG)
    try:
        # Cyclopts parses a bare - as an option.
        words = [STANDARD_INPUT if word == "-" else word for word in tokens]
        code = app(words, exit_on_error=False, result_action="return_value", error_console=errors)
    except CycloptsError:
        return USAGE
    except KeyboardInterrupt:
        errors.print("interrupted; unfinished transfers were cleaned up")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # the reader of the pipe is gone, so the interpreter must not flush to it at exit
        return FAILED
    except (LakeryCloudError, OSError) as error:
        if debug:
            print(redact("".join(traceback.format_exception(error))), file=sys.stderr, end="")
        else:
            print_error(error)
        return exit_code_of(error)
    return code if isinstance(code, int) else 0


def main() -> None:
    """Run the console script."""
    is_terminated = False

    def clean_up(_: int, __: FrameType | None) -> None:
        nonlocal is_terminated
        is_terminated = True
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a script's shell ignores SIGINT for jobs run with `&`
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name of a file need not be text
    # SIGTERM acts as Ctrl-C, which cleans up; a second signal of either kind ends the clean-up.
    signal.signal(signal.SIGTERM, clean_up)
    try:
        code = app.meta(exit_on_error=False, result_action="return_value")
    except CycloptsError:
        code = USAGE
    sys.exit(TERMINATED if is_terminated and code == INTERRUPTED else code)
