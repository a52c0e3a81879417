"""`config`, `explain`, `storages` and `--storage` with configured storages, as a user runs them."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import ContentRecord
from lakery_cloud.cli.common import open_registry
from tests.cli.desk import Desk, Done
from tests.helpers import run_command

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


class Folder(Desk):
    """A folder with a configuration, and the command in this process."""

    def __init__(self, folder: Path, output: pytest.CaptureFixture[str]) -> None:
        super().__init__(folder, output)
        self.file = folder / "lakery-cloud.toml"

    def configure(self) -> None:
        self.file.write_text(EXAMPLE.format(folder=self.folder), "utf-8")

    def lines(self, *arguments: str) -> list[Any]:
        done = self.run(*arguments, "--json")
        assert (done.code, done.errors) == (0, [])
        return done.json

    def record(self, *arguments: str) -> ContentRecord:
        return ContentRecord.from_json("\n".join(self.run("put", *arguments).out))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "etc"))
    monkeypatch.setenv("LAB_KEY", "k")
    return Folder(tmp_path, capfd)


def assert_fails(done: Done, message: str) -> None:
    assert (done.code, done.out) == (2, [])
    assert message in "\n".join(done.errors)


def test_first_file_is_valid_and_not_overwritten_without_force(folder: Folder) -> None:
    assert folder.lines("config", "init") == [{"written": "lakery-cloud.toml"}]
    text = folder.file.read_text("utf-8")
    (checked,) = folder.lines("config", "check")
    assert (checked["storages"], checked["routes"], checked["default"]) == (1, 0, "lakery_cloud.file@v1")
    folder.file.write_text("mine", "utf-8")
    assert_fails(folder.run("config", "init"), "--force")
    assert folder.file.read_text("utf-8") == "mine"
    folder.run("config", "init", "--force")
    assert folder.file.read_text("utf-8") == text


def test_commented_lines_of_the_first_file_are_valid(folder: Folder, tmp_path: Path) -> None:
    folder.run("config", "init")
    lines = folder.file.read_text("utf-8").splitlines()
    text = "\n".join(line.removeprefix("# ") if "[" in line or " = " in line else line for line in lines)
    assert {*tomllib.loads(text)} == {"default", "storages", "routes", "retired"}
    folder.file.write_text(text.replace("env:HOT_KEY", "env:LAB_KEY"), "utf-8")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hot").write_text("secret", "utf-8")
    assert folder.lines("config", "check")[0]["storages"] == 3


def test_settings_are_shown_with_their_origin_and_without_secrets(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.configure()
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__LAB__REGION", "eu-central-1")
    shown = {line["setting"]: (line["value"], line["origin"]) for line in folder.lines("config", "show")}
    assert shown["default"] == ("hot", f"{folder.file}:2")
    assert shown["storages.lab.access_key_id"] == ("env:LAB_KEY", f"{folder.file}:13")
    assert shown["storages.lab.secret_access_key"] == ("*" * 10, f"{folder.file}:14")
    assert shown["storages.lab.region"] == ("eu-central-1", "LAKERY_CLOUD_STORAGES__LAB__REGION")
    assert shown["routes 1.tag.tier"] == ("cold", f"{folder.file}:17")


def test_wrong_configuration_ends_every_command_that_reads_it(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.configure()
    monkeypatch.delenv("LAB_KEY")
    assert_fails(folder.run("config", "check"), "'env:LAB_KEY' is not set")
    assert folder.run("config", "show").code == 0
    folder.file.write_text("defualt = 1", "utf-8")
    for command in (("config", "show"), ("config", "check"), ("storages",), ("explain", "a"), ("ls",)):
        assert_fails(folder.run(*command), "did you mean 'default'?")


def test_storages_are_listed(folder: Folder) -> None:
    folder.configure()
    hot, cold, lab = folder.lines("storages")
    assert (hot["key"], hot["name"], hot["is_default"]) == ("hot", "lakery_cloud.file@v1", True)
    assert (cold["name"], cold["is_default"]) == ("tests.command.cold@v1", False)
    assert lab["credential_source"] == "[storages.lab] access_key_id = 'env:LAB_KEY', secret_access_key"
    assert lab["place"] == "s3://lab/"


def test_explanation_is_where_put_saves(folder: Folder, tmp_path: Path) -> None:
    folder.configure()
    (tmp_path / "a.txt").write_text("content", "utf-8")
    (explained,) = folder.lines("explain", "a.txt")
    assert explained["rule"] == "default"
    assert explained["passed_over"] == ["route 1: there is no tag 'tier'"]
    record = folder.record("a.txt")
    assert explained["storage_name"] == record.storage_name
    assert (tmp_path / "hot" / explained["key"]).is_file()


def test_explanation_needs_no_file(folder: Folder) -> None:
    folder.configure()
    (explained,) = folder.lines("explain", "photo.jpg", "--tag", "tier=cold", "--size", "1MiB")
    assert (explained["rule"], explained["storage_name"]) == ("route 1", "tests.command.cold@v1")
    assert explained["key"] is None
    (explained,) = folder.lines("explain", "-", "--storage", "lab")
    assert (explained["rule"], explained["bucket"]) == ("named by the caller", "lab")
    assert_fails(folder.run("explain", "-", "--size", "many"), "64MiB")


@pytest.mark.parametrize("target", ["cold", "tests.command.cold@v1"])
def test_storage_is_named_by_its_key_or_its_permanent_name(folder: Folder, tmp_path: Path, target: str) -> None:
    folder.configure()
    (tmp_path / "a.txt").write_text("content", "utf-8")
    record = folder.record("a.txt", "--storage", target)
    assert record.storage_name == "tests.command.cold@v1"
    assert folder.run("get", record.to_json(), "--storage", target).out == ["content"]
    assert (tmp_path / "cold" / record.content_hash).is_file()


def test_storage_that_is_not_configured_is_refused_with_the_nearest(folder: Folder) -> None:
    folder.configure()
    assert_fails(folder.run("ls", "--storage", "cld"), "did you mean 'cold'?")


def test_url_on_the_command_line_overrides_the_configuration(folder: Folder, tmp_path: Path) -> None:
    folder.file.write_text("defualt = 1", "utf-8")
    (tmp_path / "elsewhere").mkdir()
    assert folder.run("ls", "--storage", f"file://{tmp_path}/elsewhere").code == 0


@pytest.mark.parametrize(
    ("target", "default"),
    [(None, "lakery_cloud.file@v1"), ("cold", "tests.command.cold@v1"), ("memory://m", "lakery_cloud.memory@v1")],
)
async def test_registry_of_the_command_has_all_storages(folder: Folder, target: str | None, default: str) -> None:
    folder.configure()
    async with open_registry(target) as registry:
        assert registry.default.name == default
        assert {*registry.names} >= {"lakery_cloud.file@v1", "tests.command.cold@v1", "lakery_cloud.s3@v1"}


async def test_registry_of_the_command_without_a_configuration_is_the_default_folder(folder: Folder) -> None:
    async with open_registry(None) as registry:
        assert registry.names == ("lakery_cloud.file@v1",)


def test_file_whose_name_is_no_text_is_written_and_named(tmp_path: Path) -> None:
    for name, shown in ((b"\xff.toml", rb"'\udcff.toml'"), (b"\x1b[2J.toml", rb"'\x1b[2J.toml'")):
        done = run_command("config", "init", os.fsdecode(name), cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"written  " + shown + b"\n", b"")
