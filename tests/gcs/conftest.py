"""A strict server of Cloud Storage, and a proxy before it."""

from collections.abc import AsyncIterator

import pytest

from lakery_cloud.testing import ScriptedProxy, StrictGCS
from tests.helpers import scripted_proxy_before
from tests.rigs.gcs import GCSRig


@pytest.fixture
async def proxy(strict_rig: GCSRig) -> AsyncIterator[ScriptedProxy]:
    async with scripted_proxy_before(strict_rig) as proxy:
        yield proxy


@pytest.fixture
def double(strict_rig: GCSRig) -> StrictGCS:
    assert strict_rig.double is not None
    return strict_rig.double
