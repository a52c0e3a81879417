"""Which files `put`, `get` and `copy` take: patterns, sizes, dry runs, and entries that can't be saved."""

import json
import os
import socket
from pathlib import Path

import pytest

from tests.cli.desk import Desk, tree
from tests.helpers import hash_of


@pytest.fixture
def photos(desk: Desk) -> Desk:
    desk.files(photos_a="one", photos_2026_b="three", photos_2026_raw_c="" * 5, photos_old_d="old")
    (desk.folder / "photos" / "e.jpg").write_bytes(bytes(2048))
    return desk


SELECTIONS = {
    "--include *.jpg": {"photos/e.jpg"},
    "--exclude *.txt": {"photos/e.jpg"},
    "--exclude old/ --exclude raw/": {"photos/a.txt", "photos/2026/b.txt", "photos/e.jpg"},
    "--include photos/2026/** --exclude raw": {"photos/2026/b.txt"},
    "--include *.txt --exclude /photos/*.txt --min-size 1": {"photos/2026/b.txt", "photos/old/d.txt"},
    "--exclude * --exclude !a.txt": {"photos/a.txt"},
    "--min-size 2KiB": {"photos/e.jpg"},
    "--max-size 3 --min-size 3": {"photos/a.txt", "photos/old/d.txt"},
    "--max-size 0": {"photos/2026/raw/c.txt"},
    "--include nothing": set(),
}


@pytest.mark.parametrize("options", SELECTIONS)
def test_put_and_get_take_selected_files(photos: Desk, options: str) -> None:
    expected = SELECTIONS[options]
    done = photos.run("put", "-r", "photos", "--json", "-s", "./some", *options.split())
    assert (done.code, {file for file, _ in done.results}) == (0, expected)
    photos.run("put", "-r", "photos", "--records", "all.jsonl")
    done = photos.run("get", "--records", "all.jsonl", "-o", "out", "--json", *options.split())
    assert (done.code, {file.removeprefix("out/") for file, _ in done.results}) == (0, expected)


@pytest.mark.parametrize("options", SELECTIONS)
def test_copy_takes_selected_records(photos: Desk, options: str) -> None:
    photos.run("put", "-r", "photos", "--records", "all.jsonl")
    done = photos.run("copy", "./objects", "./copy", "--records", "all.jsonl", "--json", *options.split())
    assert (done.code, {file for file, _ in done.results}) == (0, SELECTIONS[options])


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ("--min-size 4", {"three", bytes(2048).decode()}),
        ("--max-size 3 --min-size 1", {"one", "old"}),
        (f"--include {hash_of('one')[:9]}*", {"one"}),
        (f"--exclude {hash_of('one')} --max-size 3", {"", "old"}),
    ],
)
def test_copy_of_all_content_selects_by_hash_and_size(photos: Desk, options: str, texts: set[str]) -> None:
    photos.run("put", "-r", "photos")
    assert photos.run("copy", "./objects", "./copy", *options.split()).code == 0
    assert photos.stored("copy") == {hash_of(text) for text in texts}


def test_job_takes_no_selection(photos: Desk) -> None:
    photos.run("put", "-r", "photos")
    for option in ("--no-new-records", "--processes=2", "--manifest=done"):
        done = photos.run("copy", "./objects", "./copy", "--min-size", "1", option)
        assert (done.code, len(done.errors), photos.stored("copy")) == (2, 1, set())


def test_sizes_of_hashes_are_looked_up(photos: Desk) -> None:
    photos.run("put", "-r", "photos")
    small, large, missing = hash_of("one"), hash_of(bytes(2048).decode()), hash_of("missing")
    done = photos.run("get", small, large, missing, "-o", "out", "--min-size", "1KiB", "--json")
    assert done.code == 3
    assert done.results == [(f"out/{large}", "loaded"), (f"out/{missing}", "missing")]


def test_file_that_is_not_selected_is_no_error(photos: Desk) -> None:
    assert photos.run("put", "photos/a.txt", "--exclude", "*.txt").code == 0
    photos.run("put", "photos/a.txt")
    done = photos.run("get", hash_of("one"), "-o", "copy.txt", "--min-size", "1MiB")
    assert (done.code, (photos.folder / "copy.txt").exists()) == (0, False)


# Dry runs.


def test_dry_run_saves_nothing_and_says_what_would_be_saved(photos: Desk) -> None:
    photos.run("put", "photos/a.txt")
    stored = photos.stored()
    done = photos.run(
        "put", "-r", "photos", "--dry-run", "--include", "*.txt", "--max-size", "4", "--records", "x.jsonl"
    )
    assert done.code == 0
    assert done.out == [
        f"deduplicated  {hash_of('one')}  3  photos/a.txt",
        f"would be stored  {hash_of('')}  0  photos/2026/raw/c.txt",
        f"would be stored  {hash_of('old')}  3  photos/old/d.txt",
    ]
    assert done.errors[0].startswith("3 files, 3 bytes would be sent, 3 bytes deduplicated, ")
    assert photos.stored() == stored
    assert not (photos.folder / "x.jsonl").exists()


def test_dry_run_in_json(photos: Desk) -> None:
    (line,) = photos.run("put", "photos/a.txt", "-n", "--json").json
    assert line == {"file": "photos/a.txt", "result": "would be stored", "size": 3, "record": None, "error": None}
    assert not photos.objects.exists()


def test_dry_run_follows_the_routes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKERY_CLOUD_STORAGE")
    (desk.folder / "lakery-cloud.toml").write_text(
        f"""
        default = "hot"
        [storages.hot]
        url = "{(desk.folder / "hot").as_uri()}"
        [storages.cold]
        url = "{(desk.folder / "cold").as_uri()}"
        name = "tests.selection.cold@v1"
        [[routes]]
        storage = "cold"
        min_size = 4
        """
    )
    names = desk.files(a="one", b="three")
    assert desk.run("put", *names).code == 0
    assert {result for _, result in desk.run("put", *names, "-n", "--json").results} == {"deduplicated"}


# Entries that can't be saved.


@pytest.fixture
def mixed(desk: Desk) -> Desk:
    desk.files(a="one", docs_b="two")
    (desk.folder / "broken").symlink_to("nothing")
    (desk.folder / "docs" / "loop").symlink_to("loop")
    return desk


@pytest.mark.parametrize(
    ("entry", "code", "words"),
    [
        ("missing.txt", 2, "ConfigError: missing.txt: no file matches"),
        ("broken", 1, "FileNotFoundError: broken: "),
        ("docs/loop", 1, "OSError: docs/loop: "),
    ],
)
def test_bad_entry_does_not_stop_the_others(mixed: Desk, entry: str, code: int, words: str) -> None:
    done = mixed.run("put", "a.txt", entry, "docs/b.txt", "--json")
    assert (done.code, done.results) == (code, [("a.txt", "stored"), (entry, "failed"), ("docs/b.txt", "stored")])
    failure, summary = done.errors
    assert failure.startswith(words)
    assert "2 files, 6 bytes sent, 0 bytes deduplicated, 1 failed, " in summary
    assert done.json[1]["error"] in failure.replace(f"{entry}: ", "", 1)


def test_link_to_nothing_in_a_folder_is_named(mixed: Desk) -> None:
    done = mixed.run("put", "-r", "docs", "--records", "all.jsonl")
    assert done.code == 1
    assert "docs/loop" in done.errors[0]
    assert [json.loads(line)["file"] for line in (mixed.folder / "all.jsonl").read_text().splitlines()] == [
        "docs/b.txt"
    ]


def test_pipes_and_sockets_in_a_folder_are_skipped_and_named(desk: Desk) -> None:
    desk.files(docs_a="one")
    os.mkfifo("docs/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("docs/socket")
        done = desk.run("put", "-r", "docs")
        assert desk.run("put", "-r", "docs", "-q").errors == []
    assert done.code == 0
    assert done.errors[:2] == [f"skipped docs/{name}: a pipe, socket or device" for name in ("pipe", "socket")]


def test_folder_that_cannot_be_read_is_named(desk: Desk) -> None:
    """A folder whose path is too long, which not even root can read."""
    desk.files(deep_a="one")
    folder, depth = os.open("deep", os.O_RDONLY), 4096 // 200 + 1
    for _ in range(depth):
        os.mkdir("d" * 200, dir_fd=folder)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    done = desk.run("put", "-r", "deep")
    assert done.code == 1
    assert "File name too long" in done.errors[0]
    assert desk.stored() == {hash_of("one")}
    assert desk.run("put", "-r", "deep", "--include", "*.txt").code == 1  # it may have such files
    assert desk.run("put", "-r", "deep", "--exclude", "d*/").code == 0


@pytest.mark.parametrize("options", ["--exclude broken", "--exclude b*", "--include *.txt"])
@pytest.mark.parametrize("names", ["-r .", "a.txt broken"])
def test_bad_entry_that_is_not_selected_is_no_failure(desk: Desk, names: str, options: str) -> None:
    desk.files(a="one")
    (desk.folder / "broken").symlink_to("nothing")
    os.mkfifo("blocked")
    assert desk.run("put", *names.split(), "-s", "./out").code == 1
    done = desk.run(
        "put", *names.split(), *options.split(), "-s", "./copy", "--exclude", "out/", "--exclude", "blocked"
    )
    assert (done.code, desk.stored("copy")) == (0, {hash_of("one")})
    assert [line for line in done.errors if not line.startswith("1 file, ")] == []


def test_name_without_a_file_is_a_failure_even_if_it_is_excluded(desk: Desk) -> None:
    assert desk.run("put", *desk.files(a="one"), "missing", "--exclude", "missing").code == 2


def test_fail_fast_counts_bad_entries(mixed: Desk) -> None:
    done = mixed.run("put", "missing.txt", "a.txt", "--fail-fast", "--jobs", 1, "--json")
    assert (done.code, done.results) == (2, [("missing.txt", "failed")])


def test_restored_tree_is_the_saved_one(photos: Desk) -> None:
    photos.run("put", "-r", "photos", "--records", "all.jsonl", "--exclude", "*.jpg")
    photos.run("get", "--records", "all.jsonl", "-o", "out")
    (photos.folder / "photos" / "e.jpg").unlink()
    assert tree(photos.folder / "out" / "photos") == tree(Path("photos"))
