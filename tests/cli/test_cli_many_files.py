"""`put` and `get` of many files: folders, patterns, records files, resuming, and what happens when some of them fail."""

import json
import os

import pytest

from tests.cli.desk import tree
from tests.helpers import hash_of

LINE = {"file", "result", "size", "record", "error"}


# Saving.


def test_folder_comes_back_as_it_was(desk):
    desk.files(docs_a="one", docs_deep_b="two", docs_deep_c="")
    assert desk.run("put", "-r", "docs", "--records", "docs.jsonl").code == 0
    done = desk.run("get", "--records", "docs.jsonl", "-o", "copy")
    assert (done.code, done.out) == (0, [])
    assert tree(desk.folder / "copy") == {"docs/a.txt": "one", "docs/deep/b.txt": "two", "docs/deep/c.txt": ""}


def test_records_come_in_the_order_of_the_files(desk):
    names = desk.files(**{f"n{number}": str(number) for number in range(20)})
    done = desk.run("put", *names, "--jobs", 3)
    assert [record["content_hash"] for record in done.json] == [hash_of(str(number)) for number in range(20)]


def test_json_has_a_line_for_each_file(desk):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt")
    lines = desk.run("put", "a.txt", "b.txt", "--json").json
    assert [(line["file"], line["result"], line["size"]) for line in lines] == [
        ("a.txt", "deduplicated", 3),
        ("b.txt", "stored", 3),
    ]
    assert all(set(line) == LINE and line["error"] is None for line in lines)
    assert [line["record"]["content_hash"] for line in lines] == [hash_of("one"), hash_of("two")]


def test_summary_counts_sent_and_deduplicated_bytes(desk):
    desk.files(a="one", b="three")
    desk.run("put", "a.txt")
    (line,) = desk.run("put", "a.txt", "b.txt").errors
    assert line.startswith("2 files, 5 bytes sent, 3 bytes deduplicated, ")
    assert desk.run("put", "a.txt", "b.txt", "--quiet").errors == []


def test_pattern_that_the_shell_left_alone_is_expanded(desk):
    desk.files(a="one", b="two", deep_c="three")
    assert desk.run("put", "*.txt", "--json").results == [("a.txt", "stored"), ("b.txt", "stored")]
    assert [file for file, _ in desk.run("put", "**/*.txt", "--json").results] == ["a.txt", "b.txt", "deep/c.txt"]


def test_file_whose_name_looks_like_a_pattern_is_itself(desk):
    (desk.folder / "a[1].txt").write_text("one")
    assert desk.run("put", "a[1].txt", "--json").results == [("a[1].txt", "stored")]


def test_pattern_that_nothing_matches_is_refused(desk):
    done = desk.run("put", "*.nothing")
    assert (done.code, done.errors) == (2, ["ConfigError: no file matches '*.nothing'"])


def test_folder_without_r_is_refused_before_anything_is_saved(desk):
    desk.files(a="one", docs_b="two")
    done = desk.run("put", "a.txt", "docs")
    assert (done.code, done.errors) == (2, ["ConfigError: 'docs' is a folder; add -r to save its files"])
    assert not desk.objects.exists()


def test_empty_folder_is_no_error(desk):
    (desk.folder / "empty").mkdir()
    done = desk.run("put", "-r", "empty")
    assert (done.code, done.out) == (0, [])
    assert done.errors[0].startswith("0 files, ")


def test_tags_and_types_are_those_of_every_file(desk):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt", "-t", "text/x-test", "--tag", "project=apollo")
    facts = [desk.run("stat", hash_of(text), "--json").json[0] for text in ("one", "two")]
    assert [(each["content_type"], each["tags"]) for each in facts] == [("text/x-test", {"project": "apollo"})] * 2


# Failing.


def test_file_that_fails_does_not_stop_the_others(desk):
    desk.files(a="one", b="two", c="three")
    desk.break_key("two")
    done = desk.run("put", "a.txt", "b.txt", "c.txt", "--json")
    assert done.code == 5
    assert done.results == [("a.txt", "stored"), ("b.txt", "failed"), ("c.txt", "stored")]
    assert done.json[1]["record"] is None
    assert done.json[1]["error"].startswith("IntegrityError: ")
    failure, summary = done.errors
    assert failure.startswith("IntegrityError: b.txt: ")
    assert summary.startswith("2 files, 8 bytes sent, 0 bytes deduplicated, 1 failed, ")


def test_fail_fast_begins_no_further_file(desk):
    desk.files(a="one", b="two", c="three")
    desk.break_key("one")
    done = desk.run("put", "a.txt", "b.txt", "c.txt", "--json", "--fail-fast", "--jobs", 1)
    assert (done.code, done.results) == (5, [("a.txt", "failed")])


def test_missing_bucket_is_reported_once(desk):
    desk.files(a="one", b="two")
    done = desk.run("put", "a.txt", "b.txt", "--storage", f"{desk.objects.as_uri()}?create=false")
    assert (done.code, len(done.errors)) == (3, 1)
    assert done.errors[0].startswith("BucketNotFound: ")


def test_exit_code_is_that_of_the_gravest_failure(desk):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt")
    (desk.objects / hash_of("one")).write_text("onE")
    done = desk.run("get", hash_of("nothing"), hash_of("one"), hash_of("two"), "-o", "out")
    assert done.code == 5
    assert [line.split(":")[0] for line in done.errors[:2]] == ["NoStorageData", "IntegrityError"]
    assert tree(desk.folder / "out") == {hash_of("two"): "two"}


# Records files.


def test_second_put_adds_only_new_files(desk):
    desk.files(docs_a="one")
    desk.run("put", "-r", "docs", "--records", "docs.jsonl")
    before = (desk.folder / "docs.jsonl").read_text()
    desk.files(docs_b="two")
    done = desk.run("put", "-r", "docs", "--records", "docs.jsonl", "--json")
    assert done.results == [("docs/a.txt", "deduplicated"), ("docs/b.txt", "stored")]
    after = (desk.folder / "docs.jsonl").read_text()
    assert after.startswith(before)
    assert [json.loads(line)["file"] for line in after.splitlines()] == ["docs/a.txt", "docs/b.txt"]


def test_records_file_in_the_folder_is_not_saved_with_it(desk):
    desk.files(a="one")
    for _ in range(2):
        done = desk.run("put", "-r", ".", "--records", "records.jsonl", "--json")
        assert [file for file, _ in done.results if "objects" not in file] == ["./a.txt"]


@pytest.mark.parametrize("kept", [10, -1], ids=["cut off", "without its end of line"])
def test_last_line_that_a_crash_tore_is_mended(desk, kept):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    whole = (desk.folder / "all.jsonl").read_text()
    first, second = whole.splitlines(keepends=True)
    (desk.folder / "all.jsonl").write_text(first + second[:kept])
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    assert (desk.folder / "all.jsonl").read_text() == whole


@pytest.mark.parametrize(
    "text", ["not records\n", "not records", '{"file": "a"}\n', '{"record": {}}\n', '{"record": 1}\n']
)
def test_file_of_something_else_is_refused_and_left_alone(desk, text):
    desk.files(a="one")
    (desk.folder / "notes").write_text(text)
    for command in (("put", "a.txt"), ("get", "-o", "out"), ("ls",), ("rm", "--yes")):
        done = desk.run(*command, "--records", "notes")
        assert done.code == 2
        assert done.errors[0].startswith("InvalidRecord: ")
    assert (desk.folder / "notes").read_text() == text
    assert not desk.objects.exists()


def test_records_that_put_printed_and_lines_of_json_are_records_files_too(desk):
    desk.files(a="one", b="two")
    desk.break_key("two")
    for flag in ("--quiet", "--json"):
        lines = desk.run("put", "a.txt", "b.txt", flag).out
        (desk.folder / "lines.jsonl").write_text("\n".join(lines))
        assert desk.run("get", "--records", "lines.jsonl", "-o", f"out{flag}").code == 0
    assert tree(desk.folder / "out--quiet") == {hash_of("one"): "one"}
    assert tree(desk.folder / "out--json") == {"a.txt": "one"}


# Loading.


def test_several_contents_go_to_standard_output_one_after_another(desk):
    desk.files(a="one\n", b="two\n")
    desk.run("put", "a.txt", "b.txt")
    assert desk.run("get", hash_of("two\n"), hash_of("one\n")).out == ["two", "one"]


def test_file_with_the_right_content_is_left_and_a_wrong_one_replaced(desk):
    desk.files(a="one", b="two", out_a="one", out_b="old", out_c="stays")
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    before = os.stat("out/a.txt")
    done = desk.run("get", "--records", "all.jsonl", "-o", "out", "--json")
    assert done.results == [("out/a.txt", "there already"), ("out/b.txt", "loaded")]
    assert (os.stat("out/a.txt").st_ino, os.stat("out/a.txt").st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert tree(desk.folder / "out") == {"a.txt": "one", "b.txt": "two", "c.txt": "stays"}


def test_last_line_of_a_name_counts(desk):
    desk.files(a="old")
    desk.run("put", "a.txt", "--records", "all.jsonl")
    desk.files(a="new")
    desk.run("put", "a.txt", "--records", "all.jsonl")
    desk.run("get", "--records", "all.jsonl", "-o", "out")
    assert tree(desk.folder / "out") == {"a.txt": "new"}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/", "..", ".", "a\0b"])
def test_name_that_leads_out_of_the_folder_is_refused(desk, name):
    (desk.folder / "deep").mkdir()
    desk.files(a="one")
    (record,) = desk.run("put", "a.txt").json
    (desk.folder / "hostile.jsonl").write_text(json.dumps({"file": name, "record": record}))
    done = desk.run("get", "--records", "hostile.jsonl", "-o", "deep/out")
    assert done.code == 2
    assert done.errors[0].startswith("InvalidRecord: ")
    assert " the file name " in done.errors[0]
    assert not list((desk.folder / "deep").iterdir())


def test_absolute_names_go_into_the_folder(desk):
    (name,) = desk.files(a="one")
    desk.run("put", desk.folder / name, "--records", "all.jsonl")
    desk.run("get", "--records", "all.jsonl", "-o", "out")
    assert list(tree(desk.folder / "out").values()) == ["one"]


# The targets of the other commands.


def test_records_files_are_listed_and_described(desk):
    desk.files(a="one", b="three")
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    listed = desk.run("ls", "--records", "all.jsonl")
    assert [(line.split()[0], line.split()[1], line.split()[3]) for line in listed.out] == [
        (hash_of("one"), "3", "a.txt"),
        (hash_of("three"), "5", "b.txt"),
    ]
    assert listed.errors == ["2 objects, 8 bytes"]
    facts = desk.run("stat", "--records", "all.jsonl", "--json").json
    assert [each["size"] for each in facts] == [3, 5]


def test_missing_content_of_a_records_file_is_reported(desk):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    desk.run("rm", hash_of("one"))
    for command in ("ls", "stat"):
        done = desk.run(command, "--records", "all.jsonl", "--json")
        assert (done.code, [line["result"] for line in done.json]) == (3, ["missing", "found"])
        assert any(line.startswith("NoStorageData: a.txt: ") for line in done.errors)


@pytest.mark.parametrize("targets", [("--records", "all.jsonl"), ("-r", "*")], ids=["records", "pattern"])
def test_many_are_deleted_only_with_yes(desk, targets):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    hashes = {hash_of("one"), hash_of("two")}
    for flags in ((), ("--dry-run",), ("--yes", "--dry-run")):
        done = desk.run("rm", *targets, *flags, "--json")
        assert {line["result"] for line in done.json} == {"would be deleted"}
        assert desk.stored() == hashes
    assert desk.run("rm", *targets).errors == ["2 objects, 6 bytes: nothing was deleted; add --yes to delete them"]
    done = desk.run("rm", *targets, "--yes", "--json")
    assert {(line["content_hash"], line["result"]) for line in done.json} == {(each, "deleted") for each in hashes}
    assert desk.stored() == set()


def test_empty_records_file_deletes_and_loads_nothing(desk):
    desk.files(a="one", empty="")
    desk.run("put", "a.txt")
    for command in (("rm", "--yes"), ("get", "-o", "out"), ("ls",), ("stat",)):
        done = desk.run(*command, "--records", "empty.txt")
        assert (done.code, done.out) == (0, [])
    assert desk.stored() == {hash_of("one")}


def test_content_of_several_records_is_deleted_once(desk):
    desk.files(a="one", b="one")
    desk.run("put", "a.txt", "b.txt", "--records", "all.jsonl")
    assert [line["result"] for line in desk.run("rm", "--records", "all.jsonl", "--yes", "--json").json] == ["deleted"]


def test_pattern_of_hashes_is_looked_up(desk):
    desk.files(a="one", b="two")
    desk.run("put", "a.txt", "b.txt")
    start = hash_of("one")[:6]
    assert [line.split()[0] for line in desk.run("ls", f"{start}*").out] == [hash_of("one")]
    assert desk.run("get", "-r", f"{start}*").out == ["one"]
    done = desk.run("stat", "-r", "zz*")
    assert (done.code, done.errors[0].partition(":")[0]) == (3, "NoStorageData")


def test_url_of_stored_content_is_a_target(desk):
    desk.files(a="one")
    elsewhere = f"{desk.folder.as_uri()}/elsewhere"
    desk.run("put", "a.txt", "--storage", elsewhere)
    url = f"{elsewhere}/{hash_of('one')}?part_size=1000"
    assert desk.run("get", url).out == ["one"]
    assert desk.run("stat", url, "--json").json[0]["bucket"] == str(desk.folder / "elsewhere")
    assert desk.run("rm", url).out == [f"deleted  {hash_of('one')}  3"]
    assert desk.stored("elsewhere") == set()


def test_one_invalid_target_changes_no_file(desk):
    desk.files(a="one")
    desk.run("put", "a.txt")
    assert desk.run("rm", hash_of("one"), "readme").code == 2
    assert desk.stored() == {hash_of("one")}


def test_name_that_could_steer_the_terminal_is_escaped(desk):
    desk.files(a="one")
    (record,) = desk.run("put", "a.txt").json
    (desk.folder / "hostile.jsonl").write_text(json.dumps({"file": "a\x1b[2Jb\nc", "record": record}))
    (line,) = desk.run("ls", "--records", "hostile.jsonl").out
    assert line.endswith(r"  'a\x1b[2Jb\nc'")
    desk.run("rm", hash_of("one"))
    (line,) = [each for each in desk.run("ls", "--records", "hostile.jsonl").errors if "NoStorageData" in each]
    assert r"'a\x1b[2Jb\nc': " in line


def test_name_that_is_no_text_is_saved_and_comes_back(desk):
    name = os.fsdecode(b"caf\xe9")
    (desk.folder / "in").mkdir()
    (desk.folder / "in" / name).write_text("one")
    assert desk.run("put", "-r", "in", "--records", "all.jsonl").code == 0
    assert desk.run("get", "--records", "all.jsonl", "-o", "out").code == 0
    assert tree(desk.folder / "out") == {f"in/{name}": "one"}
