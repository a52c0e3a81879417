"""Routes choose the storage by content type, encoding, tags and size; the first that matches wins, else the default."""

from typing import Any

import pytest

from lakery_cloud import (
    ConfigError,
    Content,
    Digest,
    MemoryStorage,
    NotRegistered,
    ReadOnlyStorage,
    Route,
    SerializedData,
    SerializedDataStream,
    StorageRegistry,
    digest_data,
)

Archive = MemoryStorage.named("tests.routes.archive@v1")
Images = MemoryStorage.named("tests.routes.images@v1")

DATA = b"twelve bytes"


def content(content_type: str = "text/plain", **known: Any) -> Content:
    return Content(content_type=content_type, **known)


def blob(content_type: str = "text/plain", data: bytes = DATA) -> SerializedData:
    return SerializedData(data=data, content_type=content_type, content_encoding=None)


def stream() -> SerializedDataStream:
    async def each() -> Any:
        yield DATA

    return SerializedDataStream(data_stream=each(), content_type="text/plain", content_encoding=None)


def registry(*routes: Route) -> StorageRegistry:
    return StorageRegistry([MemoryStorage(), Archive(), Images()], default=MemoryStorage.name, routes=routes)


@pytest.mark.parametrize(
    ("conditions", "known"),
    [
        ({"content_type": "image/*"}, content("image/png")),
        ({"content_type": "image/*"}, content("IMAGE/PNG")),
        ({"content_type": "text/plain"}, content("text/plain; charset=utf-8")),
        ({"content_encoding": "gzip"}, content(content_encoding="GZIP")),
        ({"content_encoding": "identity"}, content()),
        ({"tag": {"tier": "cold"}}, content(tags={"tier": "cold", "owner": "ada"})),
        ({"tag": {"tier": "*"}}, content(tags={"tier": ""})),
        ({"min_size": 5}, content(size=5)),
        ({"max_size": 5}, content(size=5)),
        ({"max_size": 0}, content(size=0)),
        ({"content_type": "text/*", "tag": {"a": "b*"}, "min_size": 1}, content(tags={"a": "bc"}, size=1)),
    ],
)
def test_content_that_meets_all_conditions_matches(conditions: dict[str, Any], known: Content) -> None:
    assert list(Route(storage="s", **conditions).misses(known)) == []


@pytest.mark.parametrize(
    ("conditions", "known", "why"),
    [
        ({"content_type": "image/*"}, content("text/plain"), "content type 'text/plain' is not 'image/*'"),
        ({"content_encoding": "gzip"}, content(), "content encoding 'identity' is not 'gzip'"),
        ({"tag": {"tier": "cold"}}, content(), "there is no tag 'tier'"),
        ({"tag": {"tier": "cold"}}, content(tags={"tier": "Cold"}), "tag 'tier' is 'Cold', not 'cold'"),
        ({"min_size": 5}, content(size=4), "4 bytes are fewer than 5"),
        ({"max_size": 5}, content(size=6), "6 bytes are more than 5"),
        ({"min_size": 0}, content(), "the size is unknown"),
    ],
)
def test_unmatched_condition_is_named(conditions: dict[str, Any], known: Content, why: str) -> None:
    assert list(Route(storage="s", **conditions).misses(known)) == [why]


@pytest.mark.parametrize("conditions", [{}, {"min_size": 2, "max_size": 1}, {"max_size": -1}])
def test_route_that_would_match_everything_or_nothing_is_refused(conditions: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Route(storage="s", **conditions)


async def test_first_route_that_matches_saves() -> None:
    routed = registry(
        Route(storage=Images.name, content_type="image/*"),
        Route(storage=Archive.name, tag={"tier": "cold"}),
    )
    assert (await routed.save(blob("image/png"), tags={"tier": "cold"})).storage_name == Images.name
    assert (await routed.save(blob(), tags={"tier": "cold"})).storage_name == Archive.name
    record = await routed.save(blob())
    assert record.storage_name == MemoryStorage.name
    assert (await routed.load(record))["data"] == DATA


async def test_storage_that_is_named_goes_before_routes() -> None:
    routed = registry(Route(storage=Images.name, content_type="*"))
    assert (await routed.save(blob(), storage=Archive.name)).storage_name == Archive.name


async def test_stream_is_routed_by_size_only_where_its_digest_is_known() -> None:
    routed = registry(Route(storage=Archive.name, min_size=len(DATA)))
    digest: Digest = await digest_data(blob())
    assert (await routed.save(blob())).storage_name == Archive.name
    assert (await routed.save_stream(stream())).storage_name == MemoryStorage.name
    assert (await routed.save_stream(stream(), digest=digest)).storage_name == Archive.name


def test_route_to_a_storage_that_is_not_there_is_refused() -> None:
    with pytest.raises(NotRegistered):
        registry(Route(storage="tests.nowhere@v1", min_size=1))


def test_explanation_names_the_rule_and_why_others_did_not_match() -> None:
    routed = registry(
        Route(storage=Images.name, content_type="image/*"), Route(storage=Archive.name, tag={"tier": "cold"})
    )
    explained = routed.explain(content(tags={"tier": "cold"}), content_hash="ab" * 32)
    assert explained.rule == "route 2"
    assert explained.passed_over == ("route 1: content type 'text/plain' is not 'image/*'",)
    assert (explained.storage_name, explained.bucket, explained.key) == (Archive.name, "memory", "ab" * 32)
    assert routed.explain(content()).rule == "default"
    assert routed.explain(content(), storage=Images.name).rule == "named by the caller"


async def test_explanation_is_what_save_does() -> None:
    routed = registry(Route(storage=Archive.name, max_size=len(DATA), content_type="text/*"))
    for given in (blob(), blob("image/png"), blob(data=DATA + b"!")):
        known = content(given["content_type"], size=len(given["data"]))
        assert (await routed.save(given)).storage_name == routed.explain(known).storage_name


def test_explanation_of_a_retired_storage_equals_the_error_of_save() -> None:
    with pytest.raises(ReadOnlyStorage):
        StorageRegistry([Archive()], retired={"tests.old@v1": Archive.name}).explain(content(), storage="tests.old@v1")
