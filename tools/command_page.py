"""docs/reference/command.md: all commands and options, as `lakery-cloud --help` has them."""

import re

from lakery_cloud.cli.main import COMMANDS, app

HEAD = """\
# Command line

Every command and option, as `--help` prints them. [The command](../command.md) shows how to use them, and has the exit
codes. This page is generated from the code by `make pages`.
"""
_COMMAND = re.compile(r"^## ", re.MULTILINE)


_EMPTY = re.compile(r"^\*\*Parameters\*\*:\n+(?=#|\Z)", re.MULTILINE)
_USAGE = re.compile(r"^(#+ (.+)\n\n```text\n)\2[^\[\n]*", re.MULTILINE)
"""A heading, and the usage below it up to its options. Nested commands have the arguments of the running program there."""
_OFF = " *[default: False]*"


def command_page() -> str:
    """The page: what cyclopts writes, with the options of all commands only once."""
    for name, (_, summary) in COMMANDS.items():
        app[name].help = summary  # a command that was run with --help in this process has lost it
    written = app.generate_docs(output_format="markdown", usage_name=app.name[0]).replace(_OFF, "")
    _, overview, *commands = _COMMAND.split(written)
    overview = overview.partition("**Commands**:")[2]  # the site has its own table of contents
    shared = {line for line in overview.partition("**Parameters**:")[2].splitlines() if line.startswith("* ")}
    assert shared, "the command has no options"
    own = ("\n".join(line for line in command.splitlines() if line not in shared).strip() for command in commands)
    overview = overview.replace("**Parameters**:", "Options of every command:").strip()
    text = "\n\n".join([HEAD.strip(), overview, *(f"## {command}" for command in own)]) + "\n"
    text = text.replace("```console", "```text")  # blocks of shells in the documentation are run
    return re.sub(r"\n{3,}", "\n\n", _EMPTY.sub("", _USAGE.sub(r"\1\2 ", text)))
