"""`temporary_bucket`: temporary keys in a bucket of their own, so that the bucket of the content has content alone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from lakery_cloud import BucketNotFound, ConfigError, StorageUnavailable
from lakery_cloud.maintenance import Outcome, apply_lifecycle, diagnose, leftovers, sweep
from lakery_cloud.testing import Exchange, Rule, content, digest_of, tap
from lakery_cloud.testing.faults import Fault, ResetBefore, SwallowAnswer
from tests.helpers import PATIENCE, name_of, proxy_before, scripted_proxy_before, write, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS, Pair, params

pytestmark = pytest.mark.case("55")

PAIRS = [
    pair
    for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS)
    if pair.name in ("s3-aws", "gcs-strict", "gcs-composite", "azure-azurite")
]
STAMP = "20240101T000000Z"


@dataclass(frozen=True)
class Buckets:
    """Two buckets of one server: for content, and for temporary keys."""

    of_content: CloudRig
    of_temporary: CloudRig

    @property
    def option(self) -> dict[str, str]:
        """The setting."""
        word = self.of_content.storage_class.settings_class.bucket_names.setting
        return {f"temporary_{word}": self.of_temporary.bucket}

    def storage(self, **options: Any) -> Any:
        """A storage on both."""
        return self.of_content.storage(**self.option, **options)

    async def check_only(self, *contents: bytes, prefix: str = "") -> None:
        """Check that nothing but these contents is left in either bucket."""
        await self.of_temporary.check_nothing_left()
        await self.of_content.check_nothing_temporary()
        expected = {f"{prefix}{digest_of(data)['content_hash']}" for data in contents}
        assert set(await self.of_content.keys()) == expected


@pytest.fixture(params=params(PAIRS))
async def buckets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Buckets]:
    pair: Pair = request.param
    async with pair.open(request, monkeypatch) as rig, pair.open(request, monkeypatch) as other:
        yield Buckets(rig, other)


def stream_content(buckets: Buckets) -> bytes:
    return content(2 * buckets.of_content.part_size + 1)


async def test_stream_is_uploaded_beside_and_copied_to_its_bucket(buckets: Buckets) -> None:
    data = stream_content(buckets)
    async with asyncio.timeout(PATIENCE), buckets.storage(prefix="p") as storage:
        copying = tap_and_hold(storage, "copy")
        writing = asyncio.create_task(write_stream(storage, data))
        await copying.reached.wait()
        assert await buckets.of_content.keys() == []
        (key,) = await buckets.of_temporary.keys()
        assert key.startswith("p/.tmp/")
        copying.release()
        storage_data = await writing
        assert await storage.read_data(storage_data) == data
        assert buckets.of_temporary.bucket not in storage.serialize_storage_data(storage_data)
    await buckets.check_only(data, prefix="p/")


def tap_and_hold(storage: Any, operation: str) -> Any:
    return tap(storage).hold(operation)


async def test_stream_from_a_url_with_the_setting(buckets: Buckets) -> None:
    rig, data = buckets.of_content, stream_content(buckets)
    url = f"{rig.storage_class.url_scheme}://{rig.bucket}?{urlencode(buckets.option)}"
    storage = rig.storage_class.from_url(url, part_size=rig.part_size, **rig._settings())
    assert storage.keys.temporary().bucket == buckets.of_temporary.bucket
    async with storage:
        await write_stream(storage, data)
    await buckets.check_only(data)


@pytest.mark.parametrize("moment", ["upload_part", "complete_upload", "copy", "delete"])
async def test_cancelled_stream_leaves_nothing_in_either_bucket(buckets: Buckets, moment: str) -> None:
    data = stream_content(buckets)
    async with asyncio.timeout(PATIENCE), buckets.storage() as storage:
        hold = tap_and_hold(storage, moment)
        writing = asyncio.create_task(write_stream(storage, data))
        await hold.reached.wait()
        writing.cancel()
        hold.release()
        with suppress(asyncio.CancelledError):
            await writing
    await buckets.of_temporary.check_nothing_left()
    await buckets.of_content.check_nothing_temporary()


async def test_stream_that_fails_leaves_nothing_in_either_bucket(buckets: Buckets) -> None:
    async def failing() -> AsyncGenerator[bytes]:
        yield stream_content(buckets)
        raise ZeroDivisionError

    async with buckets.storage() as storage:
        with pytest.raises(ZeroDivisionError):
            await write_stream(storage, failing())
    await buckets.check_only()


@pytest.mark.parametrize(
    "buckets", params(pair for pair in PAIRS if pair.name in ("s3-aws", "gcs-strict", "azure-azurite")), indirect=True
)
@pytest.mark.parametrize("fault", [ResetBefore(), SwallowAnswer()], ids=name_of)
@pytest.mark.usefixtures("short_pauses")
async def test_store_that_goes_away_at_any_request_leaves_nothing_that_sweep_does_not_find(
    buckets: Buckets, fault: Fault
) -> None:
    rig = buckets.of_content
    async with proxy_before(rig) as proxy, buckets.storage(max_attempts=1) as storage:
        await write_stream(storage, content(rig.part_size + 1))
        for nth in range(1, len(proxy.exchanges) + 1):
            data = content(rig.part_size + 1, seed=nth)
            armed = proxy.arm(Rule(fault, nth=nth, times=None))
            is_written = False
            with suppress(StorageUnavailable):
                await write_stream(storage, data)
                is_written = True
            proxy.disarm(armed)
            found = await rig.get(digest_of(data)["content_hash"])
            assert (found and found.data) in ((data,) if is_written else (None, data)), nth
            assert not [key for key in await rig.keys() if "/" in key]
            async for _ in sweep(storage, older_than=timedelta(0)):
                pass
            assert await buckets.of_temporary.keys() == []
            if rig.shows_uploads:
                assert await buckets.of_temporary.uploads() == []
                assert await rig.uploads() == []


@pytest.mark.parametrize("buckets", params(PROFILE_PAIRS[:1]), indirect=True)
async def test_large_stream_is_copied_in_parts_across_buckets(buckets: Buckets) -> None:
    rig, data = buckets.of_content, stream_content(buckets)
    limits = replace(rig.storage().settings.limits, max_copy_size=rig.part_size, copy_part_size=rig.part_size)
    async with buckets.storage(limits=limits) as storage:
        wire = tap(storage)
        assert await storage.read_data(await write_stream(storage, data)) == data
        assert wire.count("copy_part") == 3
    await buckets.check_only(data)


async def test_blobs_and_short_streams_need_no_temporary_bucket(buckets: Buckets) -> None:
    rig = buckets.of_content
    async with rig.storage(**dict.fromkeys(buckets.option, "no-such-bucket")) as storage:
        await write(storage, b"blob")
        await write_stream(storage, b"stream")
        with pytest.raises(BucketNotFound, match="no-such-bucket"):
            await write_stream(storage, stream_content(buckets))
    await buckets.check_only(b"blob", b"stream")


async def test_sweep_searches_both_buckets(buckets: Buckets) -> None:
    old, other, new = (
        f"p/.tmp/{stamp}-{name}" for stamp, name in ((STAMP, "a"), (STAMP, "b"), ("29990101T000000Z", "c"))
    )
    async with buckets.storage(prefix="p") as storage:
        await write(storage, b"content")
        await buckets.of_content.put(old, b"left by a storage without the setting")
        await buckets.of_temporary.put(old, b"left")
        await buckets.of_temporary.put(other, b"left")
        await buckets.of_temporary.put(new, b"in use")
        await buckets.of_temporary.put(f"p/{'0' * 64}", b"content of another storage")
        listed = [each.address async for each in leftovers(storage, older_than=timedelta(days=1))]
        removed = [each.address async for each in sweep(storage, older_than=timedelta(days=1))]
    content_bucket, temporary_bucket = buckets.of_content.bucket, buckets.of_temporary.bucket
    assert sorted(listed) == sorted([(content_bucket, old), (temporary_bucket, old), (temporary_bucket, other)])
    assert sorted(removed) == sorted(listed)
    assert await buckets.of_content.keys() == [f"p/{digest_of(b'content')['content_hash']}"]
    assert sorted(await buckets.of_temporary.keys()) == sorted([new, f"p/{'0' * 64}"])


async def diagnosis_of(storage: Any) -> dict[str, Any]:
    async with storage:
        return {finding.check: finding async for finding in diagnose(storage)}


async def test_doctor_checks_both_buckets(buckets: Buckets) -> None:
    found = await diagnosis_of(buckets.storage())
    assert not [finding for finding in found.values() if finding.outcome is Outcome.FAILED]
    for bucket in (buckets.of_content.bucket, buckets.of_temporary.bucket):
        assert repr(bucket) in found["bucket"].seen
        assert repr(bucket) in found["copy"].seen
    await buckets.check_only()


async def test_doctor_finds_a_missing_temporary_bucket(buckets: Buckets) -> None:
    found = await diagnosis_of(buckets.of_content.storage(**dict.fromkeys(buckets.option, "no-such-bucket")))
    assert isinstance(found["bucket"].error, BucketNotFound)
    assert "no-such-bucket" in str(found["bucket"].error)


async def test_doctor_accepts_content_that_can_not_be_deleted(buckets: Buckets) -> None:
    def is_denied(exchange: Exchange) -> bool:
        return exchange.method == "DELETE" and f"/{buckets.of_content.bucket}/" in exchange.target

    async with scripted_proxy_before(buckets.of_content) as proxy:
        script = proxy.answer(is_denied, status=403, times=100)
        found = await diagnosis_of(buckets.storage())
    assert script.fired
    assert not [finding for finding in found.values() if finding.outcome is Outcome.FAILED]
    assert found["delete"].outcome is Outcome.WARNING
    assert repr(buckets.of_content.bucket) in found["delete"].seen
    assert len(await buckets.of_content.keys()) == 1
    await buckets.of_temporary.check_nothing_left()


@pytest.mark.parametrize(
    "buckets", params(pair for pair in PAIRS if pair.name in ("s3-aws", "gcs-strict")), indirect=True
)
async def test_lifecycle_rules_are_set_in_both_buckets(buckets: Buckets) -> None:
    async with buckets.storage(prefix="p") as storage:
        assert await apply_lifecycle(storage)
        assert not await apply_lifecycle(storage)
    for rig in (buckets.of_content, buckets.of_temporary):
        async with rig.storage(prefix="p") as storage:
            assert not await apply_lifecycle(storage)


async def test_name_of_the_temporary_bucket_passes_the_rules(buckets: Buckets) -> None:
    for name in ("b/sub", "", ".."):
        with pytest.raises(ConfigError, match=next(iter(buckets.option))):
            buckets.of_content.storage(**dict.fromkeys(buckets.option, name))
