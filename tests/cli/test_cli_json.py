"""What `--json` prints: the names and results that docs/json.md lists, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.desk import Desk
from tests.cli.test_cli_options import COMMANDS
from tests.helpers import hash_of

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf-8")
ONE, MISSING = hash_of("one"), "0" * 64


def rows() -> dict[str, tuple[set[str], set[str], set[str]]]:
    """Command -> names that each line has, names that a line may have, and values of `result`."""
    found = {}
    for line in PAGE.partition("## Commands")[2].splitlines():
        if line.startswith("| `"):
            command, names, results = (cell.strip() for cell in line.strip("|").split(" | "))
            optional = {*re.findall(r"\(`(\w+)`\)", names)}
            words = {*re.findall(r"`([^`]+)`", results.rstrip("| "))}
            found[command.strip("`")] = ({*re.findall(r"`(\w+)`", names)} - optional, optional, words)
    return found


ROWS = rows()
RUNS: dict[str, list[tuple[str, set[str]]]] = {
    "put": [
        ("put a.txt new.txt missing.txt", {"deduplicated", "stored", "failed"}),
        ("put newer.txt -n", {"would be stored"}),
    ],
    "get": [(f"get {ONE} {MISSING} {hash_of('bad')} -o out", {"loaded", "missing", "failed"})],
    "copy": [
        ("copy ./objects ./copy --records all.jsonl", {"copied", "failed"}),
        ("copy ./objects ./copy --records all.jsonl --dry-run", {"deduplicated", "would be copied"}),
    ],
    "ls": [("ls", {"found"}), ("ls --records all.jsonl", {"found", "missing"})],
    "stat": [(f"stat {ONE}", {"found"})],
    "rm": [
        (f"rm -n {ONE} {MISSING}", {"would be deleted", "not there"}),
        (f"rm {ONE} --unless-referenced-by all.jsonl", {"kept"}),
        ("rm --records gone.jsonl --yes", {"not there"}),
        (f"rm {ONE}", {"deleted"}),
    ],
    "verify": [("verify", {"intact", "damaged"})],
    "inventory": [("inventory", set())],
    "orphans": [("orphans --records gone.jsonl", {"orphan"})],
    "dangling": [("dangling --records gone.jsonl", {"dangling"})],
    "sweep": [("sweep --older-than 1s", {"would be deleted"}), ("sweep --older-than 1s --yes", {"deleted"})],
    "doctor": [("doctor", {"ok"})],
    "explain": [("explain a.txt", set())],
    "storages": [("storages", set())],
    "config init": [("config init new.toml", set())],
    "config show": [("config show", set())],
    "config check": [("config check", set())],
    "emulators list": [("emulators list", set())],
    "emulators down": [("emulators down moto", {"not running"})],
    "completion": [("completion bash", set())],
}
"""Command -> command lines, and the results that their lines have."""

ELSEWHERE = {
    "lifecycle": "test_cli_lifecycle.py",
    "url": "of a cloud: test_cli_options.py",
    "gc": "test_cli_gc.py",
    "emulators up": "an object of each server",
    "emulators env": "an object of variables",
}


@pytest.fixture
def stocked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Storages with good, damaged and temporary content, and records of all and of missing content."""
    monkeypatch.setenv("LAKERY_CLOUD_STATE", str(desk.folder / "state"))
    monkeypatch.delenv("LAKERY_CLOUD_STORAGE")
    (desk.folder / "lakery-cloud.toml").write_text(f'[storages.hot]\nurl = "{desk.objects.as_uri()}"\n')
    desk.files(a="one", b="bad", gone="gone", new="new", newer="newer")
    desk.run("put", "gone.txt", "--records", "gone.jsonl")
    desk.run("rm", hash_of("gone"))
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    with (desk.folder / "all.jsonl").open("a") as file:
        file.write((desk.folder / "gone.jsonl").read_text())
    (desk.objects / hash_of("bad")).write_text("baD")
    (desk.objects / ".tmp" / "20200101T000000Z-0").write_text("left over")
    return desk


def check(command: str, lines: list[dict[str, Any]]) -> set[str]:
    """Compare lines with the row of the command, and return their results."""
    names, optional, results = ROWS[command]
    ended = [line for line in lines if line.keys() == {"result", "error"}]
    assert ended in ([], lines[-1:])
    for line in lines[: len(lines) - len(ended)]:
        assert names <= line.keys() <= names | optional
        assert line.get("result") in (results or {None})
        if "error" in line and command != "doctor":
            assert (line["error"] is not None) == (line["result"] in ("missing", "failed"))
            assert line["error"] is None or re.match(r"[A-Z]\w+: .", line["error"])
        assert line.get("size") is None or isinstance(line["size"], int)
    return {line["result"] for line in lines if "result" in line}


def test_every_command_has_a_row() -> None:
    assert {*RUNS, *ELSEWHERE} == {*COMMANDS}
    assert {*ROWS} == {*COMMANDS} - {"emulators up", "emulators env"}


@pytest.mark.parametrize("command", RUNS)
def test_lines_have_the_names_and_results_of_the_page(stocked: Desk, command: str) -> None:
    for words, results in RUNS[command]:
        done = stocked.run(*words.split(), "--json")
        assert "Traceback" not in "".join(done.errors)
        found = check(command, done.json)
        assert found >= results, done
        assert found or not ROWS[command][2]


@pytest.mark.parametrize("command", ["ls", "stat", "rm"])
def test_target_that_fails_has_a_line(stocked: Desk, command: str) -> None:
    (stocked.objects / hash_of("bad")).unlink()
    (stocked.objects / hash_of("bad")).symlink_to("/etc/passwd")
    done = stocked.run(command, ONE[:12], hash_of("bad"), "--json")
    assert [line["content_hash"] for line in done.json] == [ONE, hash_of("bad")]


@pytest.mark.parametrize("line", [f"ls {MISSING}", f"stat {MISSING}", f"get {MISSING} -o out", "put missing.txt"])
def test_single_target_that_fails_has_one_line_and_one_error(stocked: Desk, line: str) -> None:
    done = stocked.run(*line.split(), "--json")
    assert (len(done.json), len(done.errors)) == (1, 1)
    assert done.json[0]["result"] == ("failed" if "put" in line else "missing")
    assert done.json[0]["error"] == done.errors[0]


@pytest.mark.parametrize("line", ["ls --bogus", "put", "verify -s ./nowhere", "verify --sample 2", "ls -s nope"])
def test_error_before_any_work_is_a_line(stocked: Desk, line: str) -> None:
    done = stocked.run(*line.split(), "--json")
    assert [each.keys() for each in done.json] == [{"result", "error"}]
    assert done.json[0]["result"] == "failed"
    assert done.code in (2, 3)
