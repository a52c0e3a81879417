"""How a stream becomes the content: its temporary object by a move or a rewrite, its parts by a composition."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud import AccessDenied, CredentialsError, GCSStorage, IntegrityError, StorageUnavailable
from lakery_cloud.engine.attributes import attributes_of_content
from lakery_cloud.engine.scoped_upload import ScopedUpload
from lakery_cloud.streams.parts import Part
from lakery_cloud.testing import GCS_PROFILES, FaultProxy, GCSProfile, Rule, StrictGCS, content, digest_of, tap
from lakery_cloud.testing.faults import Answer, ExpiredCredentials, Fault, SwallowAnswer
from tests.helpers import look_after_parts, name_of, write, write_stream

pytestmark = pytest.mark.usefixtures("short_pauses")

BUCKET = "bucket"
PART = 256 * 1024
GOOGLE = GCS_PROFILES["google"]
VERSIONED = GCS_PROFILES["google-versioned"]
UPLOAD = ["objects.insert", *["upload"] * 3, "objects.get"]
MOVE = ["objects.patch", "objects.move"]
REWRITE = ["objects.rewrite", "objects.delete"]
BUSY = "exceeded the rate limit for object mutation operations"


def stream_data(seed: int = 0) -> bytes:
    """A stream of three parts."""
    return content(2 * PART + 1, seed=seed)


@asynccontextmanager
async def gcs_store(
    profile: GCSProfile | str = GOOGLE, *, storage_class: str | None = "STANDARD", **settings: Any
) -> AsyncIterator[tuple[StrictGCS, FaultProxy, GCSStorage]]:
    """A double with a bucket, a proxy in front of it, and a storage on that."""
    async with StrictGCS(profile) as server, FaultProxy(server.url) as proxy:
        server.make_bucket(BUCKET)
        server.make_bucket("other")
        options = {"endpoint_url": proxy.url, "part_size": PART, "max_attempts": 3, "storage_class": storage_class}
        async with GCSStorage(BUCKET, **{**options, **settings}) as storage:
            yield server, proxy, storage


async def operations_of(server: StrictGCS, storage: GCSStorage, data: bytes) -> list[str]:
    """The requests that the write of a stream sends. The content and its attributes are right, and nothing else is left."""
    server.operations.clear()
    tags = {"tag": "value", "of": "this stream"}
    assert await storage.read_data(stored := await write_stream(storage, data, tags)) == data
    operations = look_after_parts(server.operations[:-1], "objects.get", ("upload", "objects.insert"))
    assert (await storage.stat(stored)).tags == tags
    found = server.buckets[BUCKET][digest_of(data)["content_hash"]]
    metadata = found.resource["metadata"]
    assert metadata["content-hash"] == digest_of(data)["content_hash"]
    assert metadata["content-size"] == str(len(data))
    assert found.resource["contentType"] == "text/plain"
    check_nothing_temporary(server)
    return operations


def check_nothing_temporary(server: StrictGCS) -> None:
    for bucket in server.buckets:
        assert not [key for key in server.buckets[bucket] if ".tmp/" in key]
        assert not [key for key, _ in server.described[bucket].noncurrent if ".tmp/" in key]


# Where a move makes the same object


async def test_move_needs_one_change_of_metadata_and_no_deletion() -> None:
    async with gcs_store() as (server, _, storage):
        # A bucket with versions may keep the moved object: asked once.
        assert await operations_of(server, storage, stream_data(1)) == [*UPLOAD, *MOVE, "objects.delete"]
        for seed in (2, 3):
            assert await operations_of(server, storage, stream_data(seed)) == [*UPLOAD, *MOVE]
        assert not server.described[BUCKET].soft_deleted, "it is not billed for a week after its end"


@pytest.mark.parametrize("learns_from", [write, write_stream], ids=lambda work: work.__name__)
async def test_class_of_the_bucket_is_learned_from_the_first_content(learns_from: Any) -> None:
    async with gcs_store(storage_class=None) as (server, _, storage):
        await learns_from(storage, stream_data(1))
        assert server.operations.count("objects.rewrite") == (learns_from is write_stream)
        assert await operations_of(server, storage, stream_data(2)) == [*UPLOAD, *MOVE, "objects.delete"]


@pytest.mark.parametrize("configured", ["NEARLINE", None])
async def test_content_of_another_class_than_temporary_objects_is_rewritten(configured: str | None) -> None:
    profile = replace(GOOGLE, storage_class="NEARLINE")
    async with gcs_store(profile, storage_class=configured) as (server, _, storage):
        await write(storage, b"so that the class is known")
        for seed in (1, 2):
            assert await operations_of(server, storage, stream_data(seed)) == [*UPLOAD, *REWRITE]
        stored = server.buckets[BUCKET].values()
        assert {found.resource.get("storageClass", "NEARLINE") for found in stored} == {"NEARLINE"}


async def test_object_in_the_temporary_bucket_is_rewritten() -> None:
    async with gcs_store(temporary_bucket="other") as (server, _, storage):
        for seed in (1, 2):
            assert await operations_of(server, storage, stream_data(seed)) == [*UPLOAD, *REWRITE]


@pytest.mark.case("56")
@pytest.mark.parametrize("keeps", [True, False])
async def test_bucket_with_versions_keeps_nothing_of_moved_objects(keeps: bool) -> None:
    async with gcs_store(replace(VERSIONED, moves_keep_versions=keeps)) as (server, _, storage):
        assert await operations_of(server, storage, stream_data(1)) == [*UPLOAD, *MOVE, "objects.delete"]
        later = ["objects.delete"] if keeps else []
        assert await operations_of(server, storage, stream_data(2)) == [*UPLOAD, *MOVE, *later]


async def test_source_of_a_copy_that_is_no_temporary_object_stays() -> None:
    async with gcs_store() as (server, _, storage):
        await write(storage, b"data")
        transport = await storage.transport()
        source = await transport.head(storage.keys.content(digest_of(b"data")["content_hash"]))
        assert source is not None
        target = storage.keys.content("c" * 64)
        await transport.copy(source, target, attributes_of_content(digest_of(b"data"), {}))
        assert await transport.head(source.address) == source
        assert "objects.move" not in server.operations


# Refusals


@pytest.mark.parametrize("operation", MOVE)
@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
async def test_store_without_moves_is_asked_once(operation: str, status: int) -> None:
    async with gcs_store() as (server, proxy, storage):
        proxy.arm(Rule(Answer(status), operation, times=None))
        assert (await operations_of(server, storage, stream_data(1)))[-2:] == REWRITE
        proxy.exchanges.clear()
        assert await operations_of(server, storage, stream_data(2)) == [*UPLOAD, *REWRITE]
        assert not [exchange for exchange in proxy.exchanges if exchange.operation in MOVE]


@pytest.mark.case("55")
@pytest.mark.parametrize("profile", ["google-retained", "google-held", "emulator-like"])
async def test_bucket_whose_objects_must_stay_is_asked_once(profile: str) -> None:
    async with gcs_store(profile) as (server, _, storage):
        for seed in (1, 2):
            data = stream_data(seed)
            assert await storage.read_data(await write_stream(storage, data)) == data
        assert server.operations.count("objects.move") == 1
        assert server.operations.count("objects.rewrite") == 2


async def test_patch_that_has_no_effect_is_no_reason_to_move() -> None:
    """The object would lack its hash."""
    async with gcs_store() as (server, proxy, storage):
        resource = '{"generation": "1", "size": "1", "metadata": {"content-hash": "another"}}'
        proxy.arm(Rule(Answer(200, body=resource), "objects.patch", times=None))
        assert (await operations_of(server, storage, stream_data(1)))[-2:] == REWRITE
        assert "objects.move" not in server.operations


@pytest.mark.parametrize("operation", MOVE)
@pytest.mark.parametrize(
    "fault", [Answer(429), Answer(503), Answer(500), Answer(409), ExpiredCredentials()], ids=name_of
)
async def test_failure_that_passes_is_not_remembered(operation: str, fault: Fault) -> None:
    async with gcs_store() as (server, proxy, storage):
        await write_stream(storage, stream_data(1))
        armed = proxy.arm(Rule(fault, operation, times=None))
        data = stream_data(2)
        if name_of(fault) == name_of(Answer(409)):
            assert await storage.read_data(await write_stream(storage, data)) == data
        else:
            error = CredentialsError if isinstance(fault, ExpiredCredentials) else StorageUnavailable
            with pytest.raises(error):
                await write_stream(storage, data)
            assert digest_of(data)["content_hash"] not in server.buckets[BUCKET]
        check_nothing_temporary(server)
        proxy.disarm(armed)
        assert await operations_of(server, storage, stream_data(3)) == [*UPLOAD, *MOVE]


async def test_refusal_of_the_rewrite_too_says_nothing_about_moves() -> None:
    async with gcs_store() as (server, proxy, storage):
        await write_stream(storage, stream_data(1))
        armed = proxy.arm(Rule(Answer(403), "copy", times=None))
        with pytest.raises(AccessDenied):
            await write_stream(storage, stream_data(2))
        proxy.disarm(armed)
        assert await operations_of(server, storage, stream_data(3)) == [*UPLOAD, *MOVE]


@pytest.mark.case("65")
@pytest.mark.parametrize("operation", MOVE)
async def test_object_that_changed_less_than_a_second_ago_is_rewritten_this_time(operation: str) -> None:
    async with gcs_store() as (server, proxy, storage):
        await write_stream(storage, stream_data(1))
        error = f'{{"error": {{"message": "The object {BUSY}", "errors": [{{"reason": "rateLimitExceeded"}}]}}}}'
        proxy.arm(Rule(Answer(429, body=error), operation))
        sent = await operations_of(server, storage, stream_data(2))
        assert sent[-3:] == ["objects.get", *REWRITE]
        assert await operations_of(server, storage, stream_data(3)) == [*UPLOAD, *MOVE]


# Other clients, and responses that get lost


@pytest.mark.case("14")
@pytest.mark.parametrize("operation", MOVE)
@pytest.mark.parametrize("times", [1, None])
async def test_success_whose_answer_was_lost_is_success(operation: str, times: int | None) -> None:
    async with gcs_store(VERSIONED) as (server, proxy, storage):
        proxy.arm(Rule(SwallowAnswer(), operation, times=times))
        if operation == "objects.patch" and times is None:
            with pytest.raises(StorageUnavailable):
                await write_stream(storage, stream_data())
            assert not server.buckets[BUCKET]
            check_nothing_temporary(server)
        else:
            await operations_of(server, storage, stream_data())


@pytest.mark.parametrize("place", MOVE)
async def test_content_that_another_client_makes_first_is_success(place: str) -> None:
    data = stream_data()
    async with gcs_store() as (server, proxy, storage):
        made = proxy.arm(Rule(Answer(412), place)) if place == "objects.move" else None
        tap(storage).before("copy", _put(server, digest_of(data)["content_hash"], data))
        await write_stream(storage, data)
        assert server.buckets[BUCKET].keys() == {digest_of(data)["content_hash"]}
        assert made is None or made.fired


async def test_content_of_another_client_that_is_wrong_stays_and_is_an_error() -> None:
    data = stream_data()
    async with gcs_store() as (server, _, storage):
        tap(storage).before("copy", _put(server, digest_of(data)["content_hash"], b"not yours"))
        with pytest.raises(IntegrityError, match="9 bytes"):
            await write_stream(storage, data)
        assert [found.data for found in server.buckets[BUCKET].values()] == [b"not yours"]


@pytest.mark.parametrize("change", ["replaced", "deleted"])
async def test_temporary_object_of_another_client_is_never_moved(change: str) -> None:
    async with gcs_store() as (server, _, storage):

        async def interfere() -> None:
            (key,) = server.buckets[BUCKET]
            if change == "deleted":
                del server.buckets[BUCKET][key]
            else:
                server.put(BUCKET, key, b"something else")

        tap(storage).before("copy", interfere)
        with pytest.raises(IntegrityError, match="another client changed"):
            await write_stream(storage, stream_data())
        assert not server.buckets[BUCKET]
        assert await operations_of(server, storage, stream_data(2)) == [*UPLOAD, *MOVE, "objects.delete"]


def _put(server: StrictGCS, key: str, data: bytes) -> Any:
    async def put() -> None:
        server.put(BUCKET, key, data)

    return put


# Parts that are composed to the content key


async def test_composed_content_without_a_checksum_is_deleted() -> None:
    async with gcs_store(composite_uploads=True) as (server, _, storage):

        async def hide_checksums() -> None:
            server.profile = replace(GOOGLE, null_fields=("crc32c",))

        tap(storage).before("copy", hide_checksums)
        with pytest.raises(StorageUnavailable, match="has no crc32c"):
            await write_stream(storage, stream_data())
        assert not server.buckets[BUCKET]


async def test_composed_stream_is_as_many_requests_as_parts_and_one() -> None:
    async with gcs_store(composite_uploads=True) as (server, _, storage):
        sent = await operations_of(server, storage, stream_data())
        parts, deletions = ["objects.insert"] * 3, ["objects.delete"] * 3
        assert sent == [*parts, "objects.get", "objects.compose", *deletions]


async def test_parts_in_the_temporary_bucket_are_composed_there() -> None:
    async with gcs_store(composite_uploads=True, temporary_bucket="other") as (server, _, storage):
        sent = await operations_of(server, storage, stream_data())
        assert sent.count("objects.compose") == sent.count("objects.rewrite") == 1


async def test_composed_temporary_object_exists_for_those_who_look() -> None:
    async with gcs_store(composite_uploads=True) as (server, _, storage):
        transport, data = await storage.transport(), stream_data()
        address, attributes = storage.keys.temporary(), attributes_of_content(digest_of(data), {})
        async with ScopedUpload(transport, address, attributes, is_temporary=True, cleanup_timeout=60) as upload:
            receipt = await transport.upload_part(upload.upload, Part(1, 0, (data,), is_last=True))
            await upload.complete([receipt], size=len(data))
            assert address.key not in server.buckets[BUCKET]
            found = await transport.head(address)
            assert found is not None
            assert server.buckets[BUCKET][address.key].data == data
        assert not server.buckets[BUCKET]


@pytest.mark.case("23")
async def test_deletion_of_a_moved_object_that_is_not_allowed_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with gcs_store() as (server, proxy, storage):
        armed = proxy.arm(Rule(Answer(403), "delete", times=None))
        for seed in (1, 2):
            await write_stream(storage, stream_data(seed))
        assert armed.fired == 1
        assert caplog.text.count("could not clean up") == 1
        check_nothing_temporary(server)
