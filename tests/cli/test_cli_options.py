"""What all commands have in common: JSON for scripts, less of it all, an example, and how storages and targets are named."""

import json
import re
from collections.abc import Iterator

import pytest
from cyclopts import App

from lakery_cloud.cli.main import app
from tests.cli.desk import Desk

HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


def commands(of: App = app, name: str = "") -> Iterator[tuple[str, App]]:
    for word in of:
        if not word.startswith("-"):
            found, whole = of[word], f"{name} {word}".strip()
            yield from [(whole, found)] if found.default_command else commands(found, whole)


COMMANDS = dict(commands())


def test_all_commands_are_looked_at():
    assert {"put", "get", "ls", "stat", "rm", "copy", "doctor", "url", "explain", "storages"} <= {*COMMANDS}
    assert {"config init", "config show", "config check", "emulators up", "emulators down"} <= {*COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_json_quiet_and_an_example(name):
    arguments = COMMANDS[name].assemble_argument_collection()
    assert {"--json", "--quiet", "-q"} <= {option for argument in arguments for option in argument.names}
    assert re.search(rf"Example: `.*lakery-cloud {name}", COMMANDS[name].default_command.__doc__)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_no_default_that_says_nothing(name, desk: Desk):
    text = " ".join(desk.run(*name.split(), "--help").out)
    assert not re.search(r"default:\s+(\(\)|\"\"|None)", text)
    assert text.replace("\t", " ").isprintable()


@pytest.fixture
def configured(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk with two configured storages that have one file each."""
    monkeypatch.delenv("LAKERY_CLOUD_STORAGE", raising=False)
    text = f"""
        default = "hot"
        [storages.hot]
        url = "{(desk.folder / "hot").as_uri()}"
        [storages.cold]
        url = "{(desk.folder / "cold").as_uri()}"
        name = "tests.options.cold@v1"
    """
    (desk.folder / "lakery-cloud.toml").write_text(text)
    desk.run("put", *desk.files(hello="hello\n"))
    desk.run("put", *desk.files(other="other\n"), "--storage", "cold")
    return desk


def sizes(done) -> list[int]:
    return [line["size"] for line in done.json]


@pytest.mark.parametrize("name", ["hot", "lakery_cloud.file@v1"])
def test_ls_lists_a_storage_that_is_named(configured, name):
    done = configured.run("ls", name)
    assert [line.split()[0] for line in done.out] == [HASH]
    assert done.errors == ["1 object, 6 bytes"]


def test_ls_lists_storages_and_content_together(configured):
    url = (configured.folder / "cold").as_uri()
    assert len(configured.run("ls", "hot", "cold", "--json").json) == 2
    assert len(configured.run("ls", url, f"hot/{HASH}", "hot/58*", "--json").json) == 3


def test_ls_of_an_unknown_word_explains_its_forms(configured):
    done = configured.run("ls", "hto")
    assert done.code == 2
    assert "the name or URL of a storage" in done.errors[0]


@pytest.mark.parametrize("place", ["hot", "lakery_cloud.file@v1"])
def test_a_target_names_its_storage(configured, monkeypatch, place):
    monkeypatch.setenv("LAKERY_CLOUD_STORAGE", "cold")
    target = f"{place}/{HASH}"
    assert configured.run("get", HASH).code == 3
    assert configured.run("get", target).out == ["hello"]
    assert configured.run("stat", target, "--json").json[0]["content_hash"] == HASH
    assert configured.run("get", f"{place}/58*", "-r", "-o", "all").code == 0
    assert (configured.folder / "all" / HASH).read_text() == "hello\n"
    assert configured.run("rm", target).code == 0
    assert configured.run("get", target).code == 3


def test_unknown_storage_is_reported_with_the_nearest_key(configured):
    done = configured.run("get", f"hat/{HASH}")
    assert done.code == 2
    assert "did you mean 'hot'" in done.errors[0]


def test_a_target_with_its_storage_needs_no_other_one(configured):
    file = configured.folder / "lakery-cloud.toml"
    file.write_text(file.read_text() + '[storages.lab]\nurl = "s3://lab"\naccess_key_id = "env:NOT_SET"\n')
    assert configured.run("get", HASH).code == 2
    assert configured.run("get", f"hot/{HASH}").out == ["hello"]


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["ls", "hot"], 1),
        (["stat", HASH], 0),
        (["explain", "photo.jpg"], 1),
        (["storages"], 2),
        (["config", "check"], 0),
        (["config", "init", "new.toml"], 0),
        (["sweep"], 0),
        (["verify"], 0),
        (["rm", "--dry-run", HASH], 0),
        (["rm", "-r", "58*"], 0),
        (["rm", HASH], 0),
        (["emulators", "list"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_quiet_prints_only_results(configured, monkeypatch, words, out):
    monkeypatch.setenv("LAKERY_CLOUD_STATE", str(configured.folder / "state"))
    done = configured.run(*words, "--quiet")
    assert (done.code, len(done.out), done.errors) == (0, out, [])


def test_quiet_does_not_hide_what_fails(configured):
    assert configured.run("stat", HASH.replace("5", "6"), "-q").code == 3
    assert configured.run("emulators", "env", "moto", "-q").errors


def test_explain_gives_the_name_alone(configured):
    assert configured.run("explain", "photo.jpg", "-q").out == ["lakery_cloud.file@v1"]
    assert configured.run("storages", "-q").out == ["hot", "cold"]


def test_url_gives_the_url_alone(configured, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    done = configured.run("url", "--put", "hello.txt", "-q", "-s", "s3://my-bucket?region=eu-central-1")
    assert (done.code, len(done.out), done.errors) == (0, 1, [])


def test_json_is_no_less_for_being_quiet(configured):
    assert json.loads(configured.run("rm", HASH, "-q", "--json").out[0])["result"] == "deleted"
