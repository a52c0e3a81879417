"""Settings come from a file, the environment and the program; errors name the place and the nearest key."""

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lakery_cloud
from lakery_cloud import ConfigError, Configuration
from lakery_cloud.config import layers
from lakery_cloud.config.sections import SECTIONS, StorageSection
from lakery_cloud.config.urls import STORAGE_CLASSES

MiB = 1024**2

EXAMPLE = """
default = "hot"

[storages.hot]
url = "s3://hot-bucket/blobs"
region = "eu-central-1"
part_size = "64MiB"

[storages.archive]
url = "gs://archive-bucket"
name = "acme.archive@v1"

[[routes]]
content_type = "image/*"
storage = "archive"

[[routes]]
tag = { tier = "cold" }
min_size = "1GB"
storage = "archive"
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file below a new working directory; the user's configuration folder is below it too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layers, "user_file", lambda: tmp_path / "home" / layers.FILE_NAME)

    def write_file(text: str = EXAMPLE, path: str = layers.FILE_NAME) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return file

    return write_file


def default_of(text: str) -> str:
    return f'default = "{text}"\n'


# Reading.


def test_file_is_read_with_its_types(write: Write) -> None:
    write()
    configuration = Configuration.load()
    assert configuration.default == "hot"
    assert configuration.storages["hot"].part_size == 64 * MiB
    assert configuration.routes[1].tag == {"tier": "cold"}
    assert configuration.routes[1].min_size == 10**9


def test_file_is_found_upwards(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(default_of("above"))
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Configuration.load().default == "above"
    write(default_of("nearer"), f"a/{layers.FILE_NAME}")
    assert Configuration.load().default == "nearer"


def test_named_file_goes_before_the_folder_and_the_folder_before_the_user(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(default_of("user"), f"home/{layers.FILE_NAME}")
    assert Configuration.load().default == "user"
    write(default_of("folder"))
    assert Configuration.load().default == "folder"
    monkeypatch.setenv("LAKERY_CLOUD_CONFIG", str(write(default_of("variable"), "a.toml")))
    assert Configuration.load().default == "variable"
    assert Configuration.load(write(default_of("argument"), "b.toml")).default == "argument"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_file_of_another_user_is_read_only_where_it_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(write(), 12345, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        Configuration.load()
    monkeypatch.setenv("LAKERY_CLOUD_CONFIG", layers.FILE_NAME)
    assert Configuration.load().default == "hot"


def test_without_a_file_nothing_is_configured(write: Write) -> None:
    assert not Configuration.load().storages


def test_environment_goes_before_the_file_and_the_program_before_both(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__HOT__REGION", "us-east-1")
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__HOT__MAX_ATTEMPTS", "7")
    configuration = Configuration.load(storages={"hot": {"max_attempts": 9}})
    hot: Any = configuration.storages["hot"]
    assert (hot.region, hot.max_attempts, hot.part_size) == ("us-east-1", 9, 64 * MiB)
    assert configuration.place("storages", "hot", "max_attempts") == "the program"
    assert configuration.place("storages", "hot", "region") == "LAKERY_CLOUD_STORAGES__HOT__REGION"
    assert configuration.place("storages", "hot", "part_size") == f"{path}:7"
    assert configuration.place("routes", 1, "min_size") == f"{path}:19"


def test_environment_alone_is_enough(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__LAB__URL", "az://lab")
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__LAB__ACCOUNT_NAME", "123456")  # digits stay a text
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__LAB__ALLOWED_BUCKETS", "first,second")
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__LAB__VERIFY", "false")
    monkeypatch.setenv("LAKERY_CLOUD_ROUTES", json.dumps([{"storage": "lab", "max_size": "1KiB"}]))
    configuration = Configuration.load()
    lab: Any = configuration.storages["lab"]
    assert (lab.account_name, lab.allowed_buckets, lab.verify) == ("123456", ["first", "second"], False)
    assert configuration.routes[0].max_size == 1024


def test_configuration_of_the_program_ignores_file_and_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    monkeypatch.setenv("LAKERY_CLOUD_DEFAULT", "hot")
    configuration = Configuration(storages={"disk": {"url": "file:///srv/blobs"}})
    assert (list(configuration.storages), configuration.default) == (["disk"], None)


@pytest.mark.parametrize(
    ("retired", "default"),
    [([], None), (["hot"], "archive"), (["acme.archive@v1 = archive"], "hot"), (["acme.old@v1 = archive"], None)],
)
def test_default_is_the_only_storage_that_is_not_retired(retired: list[str], default: str | None) -> None:
    storages = {"hot": {"url": "memory://hot"}, "archive": {"url": "memory://a", "name": "acme.archive@v1"}}
    assert Configuration(storages=storages, retired={"storages": retired}).default_key == default
    assert Configuration(storages=storages, default="hot").default_key == "hot"


# Errors.


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("default =", "defualt =", 2, "unknown key 'defualt'; did you mean 'default'?"),
        ("region =", "regoin =", 6, "unknown key 'storages.hot.regoin'; did you mean 'region'?"),
        ("region =", "storage_clas =", 6, "unknown key 'storages.hot.storage_clas'; did you mean 'storage_class'?"),
        ("name =", "projct =", 11, "unknown key 'storages.archive.projct'; did you mean 'project'?"),
        ("min_size =", "minsize =", 19, "unknown key 'routes 2.minsize'; did you mean 'min_size'?"),
        ('storage = "archive"\n\n', "\n", 13, "'routes 1.storage' is missing"),
        ('url = "gs://archive-bucket"\n', "", 9, "'storages.archive.url' must be a URL that starts with s3://"),
        ("gs://", "ftp://", 10, "'storages.archive.url' must be a URL that starts with s3://"),
        ('"64MiB"', '"64 files"', 7, "'storages.hot.part_size': "),
        ('"64MiB"', "0", 7, "'storages.hot.part_size': "),
        ('"1GB"', "-1", 19, "'routes 2.min_size': "),
        ("hot-bucket/blobs", "hot-bucket?regoin=x", 5, "unknown setting 'regoin' in the URL; did you mean 'region'?"),
        ("[[routes]]\ncontent", "[retired]\nstorages = ['a b']\n[[routes]]\ncontent", 14, "an entry must be "),
    ],
)
def test_mistake_is_named_with_its_line_and_the_nearest_key(
    write: Write, before: str, after: str, line: int, message: str
) -> None:
    path = write(EXAMPLE.replace(before, after, 1))
    with pytest.raises(ConfigError) as raised:
        Configuration.load()
    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert message in str(raised.value)


def test_all_mistakes_are_named_at_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(EXAMPLE.replace("region", "regoin"))
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__ARCHIVE__PROJET", "p")
    with pytest.raises(ConfigError) as raised:
        Configuration.load()
    first, second = sorted(str(raised.value).splitlines())
    assert "'storages.hot.regoin'" in first
    assert second.startswith("LAKERY_CLOUD_STORAGES__ARCHIVE__PROJET: unknown key 'storages.archive.projet'")


@pytest.mark.parametrize("key", ["Hot", "hot-eu", "hot__eu", "a.b", ""])
def test_key_that_no_variable_can_name_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="lower-case letters, digits and single underscores"):
        Configuration(storages={key: {"url": "memory://m"}})


def test_text_that_is_no_toml_is_refused_with_its_line(write: Write) -> None:
    path = write('default = "hot"\nurl = \n')
    with pytest.raises(ConfigError, match="line 2") as raised:
        Configuration.load()
    assert str(raised.value).startswith(str(path))


def test_file_that_can_not_be_read_is_refused(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        Configuration.load("nowhere.toml")
    monkeypatch.setenv("LAKERY_CLOUD_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match="LAKERY_CLOUD_CONFIG is 'nowhere.toml', and there is no such file"):
        Configuration.load()
    (tmp_path / "latin.toml").write_bytes(b'default = "\xe9"')
    with pytest.raises(ConfigError, match="not in UTF-8"):
        Configuration.load("latin.toml")


def test_variable_of_a_list_that_is_no_json_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKERY_CLOUD_ROUTES", "image/* = archive")
    with pytest.raises(ConfigError, match="LAKERY_CLOUD_ROUTES: .* JSON"):
        Configuration.load()


# Every setting.

NOT_IN_FILES = {"bucket", "container", "root", "prefix", "session", "client", "fs", "credential", "limits"}
"""Settings of the URL, and objects of the program."""


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.scheme)
def test_every_setting_of_the_class_can_be_configured(section: type[StorageSection]) -> None:
    storage_class = getattr(lakery_cloud, STORAGE_CLASSES[section.scheme][1])
    of_the_class = {*inspect.signature(storage_class).parameters} - NOT_IN_FILES
    of_urls = {*storage_class.settings_class.url_readers()}
    fields = {*section.model_fields} - {"url", "name"}
    assert fields - {*section.credential_names} == of_urls
    assert of_the_class <= fields
