"""How the command understands names: folders as storages, the first digits of hashes, and what isn't there."""

import pytest

from tests.cli.desk import Desk, tree
from tests.helpers import hash_of

ONE, TWO = hash_of("one"), hash_of("two")


@pytest.fixture
def stocked(desk: Desk) -> Desk:
    """A desk whose storage has two files."""
    assert desk.run("put", *desk.files(a="one", b="two"), "--records", "all.jsonl").code == 0
    return desk


@pytest.mark.parametrize("name", ["./blobs", "{folder}/blobs", "~/blobs", "../{base}/blobs", "./a b#c?d%e"])
def test_folder_is_a_storage(desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", str(desk.folder))
    name = name.format(folder=desk.folder, base=desk.folder.name)
    (file,) = desk.files(a="one")
    assert desk.run("put", file, "-s", name).code == 0
    assert desk.stored(name.rpartition("/")[2]) == {ONE}
    assert desk.run("get", f"{name}/{ONE}").out == ["one"]
    assert [line.split()[0] for line in desk.run("ls", name).out] == [ONE]
    assert desk.run("verify", "-s", name).code == 0
    assert desk.run("copy", name, "./copy").code == 0
    assert desk.stored("copy") == {ONE}


def test_folder_is_a_storage_beside_a_configuration(desk: Desk) -> None:
    (desk.folder / "lakery-cloud.toml").write_text(f'[storages.hot]\nurl = "{(desk.folder / "hot").as_uri()}"\n')
    (file,) = desk.files(a="one")
    assert desk.run("put", file, "-s", "./blobs").code == 0
    assert desk.stored("blobs") == {ONE}
    done = desk.run("ls", "-s", "blobs")
    assert (done.code, done.errors) == (
        2,
        ["ConfigError: 'blobs' is neither a configured storage nor a URL; write ./blobs for the folder"],
    )


def test_name_without_any_known_ones_is_refused_in_a_whole_sentence(desk: Desk) -> None:
    (error,) = desk.run("ls", "-s", "nope").errors
    assert error == "ConfigError: 'nope' is neither a configured storage nor a URL"


@pytest.mark.parametrize("digits", [8, 12, 16, 32, 40, 63, 64])
def test_first_digits_of_a_hash_are_looked_up(stocked: Desk, digits: int) -> None:
    target = ONE[:digits]
    assert stocked.run("get", target).out == ["one"]
    assert stocked.run("stat", f"./objects/{target}", "--json").json[0]["content_hash"] == ONE
    assert [line.split()[0] for line in stocked.run("ls", target).out] == [ONE]
    assert stocked.run("rm", target).out == [f"deleted  {ONE}  3"]
    assert stocked.stored() == {TWO}


def test_hash_that_others_begin_with_is_itself(stocked: Desk) -> None:
    (stocked.objects / ONE[:32]).write_text("short")
    done = stocked.run("stat", ONE[:32], "--json")
    assert [line["content_hash"] for line in done.json] == [ONE[:32]]
    assert "2 content hashes begin with" in stocked.run("stat", ONE[:31]).errors[0]


def test_deleted_hash_of_any_algorithm_is_not_there(stocked: Desk) -> None:
    for digits in (32, 40, 56, 64, 96, 128):
        done = stocked.run("rm", "0" * digits)
        assert (done.code, done.out) == (0, [f"not there  {'0' * digits}"])


def test_folder_whose_name_looks_like_a_hash_is_a_storage(desk: Desk) -> None:
    (file,) = desk.files(a="one")
    desk.run("put", file, "-s", "./deadbeef")
    assert [line.split()[0] for line in desk.run("ls", "./deadbeef").out] == [ONE]


def test_copy_of_a_storage_to_itself_says_that_nothing_is_to_do(stocked: Desk) -> None:
    url = stocked.objects.as_uri()
    for source, destination in ((url, url), ("./objects", url), (url, "./objects")):
        done = stocked.run("copy", source, destination)
        assert (done.code, done.out) == (0, [])
        assert len(done.errors) == 1
        assert done.errors[0].endswith("is source and destination: there is nothing to do")


def test_writes_make_the_folder(desk: Desk) -> None:
    (file,) = desk.files(a="one")
    assert desk.run("put", file, "-s", "./new").code == 0
    assert desk.run("copy", "./new", "./newer").code == 0
    assert tree(desk.folder / "newer") == {ONE: "one"}
    assert desk.run("doctor", "./newest").code == 0
    assert desk.run("url", "--put", file, "-s", "./none").code == 2


def test_empty_folder_is_an_empty_storage(desk: Desk) -> None:
    desk.objects.mkdir()
    for command in (["ls"], ["verify"], ["sweep"], ["inventory"], ["copy", "./objects", "./copy"]):
        assert desk.run(*command).code == 0
