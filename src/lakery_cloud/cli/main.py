"""Entry point of `lakery-cloud`: registers the commands, and turns errors into one line and an exit code."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from lakery_cloud import __version__
from lakery_cloud.cli.failures import (
    CLOSED,
    EXIT_CODES,
    INTERRUPTED,
    TERMINATED,
    USAGE,
    exit_code_of,
    print_error,
    print_in_red,
    print_json_error,
)
from lakery_cloud.cli.log import mute_other_libraries, show_log
from lakery_cloud.cli.loops import use_uvloop
from lakery_cloud.cli.output import STANDARD_OUTPUT, close_output, open_output
from lakery_cloud.cli.words import PROGRESS, STANDARD_INPUT
from lakery_cloud.errors import ConfigError, LakeryCloudError
from lakery_cloud.redaction import redact

__all__ = ["COMMANDS", "EXIT_CODES", "app", "main", "run"]

COMMANDS = {
    "put": ("put:put", "Save files, and print one record (a line of JSON) for each, in their order."),
    "get": ("get:get", "Load and verify content, and write it to standard output, a file, or a folder."),
    "copy": ("copy:copy", "Copy content from one storage to another, also across clouds, and print the new records."),
    "ls": ("objects:ls", "List content: hash, size, time, and the file name if a records file has it."),
    "stat": ("objects:stat", "Show the properties of stored content: size, type, key, version, time and tags."),
    "rm": ("objects:rm", "Delete content. Content that does not exist is not an error."),
    "sweep": (
        "upkeep:sweep",
        "List temporary objects and unfinished uploads that killed writers left behind; with --yes delete them.",
    ),
    "lifecycle": (
        "upkeep:lifecycle",
        "Print lifecycle rules that remove temporary objects and unfinished uploads; with --apply set them in the bucket.",
    ),
    "verify": (
        "verify:verify",
        "Read all content of a storage, and list damaged, truncated and misplaced objects. Exits with 5 if there are any.",
    ),
    "inventory": ("stock:inventory", "Write a list of all content: hash, size, time and version."),
    "orphans": ("stock:orphans", "List content that is stored and that no record names, whatever its age."),
    "dangling": (
        "stock:dangling",
        "List content that records name and that is not stored. Exits with 3 if there is any.",
    ),
    "gc": (
        "gc:gc",
        "Find content that no record needs; with --yes move it into quarantine, and delete what was not missed there.",
    ),
    "config": ("configuration:config", "Create, show and check the configuration."),
    "explain": (
        "configuration:explain",
        "Show where a file would be saved, by which rule, and the source of the credentials, without any request.",
    ),
    "storages": (
        "configuration:storages",
        "List the configured storages: key, permanent name, bucket and prefix, and source of the credentials.",
    ),
    "doctor": (
        "doctor:doctor",
        "Check a storage and print what to grant or to fix. All objects of the checks are deleted at the end.",
    ),
    "url": ("url:url", "Print a URL that gets content until it expires, or with --put one that puts a file's content."),
    "emulators": (
        "emulators:app",
        "Run local servers for S3, Cloud Storage and Blob Storage, without Docker or an account.",
    ),
    "completion": ("completion:completion", "Print the completion of a shell: bash, zsh or fish."),
}
"""Command -> its function, which is imported only to run it, and the first paragraph of its docstring."""

app = App(
    name="lakery-cloud",
    help="Persist data by content hash on S3, Google Cloud Storage, Azure Blob Storage, or in files. A storage is a name "
    "from your lakery-cloud.toml or a URL: s3://bucket/prefix, gs://bucket, az://container, file:///folder.",
    version=__version__,
    suppress_keyboard_interrupt=False,
)


def _wrong_usage(error: CycloptsError) -> str:
    """Say what is wrong with the arguments."""
    if not isinstance(error, UnusedCliTokensError) or not error.unused_tokens:
        return str(error)
    words = " ".join(map(repr, error.unused_tokens))
    advice = "; name a storage by --storage" if "/" in error.unused_tokens[0] else ""
    return f"unexpected argument {words}{advice}"


for name, (function, summary) in COMMANDS.items():
    app.command(f"lakery_cloud.cli.{function}", name=name, help=summary)
app.command(
    "lakery_cloud.cli.completion:install",
    name="--install-completion",
    help="Set up completion for your shell: bash, zsh or fish. With --output only write that file.",
)


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative="", help="Show the traceback of an error.")] = False,
    verbose: Annotated[
        int, Parameter(name=["--verbose", "-v"], count=True, help="Show the library's log; -vv shows more.")
    ] = 0,
    progress: Annotated[
        Literal["auto", "bar", "plain", "none"],
        Parameter(help="Show progress as bars or as lines; auto shows bars on a terminal."),
    ] = "auto",
) -> int:
    """Run one command, and turn its errors into a line and an exit code."""
    if verbose:
        show_log(logging.INFO if verbose == 1 else logging.DEBUG)
    PROGRESS.set(progress)
    try:
        # Cyclopts parses a bare - as an option.
        words = [STANDARD_INPUT if word == "-" else word for word in tokens]
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        _flush()
    except CycloptsError as error:
        return _report(error, tokens, debug=debug)
    except KeyboardInterrupt:
        from lakery_cloud.cli.progress import print_note

        print_note("interrupted; unfinished transfers were cleaned up")
        return INTERRUPTED
    except BrokenPipeError:
        return _stop_printing()
    except (LakeryCloudError, OSError) as error:
        return _report(error, tokens, debug=debug)
    return code if isinstance(code, int) else 0


def _report(error: Exception, words: Sequence[str], *, debug: bool) -> int:
    """Print the error that has ended a command, and return its exit code."""
    if isinstance(error, CycloptsError):
        print_in_red("Usage", redact(_wrong_usage(error)))
    elif debug:
        print(redact("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    else:
        print_error(error)
    if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT:
        close_output()
    elif "--json" in words:
        try:
            print_json_error(ConfigError(_wrong_usage(error)) if isinstance(error, CycloptsError) else error)
        except BrokenPipeError:
            return _stop_printing()
        except (ConfigError, OSError):  # standard output is closed or full; standard error has the message
            close_output()
    return USAGE if isinstance(error, CycloptsError) else exit_code_of(error)


def _flush() -> None:
    """Write what is printed, while errors can still be reported."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _stop_printing() -> int:
    """End quietly, since the reader of the pipe is gone."""
    close_output()
    return CLOSED


def run(words: Sequence[str]) -> int:
    """Run a command line without the program's name, and return its exit code."""
    command = next((word for word in words if not word.startswith("-")), None)
    if command in COMMANDS and not {*app.help_flags}.isdisjoint(words) and app[command].default_command is not None:
        app[command].help = None  # its docstring, of which the list of commands has the first paragraph
    try:
        code: int = app.meta(words, exit_on_error=False, print_error=False, result_action="return_value")
        _flush()
    except BrokenPipeError:
        return _stop_printing()
    except (CycloptsError, LakeryCloudError, OSError) as error:  # outside of commands, as in the printing of help
        return _report(error, (), debug=False)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich ends the program when the reader of help is gone
            return _stop_printing()
        raise
    return code


def main() -> None:
    """Run the console script."""
    is_terminated = False

    def clean_up(_: int, __: FrameType | None) -> None:
        nonlocal is_terminated
        is_terminated = True
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a script's shell ignores SIGINT for jobs run with `&`
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    _occupy_standard_descriptors()
    if any(not word.startswith("-") for word in sys.argv[1:]):  # a command, which may need an event loop
        use_uvloop()
    open_output()
    mute_other_libraries()
    # SIGTERM acts as Ctrl-C, which cleans up; a second signal of either kind ends the clean-up.
    signal.signal(signal.SIGTERM, clean_up)
    code = run(sys.argv[1:])
    sys.exit(TERMINATED if is_terminated and code == INTERRUPTED else code)


def _occupy_standard_descriptors() -> None:
    """Keep files and event loops from getting the number of a standard stream that the shell has closed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
