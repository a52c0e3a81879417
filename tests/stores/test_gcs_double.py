"""The strict double of Cloud Storage does what the documentation of buckets with options says."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp

from lakery_cloud.testing import GCS_PROFILES, GCSProfile, StrictGCS

Call = Callable[..., Coroutine[Any, Any, tuple[int, Any]]]


@asynccontextmanager
async def bucket_of(profile: GCSProfile | str) -> AsyncIterator[tuple[StrictGCS, Call]]:
    """A double with a bucket that has the object `old`, and a function that sends requests about objects."""
    async with StrictGCS(profile) as server, aiohttp.ClientSession() as client:
        server.buckets["bucket"] = {}
        server.put("bucket", "old", b"data")

        async def call(method: str, target: str, **parameters: Any) -> tuple[int, Any]:
            async with client.request(method, f"{server.url}/storage/v1/b/bucket/o/{target}", **parameters) as answer:
                return answer.status, await answer.json() if answer.content_length else None

        yield server, call


async def test_move_is_create_only_pinned_and_kept_by_nothing() -> None:
    async with bucket_of("google") as (server, call):
        server.put("bucket", "there", b"other")
        assert (await call("POST", "old/moveTo/o/there?ifGenerationMatch=0"))[0] == 412
        assert (await call("POST", "old/moveTo/o/new?ifSourceGenerationMatch=1"))[0] == 412
        status, moved = await call("POST", "old/moveTo/o/new?ifGenerationMatch=0")
        assert (status, moved["name"], moved["size"]) == (200, "new", "4")
        assert sorted(server.buckets["bucket"]) == ["new", "there"]
        assert not server.described["bucket"].soft_deleted


async def test_move_leaves_a_version_in_a_bucket_that_keeps_them() -> None:
    async with bucket_of("google-versioned") as (server, call):
        generation = (await call("GET", "old"))[1]["generation"]
        assert (await call("POST", "old/moveTo/o/new"))[0] == 200
        assert (await call("GET", f"old?generation={generation}"))[0] == 200
        assert (await call("DELETE", f"old?generation={generation}"))[0] == 204
        assert not server.described["bucket"].noncurrent


async def test_each_change_of_an_object_counts_for_its_limit() -> None:
    async with bucket_of(replace(GCS_PROFILES["google-one-change-a-second"], seconds_per_change=1000)) as (_, call):
        for method, target in (("PATCH", "old"), ("POST", "old/moveTo/o/new"), ("DELETE", "old")):
            assert (await call(method, target, json={}))[0] == 429
        assert (await call("POST", "old/rewriteTo/b/bucket/o/new"))[0] == 200, "a copy changes no existing object"


async def test_soft_delete_keeps_what_is_deleted_and_replaced() -> None:
    async with bucket_of("google") as (server, call):
        server.put("bucket", "old", b"newer")
        assert (await call("DELETE", "old"))[0] == 204
        assert [found.data for _, found in server.described["bucket"].soft_deleted] == [b"data", b"newer"]


async def test_version_is_noncurrent_until_it_is_deleted_by_its_generation() -> None:
    async with bucket_of("google-versioned") as (server, call):
        generation = (await call("GET", "old"))[1]["generation"]
        assert (await call("DELETE", "old"))[0] == 204
        assert (await call("GET", "old"))[0] == 404
        assert (await call("GET", f"old?generation={generation}"))[0] == 200
        assert (await call("DELETE", f"old?generation={generation}"))[0] == 204
        assert not server.described["bucket"].noncurrent
        server.put("bucket", "old", b"data")
        generation = (await call("GET", "old"))[1]["generation"]
        assert (await call("DELETE", f"old?generation={generation}"))[0] == 204
        assert not server.described["bucket"].noncurrent


async def test_kept_object_is_neither_deleted_nor_replaced_nor_moved() -> None:
    for profile, reason in (("google-retained", "retentionPolicyNotMet"), ("google-held", "forbidden")):
        async with bucket_of(profile) as (server, call):
            requests = ("DELETE", "old"), ("POST", "old/moveTo/o/new"), ("POST", "old/rewriteTo/b/bucket/o/old")
            for method, target in requests:
                status, body = await call(method, target)
                assert (status, body["error"]["errors"][0]["reason"]) == (403, reason)
            assert (await call("POST", "old/rewriteTo/b/bucket/o/old?ifGenerationMatch=0"))[0] == 412
            assert (await call("POST", "old/rewriteTo/b/bucket/o/new"))[0] == 200
            assert server.buckets["bucket"]["old"].data == b"data"


async def test_compose_has_a_limit_and_pins_its_sources() -> None:
    async with bucket_of("google") as (server, call):
        assert (await call("POST", "new/compose", json={"sourceObjects": [{"name": "old"}] * 33}))[0] == 400
        pinned = {"sourceObjects": [{"name": "old", "generation": "1"}]}
        assert (await call("POST", "new/compose", json=pinned))[0] == 404
        status, made = await call("POST", "new/compose", json={"sourceObjects": [{"name": "old"}] * 2})
        assert (status, made["size"], "md5Hash" in made) == (200, "8", False)
        assert server.buckets["bucket"]["new"].data == b"datadata"


async def test_patch_changes_metadata() -> None:
    async with bucket_of("google") as (_, call):
        await call("PATCH", "old", json={"metadata": {"a": "1", "b": "2"}})
        status, changed = await call("PATCH", "old", json={"metadata": {"a": None}, "contentType": "text/x"})
        assert (status, changed["metadata"], changed["contentType"]) == (200, {"b": "2"}, "text/x")
        assert changed["metageneration"] == "3"
