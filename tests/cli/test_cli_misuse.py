"""What cannot be meant, on every command: one line that says so, its exit code, and the same as a line of JSON."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.helpers import hash_of

HASH = hash_of("one")
MISSING = "0" * 64
NO_FOLDER = ("-s", "./nowhere")

MISUSE = (
    # No command, options that no command has.
    ("nope", 2, "nope"),
    ("--progress loud ls", 2, "loud"),
    ("ls --bogus", 2, "--bogus"),
    ("sweep unexpected", 2, "unexpected argument 'unexpected'"),
    ("verify ./objects", 2, "unexpected argument './objects'; name a storage by --storage"),
    ("completion tcsh", 2, "tcsh"),
    ("completion", 2, "shell"),
    ("--install-completion --shell tcsh", 2, "tcsh"),
    ("--install-completion --shell bash --output nowhere/x", 2, "nowhere/x"),
    # Files.
    ("put", 2, "no file given"),
    ("put missing.txt", 2, "no file matches 'missing.txt'"),
    ("put *.nothing", 2, "no file matches '*.nothing'"),
    ("put docs", 2, "'docs' is a folder; add -r"),
    ("put a.txt docs", 2, "'docs' is a folder; add -r"),
    ("put - -", 2, "only once"),
    ("put broken", 1, "the target of the link does not exist"),
    ("put socket", 1, "'socket' is a socket"),
    ("put a.txt/b", 2, "no file matches"),
    ("put loop", 1, "loop"),
    ("put a.txt --records -", 2, "--records needs a file"),
    ("put a.txt --records nowhere/x", 2, "nowhere/x"),
    ("put a.txt --records docs", 2, "docs"),
    ("put a.txt --records /dev/full", 2, "'/dev/full' is a pipe or device"),
    ("put a.txt --records pipe", 2, "'pipe' is a pipe or device"),
    ("put a.txt --records a.txt", 2, "not JSON"),
    ("put a.txt --tag x", 2, "key=value"),
    ("put a.txt --tag =x", 2, "tag"),
    ("put a.txt -t EMPTY", 2, "content_type"),
    ("put a.txt -t é", 2, "content_type"),
    ("put a.txt --content-encoding EMPTY", 2, "content_encoding"),
    ("put a.txt --min-size lots", 2, "--min-size 'lots'"),
    ("put a.txt --max-size -1", 2, "--max-size"),
    ("put a.txt --limit-rate fast", 2, "--limit-rate 'fast'"),
    ("put a.txt --limit-rate 0", 2, "at least 1"),
    ("put a.txt --include !", 2, "--include"),
    ("put a.txt --include EMPTY", 2, "--include ''"),
    ("put a.txt --exclude EMPTY", 2, "--exclude ''"),
    ("put a.txt --exclude #note", 2, "--exclude '#note'"),
    ("put a.txt --min-size 5 --max-size 2", 2, "--min-size '5' is over"),
    ("copy ./objects ./copy --include EMPTY", 2, "--include ''"),
    ("put a.txt --jobs 0", 2, "--jobs"),
    ("put a.txt --jobs many", 2, "many"),
    # Storages.
    ("put a.txt -s nope", 2, "neither a configured storage nor a URL"),
    ("put a.txt -s docs", 2, "write ./docs for the folder"),
    ("put a.txt -s ~nobody-here/x", 2, "~nobody-here"),
    ("put a.txt -s nope://x", 2, "'nope'"),
    ("put a.txt -s file://host/x", 2, "file:///"),
    ("put a.txt -s ./a.txt", 2, "/a.txt' is not a folder"),
    ("put a.txt docs -r -s ./a.txt/x", 2, "/a.txt' is not a folder"),
    ("put a.txt -s ./broken", 2, "/broken' does not exist"),
    ("put a.txt -s ./broken/x", 2, "/broken' does not exist"),
    ("put a.txt -s /proc/x", 2, "the folder '/proc/x' can't be made"),
    ("put a.txt -s EMPTY", 2, "name of the storage is empty"),
    ("ls -s ./a.txt", 2, "/a.txt' is not a folder"),
    ("verify -s ./a.txt", 2, "/a.txt' is not a folder"),
    ("sweep -s ./a.txt", 2, "/a.txt' is not a folder"),
    ("doctor ./a.txt", 2, "/a.txt' is not a folder"),
    ("copy ./a.txt ./objects", 2, "/a.txt' is not a folder"),
    ("copy ./objects ./a.txt", 2, "/a.txt' is not a folder"),
    ("copy ./objects EMPTY", 2, "name of the storage is empty"),
    (f"get {HASH} -s EMPTY", 2, "name of the storage is empty"),
    ("doctor nope", 2, "'nope'"),
    ("storages unexpected", 2, "unexpected"),
    # Folders that don't exist.
    ("ls ./nowhere", 3, "/nowhere' does not exist"),
    (f"ls -s ./nowhere {HASH[:8]}", 3, "/nowhere' does not exist"),
    (f"get ./nowhere/{HASH}", 3, "/nowhere' does not exist"),
    (f"get {HASH} -s ./nowhere", 3, "/nowhere' does not exist"),
    ("stat -r * -s ./nowhere", 3, "/nowhere' does not exist"),
    ("verify -s ./nowhere", 3, "/nowhere' does not exist"),
    ("sweep -s ./nowhere", 3, "/nowhere' does not exist"),
    ("sweep --yes -s ./nowhere", 3, "/nowhere' does not exist"),
    ("inventory -s ./nowhere", 3, "/nowhere' does not exist"),
    ("orphans -s ./nowhere --records all.jsonl", 3, "/nowhere' does not exist"),
    ("dangling -s ./nowhere --records all.jsonl", 3, "/nowhere' does not exist"),
    ("gc -s ./nowhere --records all.jsonl", 3, "/nowhere' does not exist"),
    ("gc -s ./nowhere --restore-all", 3, "/nowhere' does not exist"),
    ("copy ./nowhere ./copy", 3, "/nowhere' does not exist"),
    ("copy ./nowhere ./nowhere", 3, "/nowhere' does not exist"),
    # Content.
    ("get", 2, "no content given to load"),
    ("stat", 2, "no content given to look up"),
    ("rm", 2, "no content given to delete"),
    ("get readme", 2, "at least its first 8 digits"),
    (f"get {HASH[:7]}", 2, "at least its first 8 digits"),
    (f"get {HASH.upper()}", 2, "lower-case"),
    ("get 00000000", 3, "begins with '00000000'"),
    (f"get {MISSING}", 3, "no object at"),
    (f"ls {MISSING}", 3, "no object at"),
    ("stat ./twins/fe5a1bde", 2, "2 content hashes begin with"),
    ("get ab*", 2, "add -r"),
    ("get -r ab*", 3, "matches 'ab*'"),
    ("get {", 2, "not JSON"),
    (f"get {HASH} -o EMPTY", 2, "--output needs"),
    (f"get {HASH} -o nowhere/x", 2, "'nowhere' does not exist"),
    (f"get {HASH} {MISSING} -o a.txt", 2, "is a file"),
    (f"get {HASH} --max-size x", 2, "--max-size 'x'"),
    ("get --records nowhere.jsonl", 2, "nowhere.jsonl"),
    ("rm --records a.txt --yes", 2, "not JSON"),
    (f"url {MISSING}", 2, "has no URLs"),
    (f"url {HASH} --expires 30d -s s3://my-bucket", 2, "from a second to 7 days, not 30 days"),
    ("url --put a.txt --expires 193h -s s3://my-bucket", 2, "from a second to 7 days, not 8 days, 1:00:00"),
    ("url", 2, "target"),
    ("url --put nowhere.txt -s s3://my-bucket", 2, "nowhere.txt"),
    (f"url {HASH} --expires soon", 2, "soon"),
    # Whole storages.
    ("copy", 2, "SOURCE"),
    ("copy ./objects", 2, "DESTINATION"),
    ("copy ./objects nope", 2, "'nope'"),
    ("verify --sample 200%", 2, "'200%'"),
    ("verify --sample lots", 2, "'lots'"),
    ("verify --since yesterday", 2, "yesterday"),
    ("verify --after zz", 2, "--after 'zz'"),
    (f"verify --after {HASH.upper()}", 2, "lower-case"),
    ("verify --manifest a.txt", 2, "'a.txt' is a file"),
    ("verify --at-a-time 0", 2, "--at-a-time"),
    ("verify --processes 0", 2, "--processes"),
    ("verify --processes 2 --dask tcp://x:1", 2, "either --processes or --dask"),
    ("sweep --older-than -1d", 2, "older"),
    ("lifecycle", 2, "lifecycle"),
    ("gc", 2, "--records"),
    ("gc --records nowhere.jsonl", 2, "nowhere.jsonl"),
    ("gc --records all.jsonl --grace 1m", 2, "grace"),
    ("orphans --database sqlite://", 2, "belong together"),
    ("inventory -o nowhere/x.csv", 2, "nowhere/x.csv"),
    ("inventory -o EMPTY", 2, "--output needs"),
    # Configuration, servers.
    ("explain a.txt --size lots", 2, "--size 'lots'"),
    ("explain EMPTY", 2, "'.' is a folder"),
    ("explain docs", 2, "'docs' is a folder"),
    ("config init all.jsonl", 2, "already exists"),
    ("config init EMPTY", 2, "'.' is a folder"),
    ("config init docs --force", 2, "'docs' is a folder"),
    ("emulators up", 2, "no server given"),
    ("emulators up nope", 2, "'nope'"),
    ("emulators down nope", 2, "'nope'"),
    ("emulators env", 2, "no server is running"),
    ("emulators up moto --port 0", 2, "--port 0"),
)
"""A command line, its exit code, and words of the error. EMPTY is an empty word."""


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with files of every kind and two storages."""
    folder = tmp_path_factory.mktemp("misuse")
    (folder / "docs").mkdir()
    (folder / "docs" / "b.txt").write_text("two")
    (folder / "a.txt").write_text("one")
    (folder / "broken").symlink_to("nothing")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    for name, hashes in (("objects", [HASH]), ("twins", ["fe5a1bde" + digit * 56 for digit in "01"])):
        (folder / name).mkdir()
        for content_hash in hashes:
            (folder / name / content_hash).write_text("one")
    with socket.socket(socket.AF_UNIX) as server:
        previous = os.getcwd()
        os.chdir(folder)  # the name of a socket is short
        server.bind("socket")
        os.chdir(previous)
        yield folder
    shutil.rmtree(folder)


@pytest.fixture
def misused(things: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(things)
    monkeypatch.setenv("LAKERY_CLOUD_STORAGE", "./objects")
    monkeypatch.setenv("LAKERY_CLOUD_STATE", str(things / "state"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    return Desk(things, capfd)


def words_of(line: str) -> list[str]:
    return ["" if word == "EMPTY" else word for word in line.split()]


@pytest.mark.parametrize(("line", "code", "words"), MISUSE, ids=[line for line, _, _ in MISUSE])
def test_what_cannot_be_meant_is_one_line_and_an_exit_code(misused: Desk, line: str, code: int, words: str) -> None:
    if not (misused.folder / "all.jsonl").exists():
        misused.run("put", "a.txt", "--records", "all.jsonl")
    stored = misused.stored("."), misused.stored()
    done = misused.run(*words_of(line))
    assert (done.code, done.out) == (code, []), done.errors
    (error,) = done.errors
    assert words in error
    assert (misused.stored("."), misused.stored()) == stored
    # The same as JSON, besides the line for people.
    if line.startswith(("nope", "--install", "--progress")):
        return
    to_file = ("-o", "out") if line.startswith("get") and "-o" not in line else ()
    again = misused.run(*words_of(line), *to_file, "--json")
    assert (again.code, len(again.errors)) == (code, 1)
    (found,) = again.json
    assert found["result"] == ("missing" if "NoStorageData" in error else "failed")
    assert words in found["error"]
