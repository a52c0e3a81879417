"""The time that copies inside the store have on Azure."""

import pytest

from lakery_cloud import StorageUnavailable
from lakery_cloud.providers.azure.settings import GiB
from lakery_cloud.testing import Rule, content
from lakery_cloud.testing.faults import Delay
from tests.helpers import proxy_before, write_stream
from tests.rigs.azure import AzureRig

pytestmark = pytest.mark.case("57")

SLOW_COPY = Rule(Delay(2), "copy", times=None)


@pytest.mark.parametrize(("seconds", "is_enough"), [(30, True), (0.001, False)])
async def test_copies_have_the_time_of_the_setting(azure_rig: AzureRig, seconds: float, is_enough: bool) -> None:
    data = content(2 * azure_rig.part_size)
    async with proxy_before(azure_rig, SLOW_COPY):
        options = {"read_timeout": 1, "max_attempts": 1, "copy_timeout": seconds * GiB / len(data)}
        async with azure_rig.storage(**options) as storage:
            if is_enough:
                assert await storage.read_data(await write_stream(storage, data)) == data
            else:
                with pytest.raises(StorageUnavailable):
                    await write_stream(storage, data)
    await azure_rig.check_nothing_temporary()
