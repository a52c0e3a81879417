"""The lifecycle rules of each provider: their exact text, and that none of them matches content."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lakery_cloud import (
    AzureBlobStorage,
    ConfigError,
    FileStorage,
    GCSStorage,
    MemoryStorage,
    ObjectStorage,
    S3Storage,
)
from lakery_cloud.engine.keys import TEMPORARY_FOLDER, KeySpace
from lakery_cloud.maintenance import apply_lifecycle, lifecycle_rules
from lakery_cloud.providers.gcs.uploads import part_address

CLOUDS = (S3Storage, GCSStorage, AzureBlobStorage)
BUCKET = "my-bucket"


def is_valid(prefix: str) -> bool:
    try:
        AzureBlobStorage(BUCKET, prefix=prefix)  # the strictest
    except ConfigError:
        return False
    return True


SEGMENTS = st.sampled_from([TEMPORARY_FOLDER, "a", ".tm", ".tmp2", "reports", "", " ", "%2F", "é", "😀", "0" * 64])
PREFIXES = st.one_of(st.lists(SEGMENTS, max_size=5).map("/".join), st.text(max_size=300)).filter(is_valid)
HASHES = st.text("0123456789abcdef", min_size=16, max_size=128)


def expiring(storage: ObjectStorage[Any], rules: Mapping[str, Any]) -> Iterator[str]:
    """What keys start with that these rules delete. That there is no rule but of these shapes is part of the check."""
    match storage, rules:
        case S3Storage(), {"Rules": found}:
            for rule in found:
                match rule:
                    case {"Expiration": _, **rest}:
                        assert rest.keys() == {"ID", "Status", "Filter", "NoncurrentVersionExpiration"}
                        assert rule["Filter"].keys() == {"Prefix"}
                        yield rule["Filter"]["Prefix"]
                    case _:
                        assert rule.keys() == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"}
        case GCSStorage(), {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}:
            assert condition.keys() == {"age", "matchesPrefix"}
            yield from condition["matchesPrefix"]
        case AzureBlobStorage(), {"rules": [{"definition": {"filters": filters}}]}:
            for prefix in filters["prefixMatch"]:
                container, slash, root = prefix.partition("/")
                assert (container, slash) == (BUCKET, "/")
                yield root
        case _:
            pytest.fail(f"rules of another shape: {rules}")


@pytest.mark.parametrize("storage_class", CLOUDS)
@given(prefix=PREFIXES, other=PREFIXES, content_hash=HASHES, days=st.integers(1, 1000))
def test_no_rule_deletes_content(
    storage_class: type[Any], prefix: str, other: str, content_hash: str, days: int
) -> None:
    storage = storage_class(BUCKET, prefix=prefix)
    (root,) = expiring(storage, lifecycle_rules(storage, days=days))
    assert root, "an empty filter is one for all keys"
    assert not storage.keys.content(content_hash).key.startswith(root)
    temporary = storage.keys.temporary()
    assert temporary.key.startswith(root)
    assert part_address(temporary, 1).key.startswith(root)
    # Nor that of another storage in the same bucket, unless its prefix is in a temporary folder; see
    # `check_only_temporary`.
    if KeySpace(BUCKET, other).content(content_hash).key.startswith(root):
        assert TEMPORARY_FOLDER in other.split("/")


@given(prefix=PREFIXES, content_hash=HASHES)
def test_on_s3_uploads_to_content_keys_end_too(prefix: str, content_hash: str) -> None:
    storage = S3Storage(BUCKET, prefix=prefix)
    (rule,) = [rule for rule in lifecycle_rules(storage)["Rules"] if "AbortIncompleteMultipartUpload" in rule]
    for key in (storage.keys.content(content_hash).key, storage.keys.temporary().key):
        assert key.startswith(rule["Filter"]["Prefix"])


@given(prefix=PREFIXES, other=PREFIXES)
def test_rules_have_distinct_names_for_each_prefix(prefix: str, other: str) -> None:
    storages = [KeySpace(BUCKET, each) for each in (prefix, other)]
    assume(storages[0].prefix != storages[1].prefix)
    names = [rule["ID"] for each in storages for rule in lifecycle_rules(S3Storage(BUCKET, prefix=each.root))["Rules"]]
    assert len(set(names)) == 4
    assert all(len(name) <= 255 and name.isascii() and name.isprintable() for name in names)
    azure = {lifecycle_rules(AzureBlobStorage(BUCKET, prefix=each.root))["rules"][0]["name"] for each in storages}
    assert len(azure) == 2
    assert all(name.replace("-", "").isalnum() and len(name) <= 256 for name in azure)


@pytest.mark.parametrize(
    ("storage", "rules"),
    [
        (
            S3Storage(BUCKET, prefix="a b/c"),
            {
                "Rules": [
                    {
                        "ID": "lakery-cloud temporary keys below /a%20b/c",
                        "Status": "Enabled",
                        "Filter": {"Prefix": "a b/c/.tmp/"},
                        "Expiration": {"Days": 3},
                        "NoncurrentVersionExpiration": {"NoncurrentDays": 3},
                    },
                    {
                        "ID": "lakery-cloud incomplete uploads below /a%20b/c",
                        "Status": "Enabled",
                        "Filter": {"Prefix": "a b/c/"},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
                    },
                ]
            },
        ),
        (
            GCSStorage(BUCKET),
            {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": [".tmp/"]}}]},
        ),
        (
            AzureBlobStorage(BUCKET, prefix="reports"),
            {
                "rules": [
                    {
                        "enabled": True,
                        "name": "lakery-cloud-temporary-blobs-ad62bb38dc0e5786d1caa21adf093f30",
                        "type": "Lifecycle",
                        "definition": {
                            "actions": {
                                "baseBlob": {"delete": {"daysAfterModificationGreaterThan": 3}},
                                "version": {"delete": {"daysAfterCreationGreaterThan": 3}},
                            },
                            "filters": {"blobTypes": ["blockBlob"], "prefixMatch": ["my-bucket/reports/.tmp/"]},
                        },
                    }
                ]
            },
        ),
    ],
    ids=["s3", "gcs", "azure"],
)
def test_rules_have_the_format_of_the_tool_of_the_provider(storage: ObjectStorage[Any], rules: dict[str, Any]) -> None:
    assert lifecycle_rules(storage, days=3) == rules
    assert json.loads(json.dumps(rules)) == rules


@pytest.mark.parametrize("days", [0, -1, 1.5, True, "7"])
@pytest.mark.parametrize("storage_class", [*CLOUDS, MemoryStorage])
async def test_days_that_are_none_are_refused_before_any_request(storage_class: type[Any], days: Any) -> None:
    storage = storage_class(BUCKET)
    storage.transport = None  # never opened
    with pytest.raises(ConfigError, match="days must be a whole number of at least 1, not"):
        lifecycle_rules(storage, days=days)
    with pytest.raises(ConfigError, match="days must be a whole number of at least 1, not"):
        await apply_lifecycle(storage, days=days)


@pytest.mark.parametrize("storage", [MemoryStorage(), FileStorage("nowhere")], ids=["memory", "file"])
async def test_storage_without_such_rules_names_sweep(storage: ObjectStorage[Any]) -> None:
    with pytest.raises(ConfigError, match=r"does not support lifecycle rules; run `lakery-cloud sweep`"):
        lifecycle_rules(storage)
    with pytest.raises(ConfigError, match=r"does not support lifecycle rules; run `lakery-cloud sweep`"):
        await apply_lifecycle(storage)


async def test_store_whose_rules_can_only_be_printed_raises_a_clear_error() -> None:
    class Printing(MemoryStorage):
        name = "tests.printing@v1"

        def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
            return {"days": days}

    async with Printing() as storage:
        assert lifecycle_rules(storage) == {"days": 7}
        with pytest.raises(ConfigError, match="with the provider's own tool"):
            await apply_lifecycle(storage)


def test_on_azure_each_container_has_its_rule() -> None:
    rules = lifecycle_rules(AzureBlobStorage(BUCKET, prefix="p", temporary_container="beside"))["rules"]
    filters = [rule["definition"]["filters"]["prefixMatch"] for rule in rules]
    assert filters == [["my-bucket/p/.tmp/"], ["beside/p/.tmp/"]]
    assert len({rule["name"] for rule in rules}) == 2
