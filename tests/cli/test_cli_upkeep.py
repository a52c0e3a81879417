"""`sweep` and `verify` on the command line."""

import json

import pytest

from tests.cli.shell import CONTENT, HASH, assert_fails, lines_of

OLD = "20200101T000000Z-00000000-0000-4000-8000-000000000000"


@pytest.fixture
def shell(shell):
    shell.put()
    (shell.objects / ".tmp").mkdir(exist_ok=True)
    (shell.objects / ".tmp" / OLD).write_bytes(b"half")
    return shell


def test_sweep_only_looks(shell):
    done = shell.run("sweep")
    assert (done.returncode, lines_of(done.stderr)) == (0, ["1 leftover, 4 bytes: found; add --yes to delete them"])
    (line,) = lines_of(done.stdout)
    assert line.split() == ["would", "be", "deleted", "object", "2020-01-01T00:00:00+00:00", "4", f".tmp/{OLD}"]
    assert shell.stored() == [f".tmp/{OLD}", HASH]


def test_sweep_deletes_with_delete(shell):
    done = shell.run("sweep", "--yes", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "result": "deleted",
        "error": None,
        "kind": "object",
        "begun": "2020-01-01T00:00:00+00:00",
        "size": 4,
        "bucket": str(shell.objects),
        "key": f".tmp/{OLD}",
    }
    assert shell.stored() == [HASH]
    assert lines_of(shell.run("sweep").stderr) == ["0 leftovers, 0 bytes: found"]


def test_sweep_keeps_keys_younger_than_the_age(shell):
    done = shell.run("sweep", "--yes", "--older-than", "36500d")
    assert (done.returncode, done.stdout) == (0, b"")
    assert shell.stored() == [f".tmp/{OLD}", HASH]


@pytest.mark.parametrize("age", ["-1d", "soon"])
def test_sweep_refuses_an_age_that_is_none(shell, age):
    done = shell.run("sweep", "--yes", f"--older-than={age}")
    assert done.returncode == 2
    assert shell.stored() == [f".tmp/{OLD}", HASH]


def test_verify_reports_success(shell):
    done = shell.run("verify")
    assert (done.returncode, done.stdout) == (0, b"")
    assert lines_of(done.stderr) == [f"1 object, {len(CONTENT)} bytes: all intact"]


def test_verify_names_damaged_content_and_exits_5(shell):
    shell.put(b"other")
    shell.damage()
    done = shell.run("verify")
    expected = f"1 of 2 objects in FileStorage({str(shell.objects)!r}, prefix='') failed verification"
    assert_fails(done, 5, "IntegrityError", saying=expected)
    assert done.stdout.decode().split() == ["damaged", HASH, str(len(CONTENT))]
    in_json = [json.loads(line) for line in lines_of(shell.run("verify", "--json").stdout)]
    assert {entry["content_hash"]: entry["result"] for entry in in_json}[HASH] == "damaged"
    assert [entry["result"] for entry in in_json].count("intact") == 1


def test_verify_goes_on_after_a_hash(shell):
    done = shell.run("verify", "--json", "--after", HASH)
    assert (done.returncode, done.stdout) == (0, b"")
