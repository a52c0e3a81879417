"""A setting is written once, as a field: what accepts or documents settings follows from it."""

import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from lakery_cloud import ConfigError, FileStorage, ObjectStorage, S3Storage
from lakery_cloud.config.secrets import Secret
from lakery_cloud.config.sections import section_of
from lakery_cloud.engine.settings import EngineSettings, keywords_of, redefine, setting
from lakery_cloud.engine.transport import Transport
from lakery_cloud.providers.memory import MEMORY_LIMITS, MemoryBucket, MemoryTransport
from tools.settings_page import settings_of_provider


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfSettings(EngineSettings):
    """Settings of `ShelfStorage`: one of each kind."""

    bucket: str = field(kw_only=False, metadata={"meaning": "Name of the shelf.", "in_files": False})
    height: int = setting(3, "Boards of the shelf.", least=2)
    load: int = setting(1024, "Weight of one board.", unit="bytes")
    patience: float = setting(0.5, "Time to wait for a ladder.", unit="seconds")
    wood: Literal["oak", "pine"] | None = setting(None, "Kind of wood.")
    is_open: bool = setting(True, "Whether the shelf has no doors.")
    key: str | None = setting(None, "Key of the doors.", is_secret=True)
    keeper: "object | None" = setting(None, "Keeper of the key.", in_files=False, is_secret=True)
    limits: Any = redefine(EngineSettings, "limits", MEMORY_LIMITS)


class ShelfStorage(ObjectStorage[Any]):
    name = "tests.settings.shelf@v1"
    url_scheme = "shelf"
    place_names = ("key",)
    settings_class = ShelfSettings
    settings: ShelfSettings

    @keywords_of(ShelfSettings)
    def __init__(self, settings: ShelfSettings) -> None:
        super().__init__(settings.bucket, settings)

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        yield MemoryTransport(MemoryBucket(), self.settings)


ShelfSection = section_of(ShelfSettings, scheme="shelf", title="Shelf")


def test_constructor_accepts_the_fields() -> None:
    storage = ShelfStorage("top", height=4, wood="oak", key="k")
    assert (storage.settings.height, storage.settings.wood, storage.settings.load) == (4, "oak", 1024)
    parameters = inspect.signature(ShelfStorage).parameters
    assert [*parameters][:2] == ["bucket", "prefix"]
    assert (parameters["height"].default, parameters["height"].kind) == (3, inspect.Parameter.KEYWORD_ONLY)
    documented = inspect.getdoc(ShelfStorage.__init__)
    assert documented is not None
    assert "height: Boards of the shelf." in documented
    assert "load: Weight of one board. In bytes." in documented


def test_url_accepts_the_fields_without_secrets() -> None:
    storage = ShelfStorage.from_url("shelf://top/a?height=4&load=5&patience=1&wood=pine&is_open=false")
    settings = storage.settings
    found = (settings.height, settings.load, settings.patience, settings.wood, settings.is_open, settings.prefix)
    assert found == (4, 5, 1.0, "pine", False, "a")
    for name in ("key", "keeper", "bucket", "prefix", "limits"):
        with pytest.raises(ConfigError, match=f"unknown setting '{name}' in the URL"):
            ShelfStorage.from_url(f"shelf://top?{name}=x")


def test_configuration_accepts_the_fields_of_files() -> None:
    given = {"height": "4", "load": "2KiB", "patience": "1", "wood": "pine", "is_open": "false", "key": "k"}
    section: Any = ShelfSection.model_validate({"url": "shelf://top", **given})
    assert (section.height, section.load, section.patience, section.wood, section.is_open) == (
        4,
        2048,
        1,
        "pine",
        False,
    )
    assert isinstance(section.key, Secret)
    assert ShelfSection.credential_names == ("key",)
    for name in ("keeper", "bucket", "prefix", "limits"):
        with pytest.raises(ValidationError, match="Extra inputs"):
            ShelfSection.model_validate({"url": "shelf://top", name: "x"})


def test_page_of_settings_has_the_fields_that_files_may_hold() -> None:
    rows = {line.split("`")[1]: line for line in settings_of_provider(ShelfSection) if line.startswith("| `")}
    assert [*rows] == ["height", "load", "patience", "wood", "is_open", "key"]
    variable = "`LAKERY_CLOUD_STORAGES__<KEY>__LOAD`"
    assert rows["load"] == f"| `load` | size | `1 KiB` | {variable} | Weight of one board. |"
    assert "| `oak`, `pine` | - |" in rows["wood"]
    assert "| seconds | `0.5` |" in rows["patience"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("height", 1, "height must be a whole number of at least 2, not 1"),
        ("height", 2.5, "height must be a whole number of at least 2, not 2.5"),
        ("height", True, "height must be a whole number of at least 2, not True"),
        ("patience", 0, "patience must be a number of seconds over 0, not 0"),
        ("patience", float("nan"), "patience must be a number of seconds over 0, not nan"),
        ("patience", "1", "patience must be a number of seconds over 0, not '1'"),
        ("wood", "ebony", "wood must be 'oak' or 'pine', not 'ebony'"),
        ("widht", 1, "unknown setting 'widht'"),
        ("heigth", 1, "unknown setting 'heigth'; did you mean 'height'"),
    ],
)
def test_error_names_the_setting(name: str, value: object, message: str) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=message):
        ShelfStorage("top", **arguments)


def test_secrets_are_not_shown() -> None:
    assert "s3cr3t" not in repr(ShelfStorage("top", key="s3cr3t", keeper="s3cr3t").settings)


def test_subclass_may_redefine_a_default() -> None:
    assert FileStorage("folder").settings.concurrent_ranges == 1
    assert FileStorage("folder", concurrent_ranges=0).settings.concurrent_ranges == 0
    assert S3Storage("bucket").settings.concurrent_ranges == 0
