"""Bytes that change on the way are refused by the store, whatever the algorithm of the content hash is.

`tests/clouds/faults` has the same for SHA-256 on every server, and `tests/stores/test_s3_profiles.py` for S3.
"""

import pytest

from lakery_cloud import DigestingStream, IntegrityError
from lakery_cloud.testing import Rule, content, digest_of
from lakery_cloud.testing.faults import FlipRequestByte
from tests.helpers import blob_stream, proxy_before
from tests.rigs.base import CloudRig
from tests.rigs.pairs import params_of


@pytest.mark.case("58")
@pytest.mark.parametrize("cloud_rig", params_of("gcs-strict", "azure-azurite"), indirect=True)
@pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])
@pytest.mark.parametrize("algorithm", ["sha512", "blake2b", "md5"])
@pytest.mark.parametrize("kind", ["blob", "stream of one part", "stream of parts"])
async def test_damage_is_refused_with_any_hash_algorithm(
    cloud_rig: CloudRig, kind: str, algorithm: str, fast_lane: bool
) -> None:
    data = content(cloud_rig.part_size + 1 if kind == "stream of parts" else 10_000)
    rule = Rule(FlipRequestByte(5000), "upload_part" if kind == "stream of parts" else "put")
    async with proxy_before(cloud_rig, rule) as proxy, cloud_rig.storage(fast_lane=fast_lane) as storage:
        with pytest.raises(IntegrityError):
            if kind == "blob":
                await storage.write_data(data, digest_of(data, algorithm=algorithm), {})
            else:
                stream = DigestingStream(blob_stream([data]), algorithm=algorithm)
                await storage.write_data_stream(stream, stream.get_digest, {})
        assert [exchange for exchange in proxy.exchanges if exchange.fault]
    await cloud_rig.check_nothing_left()
