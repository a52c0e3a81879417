"""What tests of storages need, shipped for third parties too: the conformance suite, a wire tap, a scripted proxy.

It needs pytest and pytest-asyncio: `pip install "lakery-cloud[test]"`.
"""

from lakery_cloud.testing.conformance import StorageConformance
from lakery_cloud.testing.content import chunked, content, digest_of, stream_of
from lakery_cloud.testing.gcs_double import StrictGCS
from lakery_cloud.testing.proxy import Exchange, ScriptedProxy
from lakery_cloud.testing.rig import RawObject, Rig
from lakery_cloud.testing.wire import Wire, tap

__all__ = [
    "Exchange",
    "RawObject",
    "Rig",
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
