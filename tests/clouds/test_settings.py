"""Settings, credentials and libraries of the clouds' storages, before any request."""

import pickle
from typing import Any

import aioboto3
import pytest
from azure.core.credentials import AzureNamedKeyCredential

from lakery_cloud import (
    AzureBlobStorage,
    ConfigError,
    CredentialsError,
    GCSStorage,
    MemoryStorage,
    ObjectStorage,
    S3Storage,
    storage_from_url,
)
from tests.helpers import run_python, write

MiB = 1024**2
SECRET = "c2VjcmV0IHNlY3JldA=="  # what nobody may see

Class = type[ObjectStorage[Any]]


@pytest.mark.parametrize(
    ("place", "query", "shown", "settings"),
    [
        (
            "s3://bucket/a%20b/c",
            "endpoint_url=https://s3.example.com&region=eu-central-1&storage_class=STANDARD_IA&requester_pays=true",
            "S3Storage('bucket', prefix='a b/c', endpoint_url='https://s3.example.com')",
            {"region": "eu-central-1", "storage_class": "STANDARD_IA", "requester_pays": True},
        ),
        (
            "gs://bucket/a%20b/c",
            "endpoint_url=http://127.0.0.1:1&storage_class=NEARLINE",
            "GCSStorage('bucket', prefix='a b/c', endpoint_url='http://127.0.0.1:1')",
            {"storage_class": "NEARLINE"},
        ),
        (
            "az://container/a%20b/c",
            "account_name=me&blob_tags=false&access_tier=Cool",
            "AzureBlobStorage('container', prefix='a b/c', account_name='me')",
            {"blob_tags": False, "access_tier": "Cool"},
        ),
    ],
    ids=["s3", "gs", "az"],
)
def test_url_sets_everything_that_is_no_secret(place: str, query: str, shown: str, settings: dict[str, Any]) -> None:
    storage = storage_from_url(f"{place}?{query}&part_size=16777216&verify=false")
    assert repr(storage) == shown
    assert (storage.settings.part_size, storage.settings.verify) == (16 * 1024**2, False)
    assert {name: getattr(storage.settings, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("storage", "size"),
    [
        (S3Storage("bucket"), 5 * MiB),
        (AzureBlobStorage("container", account_name="me"), 5 * MiB),
        (GCSStorage("bucket"), 8 * MiB),
        (GCSStorage("bucket", composite_uploads=True), 5 * MiB),
        (GCSStorage("bucket", composite_uploads=True, part_size=8 * MiB), 8 * MiB),
        (MemoryStorage(), 5 * MiB),
    ],
    ids=["S3", "Azure", "GCS", "GCS, composite uploads", "a size of its own", "memory"],
)
def test_first_parts_are_small_where_they_are_sent_at_the_same_time(storage: ObjectStorage[Any], size: int) -> None:
    assert storage.settings.part_size == size


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket?aws_secret_access_key={}",
        "s3://me:{}@bucket",
        "gs://bucket?token={}",
        "az://container?account_key={}",
        "az://container?sas_token={}",
        "az://container?connection_string={}",
    ],
)
def test_credentials_in_a_url_are_refused_without_showing_them(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        storage_from_url(url.format(SECRET))
    assert SECRET not in str(raised.value)


@pytest.mark.case("40")
@pytest.mark.parametrize(
    ("storage_class", "given"),
    [
        (S3Storage, {"session": aioboto3.Session(aws_access_key_id="me", aws_secret_access_key=SECRET)}),
        (S3Storage, {"client": object()}),
        (GCSStorage, {"token": SECRET}),
        (GCSStorage, {"token": {"refresh_token": SECRET}}),
        (AzureBlobStorage, {"account_name": "me", "account_key": SECRET}),
        (AzureBlobStorage, {"connection_string": f"AccountName=me;AccountKey={SECRET}"}),
        (AzureBlobStorage, {"account_name": "me", "sas_token": f"sig={SECRET}"}),
        (AzureBlobStorage, {"account_name": "me", "credential": AzureNamedKeyCredential("me", SECRET)}),
        (AzureBlobStorage, {"fs": object()}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
def test_given_credentials_are_neither_shown_nor_pickled(storage_class: Class, given: dict[str, Any]) -> None:
    storage = storage_class("bucket", **given)
    assert SECRET not in f"{storage!r} {storage}"
    with pytest.raises(ConfigError, match="can't be pickled") as raised:
        pickle.dumps(storage)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("storage", "variable", "value"),
    [
        (S3Storage("bucket"), "AWS_SECRET_ACCESS_KEY", SECRET),
        (
            AzureBlobStorage("container", account_name="me"),
            "AZURE_STORAGE_CONNECTION_STRING",
            f"AccountName=me;AccountKey={SECRET}",
        ),
    ],
    ids=["s3", "azure"],
)
def test_credentials_of_the_environment_are_not_pickled(
    storage: ObjectStorage[Any], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    pickled = pickle.dumps(storage)
    assert SECRET.encode() not in pickled
    assert repr(pickle.loads(pickled)) == repr(storage)


@pytest.mark.case("34")
@pytest.mark.parametrize(
    ("storage", "said"),
    [
        (S3Storage("bucket"), "AWS_ACCESS_KEY_ID"),
        (GCSStorage("bucket", token="google_default"), "gcloud auth application-default login"),
        (AzureBlobStorage("container"), "AZURE_STORAGE_CONNECTION_STRING"),
    ],
    ids=["s3", "gcs", "azure"],
)
async def test_missing_credentials_are_reported_with_the_settings_to_use(
    storage: ObjectStorage[Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    async with storage:
        with pytest.raises(CredentialsError, match=said):
            await write(storage)


@pytest.mark.case("39")
@pytest.mark.parametrize(
    ("storage_class", "library", "said"),
    [
        (
            "S3Storage",
            "aiobotocore",
            (
                'S3Storage needs aiobotocore: pip install "lakery-cloud[s3]" (aioboto3, and the aiobotocore that it pins) '
                'or "lakery-cloud[aiobotocore]" (a current aiobotocore)'
            ),
        ),
        ("GCSStorage", "gcsfs", 'GCSStorage needs gcsfs: pip install "lakery-cloud[gcs]"'),
        ("AzureBlobStorage", "adlfs", 'AzureBlobStorage needs adlfs: pip install "lakery-cloud[azure]"'),
    ],
)
def test_absent_library_names_the_command_that_installs_it(storage_class: str, library: str, said: str) -> None:
    program = f"""
        import sys
        sys.modules[{library!r}] = None
        import lakery_cloud
        lakery_cloud.MemoryStorage()
        try:
            lakery_cloud.{storage_class}
        except lakery_cloud.MissingDependency as error:
            print(error)
    """
    assert run_python(program) == f"{said}\n"


def test_importing_the_package_loads_no_sdk() -> None:
    program = """
        import sys, lakery_cloud
        print({"adlfs", "aioboto3", "aiohttp", "azure", "botocore", "gcsfs", "google_crc32c"} & set(sys.modules))
    """
    assert run_python(program) == "set()\n"
