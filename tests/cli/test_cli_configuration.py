"""`config`, `explain`, `storages` and `--storage` with what a configuration names, as a user runs them."""

import json
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lakery_cloud import ContentRecord
from lakery_cloud.cli.common import open_registry
from lakery_cloud.cli.main import app

EXAMPLE = """
default = "hot"

[storages.hot]
url = "file://{folder}/hot"

[storages.cold]
url = "file://{folder}/cold"
name = "tests.command.cold@v1"

[storages.lab]
url = "s3://lab"
access_key_id = "env:LAB_KEY"
secret_access_key = "very secret"

[[routes]]
tag = {{ tier = "cold" }}
storage = "cold"
"""


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


class Shell:
    """The command in a folder of its own, in this process: that a process of its own does the same, test_cli.py shows."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.file = folder / "lakery-cloud.toml"
        self._output = output
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "etc"))
        monkeypatch.setenv("LAB_KEY", "k")

    def configure(self) -> None:
        self.file.write_text(EXAMPLE.format(folder=self.folder), "utf-8")

    def run(self, *arguments: str) -> Done:
        self._output.readouterr()
        code = app.meta(arguments, exit_on_error=False, result_action="return_value")
        return Done(code, *self._output.readouterr())

    def lines(self, *arguments: str) -> list[Any]:
        done = self.run(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def record(self, *arguments: str) -> ContentRecord:
        return ContentRecord.from_json(self.run("put", *arguments).stdout)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, monkeypatch, capfd)


def assert_fails(done: Done, message: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_file_to_start_with_is_right_and_never_replaced_by_itself(shell: Shell) -> None:
    assert shell.lines("config", "init") == [{"written": "lakery-cloud.toml"}]
    text = shell.file.read_text("utf-8")
    (checked,) = shell.lines("config", "check")
    assert (checked["storages"], checked["routes"], checked["default"]) == (1, 0, "lakery_cloud.file@v1")
    shell.file.write_text("mine", "utf-8")
    assert_fails(shell.run("config", "init"), "--force")
    assert shell.file.read_text("utf-8") == "mine"
    shell.run("config", "init", "--force")
    assert shell.file.read_text("utf-8") == text


def test_every_line_that_the_first_file_leaves_out_is_right(shell: Shell, tmp_path: Path) -> None:
    shell.run("config", "init")
    lines = shell.file.read_text("utf-8").splitlines()
    text = "\n".join(line.removeprefix("# ") if "[" in line or " = " in line else line for line in lines)
    assert {*tomllib.loads(text)} == {"default", "storages", "routes", "retired"}
    shell.file.write_text(text.replace("env:HOT_KEY", "env:LAB_KEY"), "utf-8")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hot").write_text("secret", "utf-8")
    assert shell.lines("config", "check")[0]["storages"] == 3


def test_settings_are_shown_with_their_origin_and_without_secrets(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.configure()
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__LAB__REGION", "eu-central-1")
    shown = {line["setting"]: (line["value"], line["origin"]) for line in shell.lines("config", "show")}
    assert shown["default"] == ("hot", f"{shell.file}:2")
    assert shown["storages.lab.access_key_id"] == ("env:LAB_KEY", f"{shell.file}:13")
    assert shown["storages.lab.secret_access_key"] == ("*" * 10, f"{shell.file}:14")
    assert shown["storages.lab.region"] == ("eu-central-1", "LAKERY_CLOUD_STORAGES__LAB__REGION")
    assert shown["routes 1.tag.tier"] == ("cold", f"{shell.file}:17")


def test_wrong_configuration_ends_every_command_that_reads_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.configure()
    monkeypatch.delenv("LAB_KEY")
    assert_fails(shell.run("config", "check"), "'env:LAB_KEY' is not set")
    assert shell.run("config", "show").returncode == 0
    shell.file.write_text("defualt = 1", "utf-8")
    for command in (("config", "show"), ("config", "check"), ("storages",), ("explain", "a"), ("ls",)):
        assert_fails(shell.run(*command), "did you mean 'default'?")


def test_storages_are_listed(shell: Shell) -> None:
    shell.configure()
    hot, cold, lab = shell.lines("storages")
    assert (hot["key"], hot["name"], hot["is_default"]) == ("hot", "lakery_cloud.file@v1", True)
    assert (cold["name"], cold["is_default"]) == ("tests.command.cold@v1", False)
    assert lab["credential_source"] == "[storages.lab] access_key_id = 'env:LAB_KEY', secret_access_key"
    assert lab["place"] == "s3://lab/"


def test_explanation_is_where_put_saves(shell: Shell, tmp_path: Path) -> None:
    shell.configure()
    (tmp_path / "a.txt").write_text("content", "utf-8")
    (explained,) = shell.lines("explain", "a.txt")
    assert explained["rule"] == "default"
    assert explained["passed_over"] == ["route 1: there is no tag 'tier'"]
    record = shell.record("a.txt")
    assert explained["storage_name"] == record.storage_name
    assert (tmp_path / "hot" / explained["key"]).is_file()


def test_explanation_needs_no_file(shell: Shell) -> None:
    shell.configure()
    (explained,) = shell.lines("explain", "photo.jpg", "--tag", "tier=cold", "--size", "1MiB")
    assert (explained["rule"], explained["storage_name"]) == ("route 1", "tests.command.cold@v1")
    assert explained["key"] is None
    (explained,) = shell.lines("explain", "-", "--storage", "lab")
    assert (explained["rule"], explained["bucket"]) == ("named by the caller", "lab")
    assert_fails(shell.run("explain", "-", "--size", "many"), "64MiB")


@pytest.mark.parametrize("target", ["cold", "tests.command.cold@v1"])
def test_storage_is_named_by_its_key_or_its_permanent_name(shell: Shell, tmp_path: Path, target: str) -> None:
    shell.configure()
    (tmp_path / "a.txt").write_text("content", "utf-8")
    record = shell.record("a.txt", "--storage", target)
    assert record.storage_name == "tests.command.cold@v1"
    assert shell.run("get", record.to_json(), "--storage", target).stdout == "content"
    assert (tmp_path / "cold" / record.content_hash).is_file()


def test_storage_that_is_not_configured_is_refused_with_the_nearest(shell: Shell) -> None:
    shell.configure()
    assert_fails(shell.run("ls", "--storage", "cld"), "did you mean 'cold'?")


def test_url_counts_whatever_the_configuration_says(shell: Shell, tmp_path: Path) -> None:
    shell.file.write_text("defualt = 1", "utf-8")
    assert shell.run("ls", "--storage", f"file://{tmp_path}/elsewhere").returncode == 0


@pytest.mark.parametrize(
    ("target", "default"),
    [(None, "lakery_cloud.file@v1"), ("cold", "tests.command.cold@v1"), ("memory://m", "lakery_cloud.memory@v1")],
)
async def test_registry_of_the_command_has_all_storages(shell: Shell, target: str | None, default: str) -> None:
    shell.configure()
    async with open_registry(target) as registry:
        assert registry.default.name == default
        assert {*registry.names} >= {"lakery_cloud.file@v1", "tests.command.cold@v1", "lakery_cloud.s3@v1"}


async def test_registry_of_the_command_without_a_configuration_is_the_default_folder(shell: Shell) -> None:
    async with open_registry(None) as registry:
        assert registry.names == ("lakery_cloud.file@v1",)
