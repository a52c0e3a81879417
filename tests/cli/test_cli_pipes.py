"""The ends of the command's streams: closed ones, full disks, pipes without another end, and terminals."""

import json
import os
import pty
import resource
import shlex
import signal
import subprocess
import time

import pytest

from lakery_cloud.cli import bars, progress
from lakery_cloud.cli.progress import RateLimit
from tests.cli.desk import Desk
from tests.cli.shell import HASH, LARGE, Shell
from tests.helpers import COMMAND, PATIENCE, hash_of, wait_until

# Standard streams.


def in_shell(shell: Shell, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `lakery-cloud` is the command."""
    script = f'lakery-cloud() {{ {shlex.join(COMMAND)} "$@"; }}; {line}'
    command = ["bash", "--norc", "-c", script]
    return subprocess.run(command, cwd=shell.folder, env=shell.env, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    "line",
    [
        "lakery-cloud ls --json | head -n 1 >/dev/null; echo ${PIPESTATUS[0]} >&2",
        "lakery-cloud ls nothing --json | true; echo ${PIPESTATUS[0]} >&2",
        "lakery-cloud --help | true; echo ${PIPESTATUS[0]} >&2",
        "lakery-cloud put --help | true; echo ${PIPESTATUS[0]} >&2",
    ],
)
def test_closed_pipe_ends_quietly(shell: Shell, line: str) -> None:
    shell.env["LARGE"] = shell.put(LARGE)["content_hash"]
    done = in_shell(shell, line)
    *others, code = done.stderr.splitlines()
    assert code in ("0", "2", "141")
    assert not any("Error" in other or "Traceback" in other for other in others if "InvalidRecord" not in other)


def test_full_pipe_that_is_closed_ends_with_141(shell: Shell) -> None:
    shell.env["LARGE"] = shell.put(LARGE)["content_hash"]
    done = in_shell(shell, "lakery-cloud get $LARGE | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("lakery-cloud put - <&-", 2, "ConfigError: standard input is closed"),
        ("lakery-cloud ls --records - <&-", 2, "ConfigError: standard input is closed"),
        (f"lakery-cloud get {HASH} >&-", 2, "ConfigError: standard output is closed"),
        *(
            (f"lakery-cloud {line} >/dev/full", 1, "OSError: [Errno 28] No space left on device: 'standard output'")
            for line in ("ls -q", "ls -q --json", "put a.txt", "put a.txt --json", "put --help", "--version")
        ),
        *(
            (f"lakery-cloud {line} >&-", 2, "ConfigError: standard output is closed")
            for line in ("ls -q", "ls -q --json", "put a.txt", "--help")
        ),
        (
            "lakery-cloud get a --json >/dev/full",
            2,
            "ConfigError: --json needs --output, since standard output receives the content",
        ),
        (f"lakery-cloud get {HASH} -o /dev/full", 1, "OSError: [Errno 28] No space left on device: '/dev/full'"),
    ],
)
def test_stream_that_is_closed_or_full_is_named(shell: Shell, line: str, code: int, words: str) -> None:
    shell.put()
    shell.file("a.txt")
    done = in_shell(shell, line)
    assert (done.returncode, done.stderr.splitlines()) == (code, [words])


def test_closed_output_of_a_command_that_prints_nothing_is_no_error(shell: Shell) -> None:
    shell.file("a.txt")
    done = in_shell(shell, "lakery-cloud put a.txt --records all.jsonl >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert (shell.folder / "all.jsonl").exists()


@pytest.mark.parametrize("output", ["file", "folder/"])
def test_file_that_can_grow_no_further_is_named(shell: Shell, output: str) -> None:
    """As on a full disk."""
    record = shell.put(LARGE)
    (shell.folder / "folder").mkdir()
    limit = 100_000
    process = subprocess.run(
        [*COMMAND, "get", json.dumps(record), "-o", output],
        cwd=shell.folder,
        env=shell.env,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    name = "file" if output == "file" else f"folder/{record['content_hash']}"
    assert process.returncode == 1
    assert process.stderr.splitlines() == [f"OSError: [Errno 27] File too large: '{name}'"]
    assert [each.name for each in shell.folder.rglob(".lakery-cloud-*")] == []


@pytest.mark.parametrize(
    "arguments", [("put", "pipe"), ("put", "a.txt", "pipe"), ("get", HASH, "-o", "pipe")], ids=" ".join
)
def test_pipe_without_another_end_ends_at_the_first_ctrl_c(shell: Shell, arguments: tuple[str, ...]) -> None:
    shell.put()
    shell.file("a.txt", b"other")
    os.mkfifo(shell.folder / "pipe")
    process = shell.start(*arguments, "-v", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/task")) > 1)  # one of them waits for the pipe
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert b"interrupted" in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_pipe_with_a_writer_is_saved(shell: Shell) -> None:
    os.mkfifo(shell.folder / "pipe")
    done = in_shell(shell, "printf one > pipe & lakery-cloud put pipe")
    assert json.loads(done.stdout)["content_hash"] == hash_of("one")


# Terminals.


def on_terminal(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a command whose output and errors are a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, *arguments], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # Linux raises this when the other end is closed
            pass
    os.close(ours)
    return process.returncode, shown.decode(errors="replace")


def test_content_that_is_not_text_goes_to_a_terminal_only_on_request(desk: Desk) -> None:
    (desk.folder / "a.bin").write_bytes(b"\0\1\2")
    desk.run("put", "a.bin", *desk.files(b="text"))
    code, shown = on_terminal("get", hash_of("\0\1\2"), "-q")
    assert (code, "\0" in shown, "add -o FILE" in shown) == (2, False, True)
    code, shown = on_terminal("get", hash_of("\0\1\2"), "-q", "-o", "-")
    assert (code, "\0\1\2" in shown) == (0, True)
    code, shown = on_terminal("get", hash_of("text"), "-q")
    assert (code, shown) == (0, "text")


def test_plain_progress_is_lines(desk: Desk) -> None:
    names = desk.files(a="one", b="two")
    done = desk.run("put", *names, "--progress", "plain")
    assert done.errors[0].startswith("2 of 2 files: 6 bytes of 6 bytes")
    assert desk.run("put", *names, "--progress", "plain", "--quiet").errors == []
    assert desk.run("verify", "--progress", "plain").errors[0].startswith("2 objects, 6 bytes, ")
    assert len(desk.run("put", *names, "--progress", "none").errors) == 1


def test_plain_progress_has_a_line_every_few_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = bars.PlainProgress(is_transfer=True, clock=lambda: now)
    task = lines.add_task("sending a", total=3000)
    for _ in range(3):
        now += bars.LINE_INTERVAL * 0.7
        lines.advance(task, 1000)
    lines.stop()
    shown = capfd.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in shown] == ["sending a: 2.0 kB of 3.0 kB", "sending a: 3.0 kB of 3.0 kB"]


def test_bars_are_shown_where_someone_asks_for_them(desk: Desk) -> None:
    done = desk.run("put", *desk.files(a="one", b="two"), "--progress", "bar")
    assert any("2 of 2 files" in line and "\x1b[" in line for line in done.errors)


async def test_limited_rate_is_an_average(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def chunks():
        for _ in range(3):
            yield bytes(100_000)

    monkeypatch.setattr(progress.asyncio, "sleep", sleep)
    pieces = [piece async for piece in RateLimit(1_000_000, clock=lambda: 0.0).limited(chunks())]
    assert sum(map(len, pieces)) == 300_000
    assert max(map(len, pieces)) == progress.PIECE_SIZE
    assert waited == pytest.approx([0, 0.065536, 0.1, 0.165536, 0.2, 0.265536])  # no time passes on this clock


def test_limited_rate_changes_no_content(desk: Desk) -> None:
    (name,) = desk.files(a="one")
    assert desk.run("put", name, "--limit-rate", "1MiB").code == 0
    assert desk.run("get", hash_of("one"), "--limit-rate", "1MiB").out == ["one"]
    assert desk.run("copy", "./objects", "./copy", "--limit-rate", "1MiB").code == 0
    assert desk.stored("copy") == {hash_of("one")}
