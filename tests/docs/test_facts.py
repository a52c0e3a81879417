"""Tables of the documentation name everything that the code has."""

import re
from pathlib import Path
from typing import Any

import pytest

import lakery_cloud
from lakery_cloud import errors
from lakery_cloud.cli.main import EXIT_CODES, app
from lakery_cloud.config.urls import STORAGE_CLASSES
from lakery_cloud.emulators import EMULATORS
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.settings import EngineSettings, Setting, settings_of
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.providers.azure.storage import AzureBlobStorage
from lakery_cloud.providers.file import FileStorage
from lakery_cloud.providers.gcs.storage import GCSStorage
from lakery_cloud.providers.memory import MemoryStorage
from lakery_cloud.providers.s3.storage import S3Storage
from lakery_cloud.testing import StorageConformance
from lakery_cloud.testing.faults import FAULTS
from lakery_cloud.testing.faults.dialect import NEUTRAL_OPERATIONS
from lakery_cloud.testing.faults.dialects import DIALECTS
from tests.rigs.pairs import CLOUDS, LOCAL_PAIRS, MINISTACK, TESTBENCH_PAIR

pytestmark = pytest.mark.docs

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, heading: str, *, with_head: bool = False) -> list[list[str]]:
    """The cells of the first table after a heading."""
    text = (DOCS / page).read_text("utf-8")
    _, found, rest = text.partition(f"# {heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    lines = [line for line in rest.partition("\n#")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in [*lines[: int(with_head)], *lines[2:]]]


def names(table: list[list[str]]) -> list[str]:
    return [row[0].strip("` ") for row in table]


OF_ALL = {name: setting for name, setting in settings_of(EngineSettings).items() if name != "prefix"}
"""Settings of every storage. Each page has its own line about the prefix."""
DEFAULTS = S3Storage("bucket").settings
"""The same with their defaults, where some follow from others."""


def own_settings(storage_class: type[ObjectStorage[Any]]) -> dict[str, Setting]:
    """Settings of a storage class that not every storage has, by name."""
    found = settings_of(storage_class.settings_class)
    return {name: setting for name, setting in found.items() if name not in OF_ALL}


def test_every_setting_is_documented() -> None:
    assert sorted(names(rows("storages/s3.md", "Settings"))) == sorted(own_settings(S3Storage))
    assert sorted(names(rows("storages/gcs.md", "Settings"))) == sorted(own_settings(GCSStorage))
    assert sorted(names(rows("storages/azure.md", "Settings"))) == sorted(own_settings(AzureBlobStorage))
    assert sorted(names(rows("storages/file.md", "Settings"))) == sorted(own_settings(FileStorage))
    assert sorted(names(rows("storages/memory.md", "MemoryStorage"))) == sorted(own_settings(MemoryStorage))
    documented = names(rows("storages/s3.md", "Settings of every storage"))
    assert sorted(documented) == sorted(OF_ALL)


def test_defaults_of_settings_are_true() -> None:
    table = {row[0].strip("` "): row[2] for row in rows("storages/s3.md", "Settings of every storage")}
    for name in OF_ALL:
        if name != "limits":
            number, _, unit = table[name].strip("`").partition(" ")
            assert str(getattr(DEFAULTS, name)) == (str(int(number) * 1024**2) if unit == "MiB" else number), name
    shared = ("max_attempts", "connect_timeout", "read_timeout", "fast_lane")
    for page, storage_class, own in (
        ("s3", S3Storage, ("requester_pays", "conditional_writes")),
        ("gcs", GCSStorage, ("composite_uploads",)),
        ("azure", AzureBlobStorage, ("blob_tags",)),
    ):
        table = {row[0].strip("` "): row[2] for row in rows(f"storages/{page}.md", "Settings")}
        for name in (*own, *shared):
            default = own_settings(storage_class)[name].default
            assert str(default) == table[name].strip("`"), f"{page}: {name}"


def test_limits_of_concurrency_are_true() -> None:
    for row in rows("algorithm.md", "Concurrency and memory"):
        default = getattr(DEFAULTS, row[0].strip("` "))
        number, _, unit = row[1].partition(" ")
        assert default == int(number) * (1024**2 if unit == "MiB" else 1)


def test_every_url_setting_is_accepted_in_a_url() -> None:
    for storage_class, not_in_urls in (
        (S3Storage, {"bucket", "prefix", "session", "client"}),
        (GCSStorage, {"bucket", "prefix", "fs", "token"}),
        (
            AzureBlobStorage,
            {"container", "prefix", "fs", "account_key", "connection_string", "sas_token", "credential"},
        ),
    ):
        assert (
            set(own_settings(storage_class)) - not_in_urls == storage_class.settings_class.url_readers().keys() - OF_ALL
        )


def test_aliases_are_documented() -> None:
    text = (DOCS / "registry.md").read_text("utf-8")
    for storage_class in (S3Storage, GCSStorage, AzureBlobStorage):
        assert storage_class.aliases
        for alias in storage_class.aliases:
            assert f"`{alias}`" in text


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
        for kind in StorageConformance.__mro__
        for test in vars(kind).values()
        for mark in getattr(test, "pytestmark", ())
        if mark.name == "case"
    }
    assert set(names(rows("conformance.md", "In the suite"))) == in_suite


def test_every_test_that_a_server_cannot_show_is_documented() -> None:
    titles = {
        "s3-moto": "moto",
        "s3-localstack": "LocalStack",
        "s3-seaweedfs": "SeaweedFS",
        "s3-ministack": "MiniStack",
        "gcs-fake": "fake-gcs-server",
        "gcs-strict": "StrictGCS",
        "gcs-composite": "fake-gcs-server",
        "gcs-testbench": "storage-testbench",
        "azure-azurite": "Azurite",
    }
    documented = [(row[0], row[1].strip("` ")) for row in rows("emulators.md", "What the suite leaves out")]
    cannot = [
        (titles[pair.name], test)
        for pair in (*LOCAL_PAIRS, MINISTACK, TESTBENCH_PAIR)
        if pair.cloud in CLOUDS
        for test in pair.cannot
    ]
    assert sorted(documented) == sorted(set(cannot))


def test_every_emulator_is_documented() -> None:
    table = {row[0].strip("` ") for row in rows("testing.md", "Local servers")}
    assert table == {emulator.__name__ for emulator in EMULATORS.values()}


def test_every_fault_and_operation_is_documented() -> None:
    assert names(rows("faults.md", "Faults")) == list(FAULTS)
    table = {row[0].strip("` "): row[1:] for row in rows("faults.md", "Operations")}
    assert set(table) == NEUTRAL_OPERATIONS
    for neutral, cells in table.items():
        for cell, dialect in zip(cells, DIALECTS.values(), strict=True):
            own = [operation for operation, shared in dialect.operations.items() if shared == neutral]
            assert re.findall(r"`([^`]+)`", cell) == own


def test_every_storage_is_in_the_readme_and_none_is_called_planned() -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    for module, name in STORAGE_CLASSES.values():
        storage_class = getattr(lakery_cloud, name)
        page = module.split(".")[2]
        assert f"/docs/storages/{page}.md) | `{storage_class.name}` |" in readme
    for path in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for line in path.read_text("utf-8").splitlines():
            if any(name in line for _, name in STORAGE_CLASSES.values()):
                assert "planned" not in line, f"{path}: {line}"


def test_pages_of_clouds_state_that_they_were_tested_locally_only() -> None:
    for page in ("gcs", "azure"):
        text = (DOCS / "storages" / f"{page}.md").read_text("utf-8")
        assert "**It has not yet been run against the real" in " ".join(text.split())
