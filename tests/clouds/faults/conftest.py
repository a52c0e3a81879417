"""The servers and the proxy of the tests with faults."""

import gc
from collections.abc import AsyncIterator

import pytest

from lakery_cloud.testing import FaultProxy
from tests.clouds.faults.works import SERVERS
from tests.conftest import rig_on
from tests.helpers import proxy_before
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig

cloud_rig = rig_on(*SERVERS)


@pytest.fixture
async def proxy(cloud_rig: CloudRig) -> AsyncIterator[FaultProxy]:
    """A proxy between the rig's storages and its server; the rig itself goes around it."""
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")
    async with proxy_before(cloud_rig) as proxy:
        yield proxy
    if isinstance(cloud_rig, AzureRig):
        gc.collect()  # so that it warns in none of the tests after this one
