"""A configuration becomes storages with their names, credentials, routes and retired names, before any request."""

from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import (
    AzureBlobStorage,
    ConfigError,
    Configuration,
    Content,
    FileStorage,
    GCSStorage,
    NameConflict,
    ReadOnlyStorage,
    S3Storage,
    SerializedData,
    StorageRegistry,
    load_registry,
)
from lakery_cloud.config.building import build_registry, build_storage, build_storages

MiB = 1024**2


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a configuration above it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def storage(url: str, **settings: Any) -> Any:
    return build_storage(Configuration(storages={"it": {"url": url, **settings}}), "it")


def registry(**settings: Any) -> StorageRegistry:
    return build_registry(Configuration(**settings))


HOT = {"url": "memory://hot"}
COLD = {"url": "memory://cold", "name": "tests.building.cold@v1"}
TWO = {"hot": HOT, "cold": COLD}


# Storages.


def test_class_bucket_prefix_and_settings_reach_the_storage() -> None:
    built = storage("s3://bucket/a/b", region="eu-central-1", part_size="16MiB", allowed_buckets=["other"])
    assert type(built) is S3Storage
    assert (built.keys.bucket, built.keys.prefix, built.settings.region) == ("bucket", "a/b", "eu-central-1")
    assert (built.settings.part_size, built.settings.allowed_buckets) == (16 * MiB, {"other"})


def test_settings_are_read_from_the_url_and_the_table() -> None:
    built = storage("s3://bucket?region=eu-central-1&max_attempts=5", storage_class="STANDARD_IA", max_attempts=5)
    assert (built.settings.region, built.settings.storage_class, built.settings.max_attempts) == (
        "eu-central-1",
        "STANDARD_IA",
        5,
    )


@pytest.mark.parametrize("url", ["s3://bucket?part_size=8388608", "file:///srv?part_size=8388608"])
def test_setting_with_two_values_in_url_and_table_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"storages\.it: part_size is 8388608 in the URL and 16777216 beside it"):
        storage(url, part_size="16MiB")


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        ("s3://bucket", {"part_size": 1}, "part_size must be 5242880 to"),
        ("s3://bucket", {"kms_key_id": "k"}, "kms_key_id needs sse"),
        ("s3://bucket", {"access_key_id": "k"}, "access_key_id and secret_access_key go together"),
        ("s3://bucket", {"session_token": "k"}, "access_key_id and secret_access_key go together"),
        ("az://c", {"account_name": "a", "account_key": "k", "sas_token": "s"}, "exclude each other"),
        ("gs://bucket", {"token": "t", "credentials_json": "{}"}, "exclude each other"),
        ("gs://bucket", {"credentials_json": "[]"}, "credentials_json is no JSON object"),
        ("gs://bucket", {"credentials_file": "nowhere.json"}, "there is no such file"),
        ("file:///srv/../etc?create=maybe", {}, "'create' in the URL can't be 'maybe'"),
        ("memory://m", {"name": "nameless"}, "permanent, versioned name"),
    ],
)
def test_setting_that_the_class_refuses_is_refused_with_its_table(
    url: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        storage(url, **settings)
    assert "storages.it: " in str(raised.value)


def test_name_that_another_class_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="is taken by") as raised:
        storage("memory://m", name=S3Storage.name)
    assert not isinstance(raised.value, NameConflict)


def test_two_storages_of_one_name_are_refused_with_the_line_to_add() -> None:
    storages = {"hot": {"url": "s3://hot"}, "lab": {"url": "s3://lab"}}
    with pytest.raises(ConfigError, match=r'both \'lakery_cloud.s3@v1\'.*name = "acme.lab@v1"'):
        build_storages(Configuration(storages=storages))
    storages["lab"]["name"] = "tests.building.lab@v1"
    built = build_storages(Configuration(storages=storages))
    assert [found.name for found in built.values()] == ["lakery_cloud.s3@v1", "tests.building.lab@v1"]
    assert isinstance(built["lab"], S3Storage)


# Credentials.


async def test_references_are_followed_when_storages_are_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = folder / "etc" / "lakery-cloud.toml"
    configured.parent.mkdir()
    (configured.parent / "secret").write_text("from the file\n", "utf-8")
    configured.write_text(
        '[storages.lab]\nurl = "s3://lab"\naccess_key_id = "env:LAB_KEY"\nsecret_access_key = "file:secret"\n', "utf-8"
    )
    configuration = Configuration.load(configured)
    monkeypatch.setenv("LAB_KEY", "from the environment")
    built: Any = build_storage(configuration, "lab")
    found = built.settings.session.get_credentials()
    assert (found.access_key, found.secret_key) == ("from the environment", "from the file")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:NOT_SET", "account_key: 'env:NOT_SET' is not set, or empty"),
        ("file:nowhere", "account_key: 'file:nowhere' can't be read: No such file or directory"),
        ("file:empty", "account_key: 'file:empty' is empty"),
        ("file:binary", "account_key: 'file:binary' is no text in UTF-8"),
    ],
)
def test_reference_to_nothing_is_refused_by_its_name(folder: Path, reference: str, message: str) -> None:
    (folder / "empty").touch()
    (folder / "binary").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=f"storages.it: {message}"):
        storage("az://container", account_name="me", account_key=reference)


def test_credentials_of_each_cloud_reach_its_class(folder: Path) -> None:
    (folder / "key.json").write_text("{}", "utf-8")
    azure: AzureBlobStorage = storage("az://container", account_name="me", sas_token="sig=x")
    assert azure.settings.secrets() == {"sas_token": "sig=x"}
    for given, token in (
        ({"token": "anon"}, "anon"),
        ({"credentials_file": "key.json"}, "key.json"),
        ({"credentials_json": '{"type": "x"}'}, {"type": "x"}),
    ):
        gcs: GCSStorage = storage("gs://bucket", **given)
        assert gcs.settings.token == token


@pytest.mark.parametrize(
    ("url", "settings", "environment", "source"),
    [
        ("memory://m", {}, {}, "none needed"),
        ("file:///srv", {}, {}, "none: the rights of this process"),
        ("s3://b", {}, {}, "the instance's role, if it has one"),
        ("s3://b", {}, {"AWS_ACCESS_KEY_ID": "k"}, "AWS_ACCESS_KEY_ID in the environment"),
        ("s3://b", {"profile": "lab"}, {"AWS_ACCESS_KEY_ID": "k"}, "profile 'lab' of the AWS configuration files"),
        ("s3://b", {}, {"AWS_PROFILE": "lab"}, "profile 'lab' of the AWS configuration files"),
        (
            "s3://b",
            {},
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://x"},
            "AWS_CONTAINER_CREDENTIALS_FULL_URI in the environment",
        ),
        (
            "s3://b",
            {"access_key_id": "env:LAB_KEY", "secret_access_key": "s3cr3t"},
            {"LAB_KEY": "k"},
            "[storages.it] access_key_id = 'env:LAB_KEY', secret_access_key",
        ),
        ("gs://b", {}, {}, "gcsfs' cache or the metadata server, else none"),
        ("gs://b", {"endpoint_url": "http://127.0.0.1:1"}, {}, "none: over plain HTTP none are sent"),
        ("gs://b", {"token": "anon"}, {}, "'anon' of gcsfs"),
        ("gs://b", {"token": "s3cr3t"}, {}, "[storages.it] token"),
        ("gs://b", {"credentials_file": "aws"}, {}, "file aws"),
        (
            "gs://b",
            {},
            {"GOOGLE_APPLICATION_CREDENTIALS": "x.json"},
            "GOOGLE_APPLICATION_CREDENTIALS in the environment",
        ),
        ("az://c", {"account_name": "me", "account_key": "s3cr3t"}, {}, "[storages.it] account_key"),
        (
            "az://c",
            {"account_name": "me"},
            {"AZURE_STORAGE_SAS_TOKEN": "s3cr3t"},
            "AZURE_STORAGE_SAS_TOKEN in the environment",
        ),
        (
            "az://c",
            {"account_name": "me"},
            {},
            "DefaultAzureCredential: its environment variables, managed identity, or a login of az",
        ),
    ],
)
def test_source_of_credentials_is_known_without_a_request(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    settings: dict[str, Any],
    environment: dict[str, str],
    source: str,
) -> None:
    (folder / "aws").write_text("[lab]\naws_access_key_id = k\naws_secret_access_key = s3cr3t\n", "utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "aws"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert storage(url, **settings).credential_source() == source


def test_credentials_of_the_program_are_named_as_their_source() -> None:
    assert GCSStorage("bucket", token="s3cr3t").credential_source() == "token, given by the program"


# The registry.


def test_registry_has_storages_default_routes_and_retired_names() -> None:
    built = registry(
        default="hot",
        storages=TWO,
        routes=[{"tag": {"tier": "cold"}, "storage": "cold"}],
        retired={"storages": ["tests.building.old@v1 = cold"]},
    )
    assert built.default.name == "lakery_cloud.memory@v1"
    assert built.get("tests.building.old@v1").name == COLD["name"]
    explained = built.explain(Content(content_type="a/b", tags={"tier": "cold"}))
    assert (explained.rule, explained.storage_name, explained.bucket) == ("route 1", COLD["name"], "cold")


def test_storage_that_is_retired_itself_is_read_only_and_no_default_is_needed_then() -> None:
    built = registry(storages=TWO, retired={"storages": ["cold"]})
    assert built.default.name == "lakery_cloud.memory@v1"
    assert set(built.names) == {"lakery_cloud.memory@v1", COLD["name"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no storage is configured.*config init"),
        ({"storages": TWO}, "'default' is missing; name one of hot, cold"),
        ({"storages": TWO, "default": "hto"}, r"default: there is no \[storages.hto\]; did you mean 'hot'"),
        ({"storages": TWO, "default": "hot", "retired": {"storages": ["hot"]}}, r"\[storages.hot\] is retired"),
        ({"storages": {"hot": HOT}, "retired": {"storages": ["hot"]}}, "'default' is missing"),
        ({"storages": {"hot": HOT}, "routes": [{"storage": "hto", "min_size": 1}]}, "routes 1: there is no"),
        ({"storages": {"hot": HOT}, "routes": [{"storage": "hot"}]}, "routes 1: .* has no condition"),
        (
            {"storages": TWO, "routes": [{"storage": "cold", "min_size": 1}], "retired": {"storages": ["cold"]}},
            r"routes 1: \[storages.cold\] is retired",
        ),
        ({"storages": {"hot": HOT}, "retired": {"storages": ["a.b@v1 = hto"]}}, "retired.storages: there is no"),
        ({"storages": TWO, "default": "hot", "retired": {"storages": [f"{COLD['name']} = hot"]}}, "is taken"),
        (
            {"storages": TWO, "default": "hot", "retired": {"storages": ["a@v1 = hot", "a@v1 = cold"]}},
            "'a@v1' is retired to two storages",
        ),
    ],
)
def test_registry_that_contradicts_itself_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry(**settings)


def test_registry_is_loaded_from_a_file_and_the_program(folder: Path) -> None:
    (folder / "lakery-cloud.toml").write_text(f'[storages.disk]\nurl = "{folder.as_uri()}/blobs"\n', "utf-8")
    loaded = load_registry(storages={"cold": COLD}, default="disk")
    assert isinstance(loaded.default, FileStorage)
    assert loaded.names == ("lakery_cloud.file@v1", COLD["name"])


def test_mistake_in_a_route_is_named_with_its_line(folder: Path) -> None:
    path = folder / "lakery-cloud.toml"
    text = ['[storages.disk]\nurl = "file:///srv"', '[[routes]]\nmin_size = 1\nstorage = "disc"\n']
    path.write_text("\n".join(text), "utf-8")
    with pytest.raises(ConfigError, match=r"routes 1: there is no \[storages.disc\]; did you mean 'disk'") as raised:
        load_registry(path)
    assert str(raised.value).startswith(f"{path}:3: ")


async def test_target_that_is_retired_is_read_and_never_written() -> None:
    configuration = Configuration(storages=TWO, retired={"storages": ["cold"]})
    built = build_registry(configuration, target="cold")
    assert built.get(COLD["name"]).name == COLD["name"]
    with pytest.raises(ReadOnlyStorage):
        await built.save(SerializedData(data=b"x", content_type="a/b", content_encoding=None))


def test_target_replaces_routes_default_and_the_storage_of_its_name() -> None:
    configuration = Configuration(storages=TWO, default="hot", routes=[{"storage": "hot", "min_size": 0}])
    by_key = build_registry(configuration, target="cold")
    assert by_key.explain(Content(content_type="a/b", size=1)).storage_name == COLD["name"]
    other = storage("memory://other")
    by_storage = build_registry(configuration, target=other)
    assert by_storage.default is other
    assert set(by_storage.names) == {other.name, COLD["name"]}
