"""The output of `lakery-cloud get`: a file is replaced when all is right, and damaged content never comes out in full."""

import os
import subprocess

import pytest

from tests.cli.shell import CONTENT, HASH, LARGE, MISSING, assert_fails
from tests.helpers import PATIENCE


def test_an_output_file_is_written_in_full_with_the_usual_mode(shell):
    shell.put()
    mask = os.umask(0o027)
    try:
        done = shell.run("get", HASH, "--output", "copy.txt")
    finally:
        os.umask(mask)
    assert (done.returncode, done.stdout) == (0, b"")
    assert (shell.folder / "copy.txt").read_bytes() == CONTENT
    assert (shell.folder / "copy.txt").stat().st_mode & 0o777 == 0o640


def test_an_output_file_is_replaced_when_all_is_right(shell):
    shell.put()
    output = shell.file("old.txt", b"old")
    assert shell.run("get", HASH, "-o", output).returncode == 0
    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize("data", [CONTENT, LARGE], ids=["small", "large"])
def test_an_output_file_is_left_as_it_was_when_the_content_is_damaged(shell, data):
    record = shell.put(data)
    shell.damage(record["content_hash"])
    output = shell.file("old.txt", b"old")
    before = sorted(shell.folder.iterdir())
    assert_fails(shell.run("get", record["content_hash"], "-o", output), 5, "IntegrityError", saying="damaged")
    assert output.read_bytes() == b"old"
    assert sorted(shell.folder.iterdir()) == before


def test_an_output_file_is_left_as_it_was_when_the_content_is_missing(shell):
    shell.put()
    output = shell.file("old.txt", b"old")
    before = sorted(shell.folder.iterdir())
    assert_fails(shell.run("get", MISSING, "-o", output), 3, "NoStorageData")
    assert output.read_bytes() == b"old"
    assert sorted(shell.folder.iterdir()) == before


def test_damaged_content_never_comes_out_in_full(shell):
    record = shell.put(LARGE)
    shell.damage(record["content_hash"])
    done = shell.run("get", record["content_hash"])
    assert_fails(done, 5, "IntegrityError")
    assert len(done.stdout) < len(LARGE)
    assert LARGE.startswith(done.stdout)


def test_an_output_in_a_folder_that_is_not_there_is_refused(shell):
    shell.put()
    assert_fails(shell.run("get", HASH, "-o", "missing/copy.txt"), 2, "ConfigError", saying="output")


def test_an_output_file_may_have_the_longest_name(shell):
    shell.put()
    output = shell.folder / ("x" * 255)
    done = shell.run("get", HASH, "-o", output)
    assert done.returncode == 0, done.stderr.decode()
    assert output.read_bytes() == CONTENT


def test_an_output_that_is_a_pipe_gets_the_content(shell):
    shell.put()
    pipe = shell.folder / "pipe"
    os.mkfifo(pipe)
    reading = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    try:
        assert shell.run("get", HASH, "-o", pipe).returncode == 0
        assert pipe.is_fifo()
        assert reading.communicate(timeout=PATIENCE)[0] == CONTENT
    finally:
        reading.kill()
        reading.communicate()


def test_a_reader_that_goes_away_gets_no_traceback(shell):
    record = shell.put(LARGE)
    getting = shell.start("get", record["content_hash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    getting.stdout.read(10)
    getting.stdout.close()
    errors = getting.stderr.read()
    getting.stderr.close()
    assert getting.wait(PATIENCE) == 141
    assert errors == b""
