"""Entry point of `lakery-cloud`: the commands, one-line errors and exit codes."""

import asyncio
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from lakery_cloud import __version__
from lakery_cloud.cli import objects, transfer, upkeep
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidRecord,
    InvalidTags,
    LakeryCloudError,
    MissingDependency,
    NameConflict,
    NoStorageData,
    NotRegistered,
    StorageUnavailable,
)

FAILED, USAGE, NOT_FOUND, DENIED, DAMAGED, UNAVAILABLE, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 5, 6, 130, 143

EXIT_CODES: tuple[tuple[int, tuple[type[Exception], ...]], ...] = (
    (USAGE, (ConfigError, InvalidTags, InvalidRecord, NotRegistered, NameConflict, MissingDependency)),
    (NOT_FOUND, (NoStorageData, BucketNotFound)),
    (DENIED, (AccessDenied, CredentialsError)),
    (DAMAGED, (IntegrityError,)),
    (UNAVAILABLE, (StorageUnavailable,)),
)
"""Exit code -> errors; what is not here is `FAILED`. docs/command.md tells users."""

app = App(
    name="lakery-cloud",
    help="Persist data by content hash on S3, or in files. Storages are URLs: s3://bucket/prefix, file:///folder.",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
app.error_formatter = lambda error: Text.assemble(("Usage: ", "red"), str(error))
app.command(transfer.put)
app.command(transfer.get)
app.command(objects.ls)
app.command(objects.stat)
app.command(objects.rm)
app.command(upkeep.sweep)
app.command(upkeep.lifecycle)
app.command(upkeep.verify)


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative="", help="Show the traceback of an error.")] = False,
) -> int:
    """Run one command and turn its errors into a line and an exit code."""
    errors = Console(stderr=True, soft_wrap=True)
    try:
        app(tokens, exit_on_error=False, result_action="return_value", error_console=errors)
    except CycloptsError:
        return USAGE
    except KeyboardInterrupt:
        errors.print("interrupted; what was under way was cleaned up")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; nothing is left to say to it.
        sys.stdout = None
        return FAILED
    except (LakeryCloudError, OSError) as error:
        if debug:
            traceback.print_exc()
        else:
            errors.print(f"[red]{_public_name(error)}:[/red] {escape(str(error))}", highlight=False)
        return next((code for code, kinds in EXIT_CODES if isinstance(error, kinds)), FAILED)
    return 0


def _public_name(error: Exception) -> str:
    """The name by which the documentation calls an error; some have a private subclass."""
    public = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ in ("lakery_cloud.errors", "builtins"))
    return next(public)


def main() -> None:
    """The console script."""
    is_terminated = False

    def clean_up(_: int, __: FrameType | None) -> None:
        nonlocal is_terminated
        is_terminated = True
        signal.raise_signal(signal.SIGINT)

    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    # Like Ctrl-C, so that what is under way is cleaned up; a second signal of either kind doesn't wait for that.
    signal.signal(signal.SIGTERM, clean_up)
    try:
        code = app.meta(exit_on_error=False, result_action="return_value")
    except CycloptsError:
        code = USAGE
    sys.exit(TERMINATED if is_terminated and code == INTERRUPTED else code)
