"""The output of the command on a terminal: progress, records above it, the log, and completion in the shell."""

import json
import logging
import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from lakery_cloud.cli.main import app
from tests.helpers import COMMAND, hash_of


def on_terminal(*arguments: str, stdout: int | None = None) -> tuple[bytes, str]:
    """Run the command with its standard error, and its output if that goes nowhere else, on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([*COMMAND, *arguments], stdout=stdout or theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # Linux raises this when the other end is closed
            pass
        output = process.stdout.read() if process.stdout else b""
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return output, shown.decode()


@pytest.fixture
def files(desk):
    return desk.files(a="one", b="two", c="three")


def test_progress_and_summary_are_on_the_terminal_and_records_where_they_belong(desk, files):
    output, shown = on_terminal("put", *files, stdout=subprocess.PIPE)
    assert [json.loads(line)["content_hash"] for line in output.splitlines()] == [
        hash_of(text) for text in ("one", "two", "three")
    ]
    assert "3 of 3 files" in shown
    assert "3 files, 11 bytes sent, 0 bytes deduplicated, " in shown
    assert "content_hash" not in shown


def test_record_that_is_longer_than_the_terminal_stays_in_one_line(desk, files):
    (record,) = desk.run("put", "a.txt").out
    _, shown = on_terminal("put", "a.txt")
    assert record in shown


def test_quiet_shows_nothing(desk, files):
    _, shown = on_terminal("put", *files, "--quiet", stdout=subprocess.PIPE)
    assert shown == ""


@pytest.mark.parametrize("flags", [("-v",), ("-vv",), ("--verbose",)], ids="".join)
def test_verbose_shows_the_log(desk, files, flags, monkeypatch):
    logger = logging.getLogger("lakery_cloud")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    desk.run("put", "a.txt")
    done = desk.run("copy", desk.objects.as_uri(), f"{desk.folder.as_uri()}/there", *flags)
    (line,) = (line for line in done.errors if " INFO " in line)
    assert line.endswith(f" INFO {hash_of('one')}: copied")
    assert any(" DEBUG " in line for line in done.errors) == (flags == ("-vv",))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(desk, shell, monkeypatch):
    monkeypatch.setenv("HOME", str(desk.folder))
    script = desk.folder / "completion"
    assert desk.run("--install-completion", "--shell", shell, "--output", script).code == 0
    assert [path.name for path in desk.folder.iterdir()] == ["completion"]
    text = script.read_text()
    printed = "\n".join(desk.run("completion", shell).out)
    assert printed.partition("\n")[0] == text.partition("\n")[0]
    for name in app:
        assert name.strip("-") in text
        assert name.strip("-") in printed


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [(["ver"], {"verify"}), (["put", "--rec"], {"--recursive", "--records"})],
    ids=["command", "option"],
)
def test_bash_completes_commands_and_options(tmp_path: Path, words, completed):
    (tmp_path / "completion").write_text(app.generate_completion(shell="bash"))
    line = " ".join(words)
    script = f"""
        source {tmp_path / "completion"}
        COMP_WORDS=(lakery-cloud {line}) COMP_CWORD={len(words)} COMP_LINE="lakery-cloud {line}"
        _lakery_cloud
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True)
    assert set(done.stdout.split()) == completed, done.stderr
