"""`GCSStorage` on buckets and gateways as people have them: each profile of the strict double."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    ConfigError,
    GCSStorage,
    IntegrityError,
    NoStorageData,
    StorageUnavailable,
)
from lakery_cloud.http.exchange import BufferedResponse, Origin, UnsupportedResponse
from lakery_cloud.maintenance import verify
from lakery_cloud.providers.gcs import uploads as gcs_uploads
from lakery_cloud.providers.gcs.answers import read_session
from lakery_cloud.testing import GCS_PROFILES, GCSProfile, StrictGCS, content, digest_of, tap
from tests.helpers import write, write_stream

pytestmark = pytest.mark.usefixtures("short_pauses")

BUCKET = "bucket"
PART = 256 * 1024
SMALL = b"some content"
LARGE = content(3 * PART + 1)
NO_TAGS: dict[str, str] = {}
GOOGLE = GCS_PROFILES["google"]

both_uploads = pytest.mark.parametrize("composite_uploads", [False, True], ids=["resumable", "composite"])
# The class of temporary objects lets them be moved, and parts be composed, to the content key.
every_way = pytest.mark.parametrize(
    "settings",
    [
        {"storage_class": storage_class, "composite_uploads": composite_uploads}
        for storage_class in ("STANDARD", "NEARLINE")
        for composite_uploads in (False, True)
    ],
    ids=["moved", "composed", "rewritten", "composed and rewritten"],
)


@asynccontextmanager
async def gcs_store(profile: GCSProfile | str, **settings: Any) -> AsyncIterator[tuple[StrictGCS, GCSStorage]]:
    """A double with a bucket, and a storage on it."""
    async with StrictGCS(profile) as server:
        server.buckets[BUCKET] = {}
        async with gcs_storage(server, **settings) as storage:
            yield server, storage


def gcs_storage(server: StrictGCS, **settings: Any) -> GCSStorage:
    """A storage on a double."""
    return GCSStorage(BUCKET, **{"endpoint_url": server.url, "part_size": PART, "max_attempts": 3, **settings})


def keys(server: StrictGCS) -> list[str]:
    """The names of all live objects."""
    return list(server.buckets[BUCKET])


def temporary(server: StrictGCS) -> list[str]:
    """The names of live temporary objects and of open uploads."""
    sessions = [session.name for session in server.sessions.values() if session.is_open]
    return [key for key in keys(server) if ".tmp/" in key] + sessions


async def check_round_trip(storage: GCSStorage, tags: dict[str, str] = NO_TAGS) -> None:
    """Write a blob and a stream of several parts, twice each; read, find, describe and verify them."""
    for _ in range(2):
        small, large = await write(storage, SMALL, tags), await write_stream(storage, LARGE, tags)
    assert await storage.read_data(small) == SMALL
    assert await storage.read_data(large) == LARGE
    assert (await storage.stat(large)).tags == tags
    assert len([info async for info in storage.list()]) == 2
    assert [verified.problem async for verified in verify(storage)] == [None, None]
    with pytest.raises(NoStorageData):
        await storage.read_data(storage.storage_data_of(digest_of(b"missing")))


def requests_of(storage: GCSStorage, stored: Any) -> dict[str, Callable[[], Awaitable[Any]]]:
    """One request of each kind that succeeds on a store that behaves."""
    return {
        "write": lambda: write(storage, b"new", NO_TAGS),
        "stream": lambda: write_stream(storage, LARGE, NO_TAGS),
        "read": lambda: storage.read_data(stored),
        "stat": lambda: storage.stat(stored),
        "exists": lambda: storage.exists(stored),
        "delete": lambda: storage.delete(stored),
        "list": lambda: _all(storage.list()),
        "verify": lambda: _all(verify(storage)),
    }


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]


BEHAVING = ["google", "google-versioned", "google-new-errors", "google-xml-errors", "emulator-like", "other-host"]


@both_uploads
@pytest.mark.parametrize("profile", BEHAVING)
async def test_content_is_written_and_read(profile: str, composite_uploads: bool) -> None:
    async with gcs_store(profile, composite_uploads=composite_uploads) as (server, storage):
        await check_round_trip(storage, {"tag": "value"})
        assert not temporary(server)


# Retention, holds, versions.


@pytest.mark.case("55")
@every_way
@pytest.mark.parametrize(("profile", "reason"), [("google-retained", "retention"), ("google-held", "hold")])
async def test_stream_is_saved_although_nothing_can_be_deleted(
    profile: str, reason: str, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lakery_cloud")
    is_rewritten = settings["storage_class"] == "NEARLINE" or not settings["composite_uploads"]
    parts = 4 if settings["composite_uploads"] else 0
    async with gcs_store(profile, **settings) as (server, storage):
        stored = await write_stream(storage, LARGE)
        assert await storage.read_data(stored) == LARGE
        left = temporary(server)
    assert len(left) == parts + is_rewritten
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == bool(parts) + is_rewritten, "the parts, and the temporary object"
    for record in said:
        assert not record.exc_info
        assert any(key in record.getMessage() for key in left)
        assert reason in record.getMessage()
        assert "Grant" not in record.getMessage()


@pytest.mark.case("55")
async def test_more_parts_than_one_request_composes_are_saved_under_retention() -> None:
    data = content(PART * 32 + 1)
    async with gcs_store("google-retained", composite_uploads=True) as (server, storage):
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert server.operations.count("objects.compose") == 2


@pytest.mark.case("65")
@pytest.mark.parametrize(("parts", "requests"), [(4, 1), (5, 2), (7, 2), (8, 3), (9, 3), (17, 6)])
@pytest.mark.parametrize("storage_class", ["STANDARD", "NEARLINE"])
async def test_parts_are_composed_in_levels_without_replacing_an_object(
    parts: int, requests: int, storage_class: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_uploads, "MAX_SOURCES", 4)
    data = content(PART * parts)
    async with gcs_store("google", composite_uploads=True, storage_class=storage_class) as (server, storage):
        assert await storage.read_data(await write_stream(storage, data)) == data
        assert not temporary(server)
    composed = [line.partition("?")[0] for line in server.received if "/compose" in line]
    assert len(composed) == len(set(composed)) == requests


@pytest.mark.case("56")
@every_way
async def test_versioned_bucket_keeps_nothing_of_temporary_objects(settings: dict[str, Any]) -> None:
    async with gcs_store("google-versioned", **settings) as (server, storage):
        for _ in range(2):
            await write_stream(storage, LARGE)
        with pytest.raises(ZeroDivisionError):
            await write_stream(storage, _failing_source())
        assert keys(server) == [digest_of(LARGE)["content_hash"]]
        assert not server.described[BUCKET].noncurrent


@pytest.mark.case("56")
@every_way
@pytest.mark.parametrize("operation", ["upload_part", "complete_upload", "copy"])
async def test_cancelled_stream_leaves_nothing_in_a_versioned_bucket(operation: str, settings: dict[str, Any]) -> None:
    async with gcs_store("google-versioned", **settings) as (server, storage):
        hold = tap(storage).hold(operation, nth=4 if operation == "upload_part" else 1, moment="after")
        writing = asyncio.create_task(write_stream(storage, LARGE))
        await hold.reached.wait()
        writing.cancel()
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert not temporary(server)
        assert not server.described[BUCKET].noncurrent


async def _failing_source() -> AsyncIterator[bytes]:
    yield LARGE
    raise ZeroDivisionError


# Requester pays, limits, policies.


@pytest.mark.case("69")
async def test_every_request_names_the_payer() -> None:
    async with gcs_store("google-requester-pays", user_project="payer") as (server, storage):
        await check_round_trip(storage)
        await storage.delete(storage.storage_data_of(digest_of(LARGE)))
    named = [line for line in server.received if "upload_id=" not in line]
    assert named
    assert all("userProject=payer" in line for line in named)


@pytest.mark.case("69")
async def test_payer_of_storage_data_pays_for_the_look_after_a_miss() -> None:
    async with gcs_store("google-requester-pays", user_project="payer") as (server, storage):
        stored = await write(storage, SMALL)
        missing = storage.storage_data_of(digest_of(b"missing"))
        async with gcs_storage(server) as reader:
            server.received.clear()
            assert await reader.read_data(stored) == SMALL
            for find in (reader.read_data, reader.stat):
                with pytest.raises(NoStorageData):
                    await find(missing)
            assert not await reader.exists(missing)
    assert "buckets.get" in server.operations
    assert all("userProject=payer" in line for line in server.received)


@pytest.mark.case("69")
async def test_missing_payer_is_named() -> None:
    async with gcs_store("google-requester-pays", user_project="payer") as (server, storage):
        stored = {**await write(storage, SMALL), "user_project": None}
        async with gcs_storage(server) as without:
            for request in requests_of(without, stored).values():
                with pytest.raises(ConfigError, match="Set user_project"):
                    await request()


@pytest.mark.case("65")
async def test_sixteen_writers_of_a_blob_at_one_change_a_second_all_succeed() -> None:
    # The attempts end long before the second does.
    async with gcs_store("google-one-change-a-second", max_attempts=1) as (server, storage):
        stored = await asyncio.gather(*(write(storage, SMALL) for _ in range(16)))
        assert len(set(map(json.dumps, stored))) == 1
        assert await storage.read_data(stored[0]) == SMALL
        assert server.operations.count("objects.insert") >= 16


@pytest.mark.case("65")
@every_way
async def test_writers_of_a_stream_at_one_change_a_second_all_succeed(settings: dict[str, Any]) -> None:
    profile = replace(GCS_PROFILES["google-one-change-a-second"], seconds_per_change=0.1)
    async with gcs_store(profile, max_attempts=12, **settings) as (server, storage):
        stored = await asyncio.gather(*(write_stream(storage, LARGE) for _ in range(4)))
        assert len(set(map(json.dumps, stored))) == 1
        assert await storage.read_data(stored[0]) == LARGE
        assert not temporary(server)


@pytest.mark.case("54")
@every_way
async def test_policy_of_the_organization_is_quoted(settings: dict[str, Any]) -> None:
    async with gcs_store("google-policy", **settings) as (server, storage):
        for data in (SMALL, LARGE):
            with pytest.raises(AccessDenied, match="constraints/gcp.resourceLocations.*organization policy"):
                await write_stream(storage, data)
            if data is SMALL:
                assert server.operations == ["objects.insert"]
        assert not keys(server)
        assert not temporary(server)


# Answers that prove nothing.


@pytest.mark.case("47")
@both_uploads
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["blob", "stream"])
async def test_invented_success_is_not_reported(data: bytes, composite_uploads: bool) -> None:
    async with gcs_store("gateway", composite_uploads=composite_uploads) as (server, storage):
        with pytest.raises(StorageUnavailable):
            await write_stream(storage, data)
        assert not keys(server)


@pytest.mark.case("47")
@pytest.mark.parametrize("storage_class", ["STANDARD", "NEARLINE"])
@pytest.mark.parametrize(
    "operation", ["objects.insert", "objects.rewrite", "objects.move", "objects.compose", "upload"]
)
async def test_success_without_proof_is_looked_up(operation: str, storage_class: str) -> None:
    """The store acts, but a gateway replaces its answer."""
    data = SMALL if operation == "objects.insert" else LARGE
    profile = replace(GOOGLE, empties=(operation,))
    settings = {"composite_uploads": operation == "objects.compose", "storage_class": storage_class}
    async with gcs_store(profile, **settings) as (server, storage):
        if operation == "upload":  # a chunk without an answer to it proves nothing, and nothing is stored
            with pytest.raises(StorageUnavailable):
                await write_stream(storage, data)
            assert not keys(server)
        else:
            assert await storage.read_data(await write_stream(storage, data)) == data
        assert not temporary(server)


@pytest.mark.case("47")
async def test_deletion_without_proof_is_an_error() -> None:
    async with gcs_store(GOOGLE) as (server, storage):
        stored = await write(storage, SMALL)
        server.profile = GCS_PROFILES["gateway"]
        with pytest.raises(StorageUnavailable, match="objects.delete"):
            await storage.delete(stored)
        assert keys(server)


@pytest.mark.case("48")
@both_uploads
@pytest.mark.parametrize(("profile", "said"), [("portal", "page of HTML"), ("redirecting", "308")])
async def test_answer_of_a_gateway_counts_as_nothing(profile: str, said: str, composite_uploads: bool) -> None:
    async with gcs_store(GOOGLE, composite_uploads=composite_uploads) as (server, storage):
        stored = await write(storage, SMALL)
        server.profile = GCS_PROFILES[profile]
        for request in requests_of(storage, stored).values():
            with pytest.raises(StorageUnavailable) as raised:
                await request()
            assert server.url in str(raised.value)
            if profile != "portal" or "generation" not in str(raised.value):  # a page has no generation
                assert said in str(raised.value)
        assert keys(server) == [digest_of(SMALL)["content_hash"]]


@pytest.mark.case("49")
@pytest.mark.parametrize("change", ["missing_fields", "null_fields"])
@pytest.mark.parametrize(
    ("field", "requests"),
    [
        ("size", ("stat", "exists", "list", "verify", "write", "stream")),
        ("generation", ("stat", "exists", "list", "verify", "write", "stream")),
        ("crc32c", ("stream",)),
        ("name", ("list", "verify")),
    ],
)
async def test_missing_field_is_named(change: str, field: str, requests: tuple[str, ...]) -> None:
    async with gcs_store(GOOGLE) as (server, storage):
        stored = await write(storage, SMALL)
        server.profile = replace(GOOGLE, **{change: (field,)})
        for name in requests:
            with pytest.raises(StorageUnavailable, match=field):
                await requests_of(storage, stored)[name]()
        assert not temporary(server)


@pytest.mark.case("49")
@pytest.mark.parametrize("header", ["location", "x-goog-generation"])
async def test_missing_header_is_named(header: str) -> None:
    async with gcs_store(replace(GOOGLE, missing=(header,))) as (_, storage):
        stored = await write(storage, SMALL)
        request = requests_of(storage, stored)["stream" if header == "location" else "read"]
        with pytest.raises(StorageUnavailable, match=header):
            await request()


@pytest.mark.case("50")
async def test_listing_that_does_not_advance_ends() -> None:
    async with gcs_store("same-token") as (server, storage):
        server.page_size = 2
        for number in range(5):
            await write(storage, bytes([number]))
        with pytest.raises(StorageUnavailable, match="token"):
            await _all(storage.list())


@pytest.mark.case("50")
async def test_copy_that_does_not_advance_ends() -> None:
    async with gcs_store(GOOGLE) as (server, storage):
        server.bytes_per_rewrite = 0
        with pytest.raises(StorageUnavailable, match="stays at byte 0"):
            await write_stream(storage, LARGE)
        assert not keys(server)


@pytest.mark.case("57")
async def test_copy_that_takes_longer_than_the_time_out_is_saved() -> None:
    profile = replace(GCS_PROFILES["google-slow-copy"], rewrite_seconds=1.2)
    async with gcs_store(profile, max_attempts=1, read_timeout=1) as (server, storage):
        assert await storage.read_data(await write_stream(storage, LARGE)) == LARGE
        assert not temporary(server)


@pytest.mark.case("58")
@both_uploads
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["blob", "stream"])
@pytest.mark.parametrize("profile", ["google-new-errors", "google-xml-errors"])
async def test_damage_on_the_wire_is_refused_in_each_format(profile: str, data: bytes, composite_uploads: bool) -> None:
    async with gcs_store(profile, composite_uploads=composite_uploads) as (server, storage):
        server.damage = lambda body: bytes([body[0] ^ 1]) + body[1:]
        with pytest.raises(IntegrityError):
            await write_stream(storage, data)
        assert not keys(server)


async def test_upload_that_ended_is_not_blamed_on_another_client() -> None:
    async with gcs_store(GOOGLE) as (server, storage):

        async def end() -> None:
            server.sessions.clear()

        tap(storage).before("upload_part", end, nth=2)
        with pytest.raises(StorageUnavailable, match="write again") as raised:
            await write_stream(storage, LARGE)
        assert "another client" not in str(raised.value)
        assert "404" in str(raised.value)
        assert not keys(server)


# URLs of upload sessions.

ORIGIN = Origin.of("https://storage.googleapis.com")
PATH = "/upload/storage/v1/b/bucket/o"
QUERY = "?uploadType=resumable&upload_id=x"


@pytest.mark.case("49")
@pytest.mark.parametrize(
    ("location", "url"),
    [
        (f"https://storage.googleapis.com{PATH}{QUERY}", f"https://storage.googleapis.com{PATH}{QUERY}"),
        (f"https://STORAGE.googleapis.com:443{PATH}{QUERY}", f"https://storage.googleapis.com{PATH}{QUERY}"),
        (f"https://storage.googleapis.com/other{QUERY}", f"https://storage.googleapis.com/other{QUERY}"),
        (f"http://storage.googleapis.com{PATH}{QUERY}", f"https://storage.googleapis.com{PATH}{QUERY}"),
        (f"http://0.0.0.0:4443{PATH}{QUERY}", f"https://storage.googleapis.com{PATH}{QUERY}"),
        (f"https://evil.example{PATH}{QUERY}", f"https://storage.googleapis.com{PATH}{QUERY}"),
        (f"https://evil.example/elsewhere{QUERY}", None),
        (f"https://evil.example/{QUERY}", None),
        (f"https://evil.example/upload/storage/v1/b/other/o{QUERY}", None),
        (f"https://storage.googleapis.com@evil.example/x{QUERY}", None),
        (f"//evil.example{PATH}{QUERY}", None),
        (f"{PATH}{QUERY}", None),
        ("ftp://storage.googleapis.com/x", None),
        ("https://storage.googleapis.com:port/x", None),
        ("https://[::1/x", None),
        (f"https://storage.googleapis.com{PATH}?a b", None),
        ("null", None),
        ("", None),
    ],
)
def test_session_is_at_the_host_of_the_storage(location: str, url: str | None) -> None:
    response = BufferedResponse(200, {"location": location}, b"")
    if url is None:
        with pytest.raises(UnsupportedResponse, match="(?i)location"):
            read_session(ORIGIN, PATH, response)
    else:
        assert read_session(ORIGIN, PATH, response) == url


@pytest.mark.case("49")
async def test_upload_never_follows_its_location_to_another_host() -> None:
    async with StrictGCS() as other:
        other.buckets[BUCKET] = {}
        host = other.url.removeprefix("http://")
        async with gcs_store(replace(GOOGLE, session_host=host)) as (_, storage):
            assert await storage.read_data(await write_stream(storage, LARGE)) == LARGE
        assert not other.received
