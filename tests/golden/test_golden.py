"""What has landed is for ever: names, keys and storage data must equal the golden file.

If a test here fails, the code is wrong, not the file. A new shape gets a new name beside the old one, and a new entry.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import (
    AzureBlobStorage,
    ContentRecord,
    FileStorage,
    GCSStorage,
    MemoryStorage,
    ObjectStorage,
    S3Storage,
)
from lakery_cloud.engine import attributes, keys
from lakery_cloud.engine.keys import Address
from lakery_cloud.providers import file
from lakery_cloud.providers.azure import metadata as azure
from lakery_cloud.providers.gcs import requests as gcs_requests
from lakery_cloud.providers.gcs import uploads as gcs_uploads
from lakery_cloud.testing import digest_of

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("names.json").read_text())
TRASH: dict[str, Any] = json.loads(Path(__file__).with_name("trash.json").read_text())
STORAGES = {
    "AzureBlobStorage": AzureBlobStorage("bucket", prefix="some/prefix"),
    "FileStorage": FileStorage("/root-folder", prefix="some/prefix"),
    "GCSStorage": GCSStorage("bucket", prefix="some/prefix"),
    "MemoryStorage": MemoryStorage("bucket", prefix="some/prefix"),
    "S3Storage": S3Storage("bucket", prefix="some/prefix"),
}


@pytest.fixture(params=STORAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_storage_is_in_the_golden_file() -> None:
    assert set(GOLDEN["storages"]) == set(STORAGES)


def test_permanent_name_and_aliases(name: str) -> None:
    golden, storage = GOLDEN["storages"][name], STORAGES[name]
    assert storage.name == golden["name"]
    assert list(storage.aliases) == golden["aliases"]


def test_storage_data(name: str) -> None:
    golden, storage = GOLDEN["storages"][name], STORAGES[name]
    for algorithm, text in golden["storage_data"].items():
        storage_data = storage.storage_data_of(digest_of(b"golden", algorithm=algorithm))
        assert storage.serialize_storage_data(storage_data) == text


def test_storage_data_that_was_ever_written_still_reads(name: str) -> None:
    storage: ObjectStorage[Any] = STORAGES[name]
    for text in [*GOLDEN["storages"][name]["storage_data"].values(), *GOLDEN["storages"][name]["older_storage_data"]]:
        location = storage._location(storage.deserialize_storage_data(text))
        assert location.address.key.startswith("some/prefix/")


def test_content_key() -> None:
    for prefix, key in GOLDEN["content_keys"].items():
        assert keys.KeySpace("bucket", prefix).content(digest_of(b"golden")["content_hash"]).key == key


def test_temporary_key() -> None:
    for prefix, pattern in GOLDEN["temporary_keys"].items():
        assert re.fullmatch(pattern, keys.KeySpace("bucket", prefix).temporary().key)


def test_key_in_quarantine() -> None:
    for prefix, key in TRASH["trash_keys"].items():
        space = keys.KeySpace("bucket", prefix)
        content = space.content(digest_of(b"golden")["content_hash"])
        assert keys.quarantined(content) == keys.Address("bucket", key)
        assert key.startswith(space.trash_root)
        assert keys.quarantined(keys.Address("bucket", key)) is None


def test_metadata_names() -> None:
    found = attributes.attributes_of_content(digest_of(b"golden"), {}).metadata
    assert dict(found) == GOLDEN["metadata"]
    assert GOLDEN["extended_attribute"] == file.attributes.ATTRIBUTES


def test_names_that_one_cloud_needs() -> None:
    assert GOLDEN["gcs_tag_prefix"] == gcs_requests.TAG_PREFIX
    for key, part_key in GOLDEN["gcs_parts"].items():
        assert gcs_uploads.part_address(Address("bucket", key), 1).key == part_key
    assert sorted(azure._NAMES) == GOLDEN["azure_metadata"]["names"]
    assert GOLDEN["azure_metadata"]["tags"] == azure.METADATA_TAGS


def test_record() -> None:
    assert ContentRecord.from_json(GOLDEN["record"]).to_json() == GOLDEN["record"]
