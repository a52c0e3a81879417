"""Tables of the documentation name everything that the code has."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import lakery_cloud
from lakery_cloud import errors
from lakery_cloud.cli.main import EXIT_CODES, app
from lakery_cloud.engine.settings import EngineSettings
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.providers.file import FileStorage
from lakery_cloud.providers.memory import MemoryStorage
from lakery_cloud.providers.s3 import S3Storage
from lakery_cloud.testing import StorageConformance
from tests.rigs import S3_CANNOT

pytestmark = pytest.mark.docs

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    text = (DOCS / page).read_text("utf-8")
    _, found, rest = text.partition(f"# {heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    lines = [line for line in rest.partition("\n#")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def names(table: list[list[str]]) -> list[str]:
    return [row[0].strip("` ") for row in table]


def own_settings(storage_class: type) -> list[str]:
    parameters = inspect.signature(storage_class).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]


def test_every_setting_is_documented() -> None:
    assert names(rows("storages/s3.md", "Settings")) == own_settings(S3Storage)
    assert names(rows("storages/file.md", "Settings")) == own_settings(FileStorage)
    assert names(rows("storages/memory.md", "MemoryStorage")) == own_settings(MemoryStorage)
    documented = names(rows("storages/s3.md", "Settings of every storage"))
    assert sorted(documented) == sorted(field.name for field in fields(EngineSettings))


def test_defaults_of_settings_are_true() -> None:
    table = {row[0].strip("` "): row[2] for row in rows("storages/s3.md", "Settings of every storage")}
    for field in fields(EngineSettings):
        if field.name != "limits":
            number, _, unit = table[field.name].strip("`").partition(" ")
            assert str(field.default) == (str(int(number) * 1024**2) if unit == "MiB" else number), field.name
    table = {row[0].strip("` "): row[2] for row in rows("storages/s3.md", "Settings")}
    for name in ("requester_pays", "conditional_writes", "max_attempts", "connect_timeout", "read_timeout"):
        assert str(inspect.signature(S3Storage).parameters[name].default) == table[name].strip("`"), name


def test_limits_of_concurrency_are_true() -> None:
    for row in rows("algorithm.md", "Concurrency and memory"):
        default = {field.name: field.default for field in fields(EngineSettings)}[row[0].strip("` ")]
        number, _, unit = row[1].partition(" ")
        assert default == int(number) * (1024**2 if unit == "MiB" else 1)


def test_every_url_setting_can_stand_in_a_url() -> None:
    not_in_urls = {"bucket", "prefix", "session", "client"}
    assert set(own_settings(S3Storage)) - not_in_urls == set(S3Storage.url_options)


def test_every_error_is_documented() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, LakeryCloudError) and value is not LakeryCloudError
    }
    assert set(names(rows("errors.md", "Errors"))) == defined
    assert defined <= set(lakery_cloud.__all__)


def test_exit_codes_are_true() -> None:
    table = {row[0]: set(re.findall(r"`(\w+)`", row[2])) for row in rows("command.md", "Exit codes") if len(row) > 2}
    for code, kinds in EXIT_CODES:
        assert table[str(code)] == {kind.__name__ for kind in kinds}


def test_every_command_is_documented() -> None:
    text = (DOCS / "command.md").read_text("utf-8")
    commands = [name for name in app if not name.startswith("-")]
    assert commands
    for name in commands:
        assert f"\n## {name}\n" in text


def test_every_case_of_the_suite_is_documented() -> None:
    in_suite = {
        mark.args[0]
        for test in vars(StorageConformance).values()
        for mark in getattr(test, "pytestmark", ())
        if mark.name == "case"
    }
    assert set(names(rows("conformance.md", "In the suite"))) == in_suite


def test_every_test_that_a_server_cannot_show_is_documented() -> None:
    documented = {row[1].strip("` "): row[0] for row in rows("emulators.md", "What the suite leaves out")}
    left_out = {test: server for server, tests in S3_CANNOT.items() for test in tests}
    assert {test: server.lower() for test, server in documented.items()} == left_out


def test_no_page_says_that_planned_storages_are_here() -> None:
    for path in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for line in path.read_text("utf-8").splitlines():
            if "GCSStorage" in line or "AzureBlobStorage" in line:
                assert "planned" in line, f"{path}: {line}"
