"""How many requests a copy of a whole storage costs, counted before a server, and what arrives."""

from collections import Counter
from collections.abc import Mapping, Sequence

from lakery_cloud import MemoryStorage, ObjectStorage
from lakery_cloud.maintenance import CopyJob, ShardResult
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.testing import FaultProxy, content, digest_of
from tests.conftest import rig_on
from tests.helpers import TAGS, proxy_before
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)

BLOBS = [content(100, seed=seed) for seed in range(5)]
ASKED_FOR_TAGS = {"s3": 1, "gs": 0, "az": 1}
"""Scheme -> requests for tags if there are none: one, to learn whether the count of tags can be trusted."""
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
        assert asked["tags"] == (0 if scheme == "gs" else 2 + 1)
        tagged = {digest_of(data)["content_hash"] for data in BLOBS[3:]}
        assert {each: found.attributes.tags for each, found in there.contents.objects.items()} == {
            each: TAGS if each in tagged else {} for each in there.contents.objects
        }
        asked, _ = await requests_of(proxy, CopyJob(cloud, MemoryStorage(), keep_tags=False))
        assert asked["tags"] == 0


async def test_content_of_several_parts_arrives_whole(cloud_rig: CloudRig) -> None:
    data = content(3 * cloud_rig.part_size + 1)
    async with cloud_rig.storage() as cloud, MemoryStorage(part_size=cloud_rig.part_size) as there:
        await save(cloud, [data], tags=TAGS)
        result = await CopyJob(cloud, there).run(EVERYTHING)
        assert result.counts["copied"] == 1
        (found,) = there.contents.objects.values()
        assert (found.data, found.attributes.content_encoding, found.attributes.tags) == (data, "gzip", TAGS)
