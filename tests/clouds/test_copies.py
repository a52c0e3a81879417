"""How many requests a copy of a whole storage costs, counted before a server, and what arrives."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lakery_cloud import MemoryStorage, ObjectStorage, StorageRegistry
from lakery_cloud.maintenance import CopyJob, ShardResult, copy
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.testing import FaultProxy, Rule, content, digest_of, tap
from lakery_cloud.testing.faults import Answer
from tests.conftest import rig_on
from tests.helpers import TAGS, blob, proxy_before
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)

azure_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name == "azure-azurite"))

BLOBS = [content(100, seed=seed) for seed in range(5)]
ASKED_FOR_TAGS = {"s3": 1, "gs": 0, "az": 0}
"""Scheme -> requests for tags if there are none: one, to learn whether the count of tags can be trusted. Listings of the
others have tags."""
DESCRIBED = {"s3": 5, "gs": 0, "az": 0}
"""Scheme -> requests that describe five objects which are not read."""


async def save(storage: ObjectStorage, blobs: Sequence[bytes] = BLOBS, *, tags: Mapping[str, str] = {}) -> None:
    for data in blobs:
        await storage.write_data(data, digest_of(data, content_encoding="gzip"), dict(tags))


async def requests_of(proxy: FaultProxy, job: CopyJob) -> tuple[Counter[str], ShardResult]:
    """Run a job; the requests that arrived, without those that only connect, and the result."""
    proxy.exchanges.clear()
    result = await job.run(EVERYTHING)
    return Counter(exchange.neutral for exchange in proxy.exchanges), result


async def test_new_content_costs_one_read_and_one_put(cloud_rig: CloudRig) -> None:
    scheme = cloud_rig.storage_class.url_scheme
    async with (
        proxy_before(cloud_rig) as proxy,
        cloud_rig.storage(prefix="p") as cloud,
        MemoryStorage() as here,
        MemoryStorage() as there,
    ):
        await save(here)
        asked, result = await requests_of(proxy, CopyJob(here, cloud))
        assert (asked, result.counts["copied"]) == (Counter(list=1, put=5), 5)
        asked, result = await requests_of(proxy, CopyJob(cloud, there))
        assert (asked, result.counts["copied"]) == (Counter(list=1, get=5, tags=ASKED_FOR_TAGS[scheme]), 5)
        assert {each: found.attributes for each, found in there.contents.objects.items()} == {
            each: found.attributes for each, found in here.contents.objects.items()
        }
        asked, result = await requests_of(proxy, CopyJob(cloud, there))
        assert (asked, result.counts["deduplicated"]) == (Counter(list=1), 5)
        asked, result = await requests_of(proxy, CopyJob(cloud, there, reports_all=True))
        assert asked == Counter(list=1, head=DESCRIBED[scheme])
        assert {finding["content_encoding"] for finding in result.findings} == {"gzip"}


async def test_tags_are_asked_for_where_there_are_some(cloud_rig: CloudRig) -> None:
    scheme = cloud_rig.storage_class.url_scheme
    async with proxy_before(cloud_rig) as proxy, cloud_rig.storage() as cloud, MemoryStorage() as there:
        await save(cloud, BLOBS[:3])
        await save(cloud, BLOBS[3:], tags=TAGS)
        asked, _ = await requests_of(proxy, CopyJob(cloud, there))
        assert asked == Counter(list=1, get=5, tags=2 + 1 if scheme == "s3" else 0)
        tagged = {digest_of(data)["content_hash"] for data in BLOBS[3:]}
        assert {each: found.attributes.tags for each, found in there.contents.objects.items()} == {
            each: TAGS if each in tagged else {} for each in there.contents.objects
        }
        asked, _ = await requests_of(proxy, CopyJob(cloud, MemoryStorage(), keep_tags=False))
        assert asked["tags"] == 0


async def test_tags_are_asked_for_one_by_one_where_azure_may_not_list_them(azure_rig: CloudRig) -> None:
    rule = Rule(Answer(403, "AuthorizationPermissionMismatch"), "list", nth=1)
    async with proxy_before(azure_rig, rule) as proxy, azure_rig.storage() as cloud:
        await save(cloud, BLOBS[:3])
        await save(cloud, BLOBS[3:], tags=TAGS)
        for refused in (1, 0):  # it is not asked again
            async with MemoryStorage() as there:
                asked, _ = await requests_of(proxy, CopyJob(cloud, there))
                assert asked == Counter(list=1 + refused, get=5, tags=2 + 1)
                assert sum(found.attributes.tags == TAGS for found in there.contents.objects.values()) == 2


async def test_tags_in_azures_metadata_are_listed_too(azure_rig: CloudRig) -> None:
    async with proxy_before(azure_rig) as proxy, azure_rig.storage(blob_tags=False) as cloud, MemoryStorage() as there:
        await save(cloud, BLOBS[:3])
        await save(cloud, BLOBS[3:], tags=TAGS)
        asked, _ = await requests_of(proxy, CopyJob(cloud, there))
        assert asked == Counter(list=1, get=5)
        assert sum(found.attributes.tags == TAGS for found in there.contents.objects.values()) == 2


async def test_records_are_copied_without_a_second_look_at_their_tags(cloud_rig: CloudRig) -> None:
    scheme = cloud_rig.storage_class.url_scheme
    async with (
        proxy_before(cloud_rig) as proxy,
        cloud_rig.storage() as cloud,
        StorageRegistry([cloud]) as registry,
        MemoryStorage() as there,
    ):
        records = [await registry.save(blob(data), tags=TAGS) for data in BLOBS]
        proxy.exchanges.clear()
        copied = [each async for each in copy(registry, there, records=records)]
        assert [each.outcome for each in copied] == ["copied"] * 5
        asked = Counter(exchange.neutral for exchange in proxy.exchanges)
        assert asked == Counter(get=5, **{"head" if scheme == "gs" else "tags": 5})
        assert all(found.attributes.tags == TAGS for found in there.contents.objects.values())
        proxy.exchanges.clear()
        stat = await cloud.stat(cloud.deserialize_storage_data(records[0].storage_data))
        asked = Counter(exchange.neutral for exchange in proxy.exchanges)
        assert (asked, stat.tags) == (Counter(head=1, tags=0 if scheme == "gs" else 1), TAGS)


async def test_content_of_several_parts_arrives_whole(cloud_rig: CloudRig) -> None:
    data = content(3 * cloud_rig.part_size + 1)
    async with cloud_rig.storage() as cloud, MemoryStorage(part_size=cloud_rig.part_size) as there:
        await save(cloud, [data], tags=TAGS)
        result = await CopyJob(cloud, there).run(EVERYTHING)
        assert result.counts["copied"] == 1
        (found,) = there.contents.objects.values()
        assert (found.data, found.attributes.content_encoding, found.attributes.tags) == (data, "gzip", TAGS)


# Inside the store.


async def test_storages_of_one_store_are_copied_by_the_store(cloud_rig: CloudRig) -> None:
    large = content(3 * cloud_rig.part_size)
    async with (
        proxy_before(cloud_rig) as proxy,
        cloud_rig.storage(prefix="from") as source,
        cloud_rig.storage(prefix="to") as destination,
    ):
        await save(source, [*BLOBS, large], tags=TAGS)
        asked, result = await requests_of(proxy, CopyJob(source, destination))
        assert (asked, result.counts["copied in store"]) == (Counter(list=2, copy=6), 6)
        assert sum(exchange.sent_bytes for exchange in proxy.exchanges) < len(large), "no content passed"
        assert sum(exchange.received_bytes for exchange in proxy.exchanges) < len(large)
        for data in (*BLOBS, large):
            content_hash = digest_of(data)["content_hash"]
            assert await cloud_rig.get(f"to/{content_hash}") == await cloud_rig.get(f"from/{content_hash}")
            assert await cloud_rig.stored_metadata(f"to/{content_hash}")
        asked, result = await requests_of(proxy, CopyJob(source, destination))
        assert (asked, result.counts["deduplicated"]) == (Counter(list=2), 6)
    await cloud_rig.check_nothing_temporary()


async def test_records_of_such_copies_are_complete(cloud_rig: CloudRig) -> None:
    async with (
        cloud_rig.storage(prefix="from") as source,
        cloud_rig.storage(prefix="to") as destination,
        StorageRegistry([source]) as registry,
    ):
        await save(source)
        found = [copied async for copied in copy(registry, destination)]
        for copied in found:
            assert copied.record is not None
            assert copied.record.digest == copied.source.digest
            data = await destination.read_data(destination.deserialize_storage_data(copied.record.storage_data))
            assert copied.source.digest == digest_of(data, content_encoding="gzip")
        assert len(found) == 5


async def test_content_too_large_for_one_copy_is_copied_in_parts(cloud_rig: CloudRig) -> None:
    data, step = content(3 * cloud_rig.part_size), cloud_rig.part_size
    limits = cloud_rig.storage().settings.limits
    if limits.max_copy_size is not None:
        limits = replace(limits, max_copy_size=step, copy_part_size=step)
    async with (
        proxy_before(cloud_rig) as proxy,
        cloud_rig.storage(prefix="from") as source,
        cloud_rig.storage(prefix="to", limits=limits) as destination,
    ):
        await save(source, [data], tags=TAGS)
        asked, result = await requests_of(proxy, CopyJob(source, destination))
        assert (asked["get"], asked["upload_part"], result.counts["copied in store"]) == (0, 0, 1)
        assert asked["copy_part"] == (3 if limits.max_copy_size else 0)
    content_hash = digest_of(data)["content_hash"]
    assert await cloud_rig.get(f"to/{content_hash}") == await cloud_rig.get(f"from/{content_hash}")


async def test_damaged_content_is_found_by_the_checksum_of_the_store_or_by_a_read(cloud_rig: CloudRig) -> None:
    damaged, *right = (digest_of(data)["content_hash"] for data in BLOBS)
    tells_hash = cloud_rig.storage_class.url_scheme == "s3"
    async with cloud_rig.storage(prefix="from") as source, cloud_rig.storage(prefix="to") as destination:
        await save(source)
        await cloud_rig.put(f"from/{damaged}", b"damaged")
        job = CopyJob(source, destination, verify_after=not tells_hash)
        result = await job.run(EVERYTHING)
        assert (result.counts["copied in store"], result.counts["failed"]) == (4, 1)
        (finding,) = result.findings
        assert finding["content_hash"] == damaged
        assert finding["error"].startswith("IntegrityError: the copy at ")
    there = [key for key in await cloud_rig.keys() if key.startswith("to/")]
    assert sorted(there) == sorted(f"to/{each}" for each in right)


async def test_content_is_streamed_where_the_store_may_not_copy_it(cloud_rig: CloudRig) -> None:
    async with (
        proxy_before(cloud_rig, Rule(Answer(403), "copy", times=None)) as proxy,
        cloud_rig.storage(prefix="from") as source,
        cloud_rig.storage(prefix="to") as destination,
    ):
        await save(source, tags=TAGS)
        job = CopyJob(source, destination, at_a_time=1)
        asked, result = await requests_of(proxy, job)
        assert (asked["copy"], asked["get"], asked["put"], result.counts["copied"]) == (1, 5, 5, 5)
        assert "copied in store" not in result.counts
        ((note,),) = [finding.values() for finding in result.findings]
        assert note.startswith("content is copied through this machine, since the store does not copy it: ")
        more = content(100, seed=99)
        await save(source, [more])
        asked, result = await requests_of(proxy, job)
        assert (asked["copy"], asked["put"], result.findings) == (0, 1, []), "it is not refused again"
    for data in (*BLOBS, more):
        content_hash = digest_of(data)["content_hash"]
        assert await cloud_rig.get(f"to/{content_hash}") == await cloud_rig.get(f"from/{content_hash}")


async def test_content_without_its_tags_is_streamed(cloud_rig: CloudRig) -> None:
    async with cloud_rig.storage(prefix="from") as source, cloud_rig.storage(prefix="to") as destination:
        await save(source, tags=TAGS)
        result = await CopyJob(source, destination, keep_tags=False).run(EVERYTHING)
        assert (result.counts["copied"], len(result.findings)) == (5, 1)
        assert "all tags" in result.findings[0]["note"]
    for data in BLOBS:
        found = await cloud_rig.get(f"to/{digest_of(data)['content_hash']}")
        assert found is not None
        assert not found.tags


async def test_what_another_writer_has_made_meanwhile_stays(cloud_rig: CloudRig) -> None:
    (data,) = BLOBS[:1]
    async with (
        cloud_rig.storage(prefix="from") as source,
        cloud_rig.storage(prefix="to") as destination,
        cloud_rig.storage(prefix="to") as other,
    ):
        await save(source, [data])
        tap(destination).before("copy_as_is", lambda: save(other, [data], tags=TAGS))
        result = await CopyJob(source, destination).run(EVERYTHING)
        assert result.counts["copied"] == 1
        assert await other.read_data(other.storage_data_of(digest_of(data))) == data
    found = await cloud_rig.get(f"to/{digest_of(data)['content_hash']}")
    assert found is not None
    assert found.tags == TAGS, "the copy is create-only"
