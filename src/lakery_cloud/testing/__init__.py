"""What tests of storages need, shipped for third parties too: the conformance suite, a wire tap, proxies that make faults.

It needs pytest and pytest-asyncio: `pip install "lakery-cloud[test]"`.
"""

from lakery_cloud.testing.conformance import StorageConformance
from lakery_cloud.testing.content import chunked, content, digest_of, stream_of
from lakery_cloud.testing.exchange import Exchange
from lakery_cloud.testing.faults import FaultNotFired, FaultProxy, Rule
from lakery_cloud.testing.gcs_double import StrictGCS
from lakery_cloud.testing.proxy import ScriptedProxy
from lakery_cloud.testing.rig import RawObject, Rig
from lakery_cloud.testing.wire import Wire, tap

__all__ = [
    "Exchange",
    "FaultNotFired",
    "FaultProxy",
    "RawObject",
    "Rig",
    "Rule",
    "ScriptedProxy",
    "StorageConformance",
    "StrictGCS",
    "Wire",
    "chunked",
    "content",
    "digest_of",
    "stream_of",
    "tap",
]
