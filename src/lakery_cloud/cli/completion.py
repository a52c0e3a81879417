"""`completion` prints the completion of a shell, and `--install-completion` sets it up. Cyclopts generates it."""

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lakery_cloud.cli.common import Json, Quiet
from lakery_cloud.errors import ConfigError

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Shell, *, quiet: Quiet = False, as_json: Json = False) -> None:  # noqa: ARG001, as all commands
    """Print the completion of a shell: bash, zsh or fish.

    Example: `lakery-cloud completion bash > ~/.local/share/bash-completion/completions/lakery-cloud`

    Args:
        shell: The shell.
        quiet: Changes nothing; the completion is the only output.
        as_json: Print one JSON object: shell and completion.
    """
    script = _script(shell)
    print(json.dumps({"shell": shell, "completion": script}) + "\n" if as_json else script, end="")


def install(
    *,
    shell: Shell | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """Set up completion for your shell: bash, zsh or fish. With --output only write that file.

    Args:
        shell: The shell. Defaults to the one that runs the command.
        output: The only file to write. Without it, the completion is installed in your home folder.
    """
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    from lakery_cloud.cli.main import app

    try:
        found = shell or detect_shell()
    except ShellDetectionError as error:
        raise ConfigError("the shell is unknown; name it with --shell bash, zsh or fish") from error
    if found not in ("bash", "zsh", "fish"):
        raise ConfigError(f"there is no completion for {found!r}; name bash, zsh or fish with --shell")
    if output is None:
        print(f"installed {app.install_completion(shell=found)}; start a new shell to use it")
        return
    try:
        output.write_text(_script(found), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the completion can't be written: {error}") from error


def _script(shell: Shell) -> str:
    from lakery_cloud.cli.main import app

    return app.generate_completion(shell=shell)
