"""lakery-cloud itself on Cloud Storage."""

from typing import Any, ClassVar

from benchmarks.peers.base import Target
from benchmarks.peers.s3_lakery_cloud import LakeryCloud, made
from lakery_cloud import GCSStorage


class LakeryCloudGCS(LakeryCloud):
    """`GCSStorage` with its defaults."""

    sends = "SHA-256, CRC-32C, create-only insert"
    streams = "SHA-256, CRC-32C, temporary object by resumable upload, moved; one insert if it fits"
    place = "blob"

    def _make(self, target: Target) -> Any:
        return made(GCSStorage, target, endpoint_url=target.url, token="anon", **self.options)  # noqa: S106, it is none


class Composite(LakeryCloudGCS):
    """Parts side by side, as obstore sends them; off by default, since each is charged."""

    sends = "SHA-256, CRC-32C, create-only compose"
    streams = "SHA-256, CRC-32C, an object each part, composed to the content key"
    options: ClassVar = {"composite_uploads": True}


class WithoutHotRequests(LakeryCloudGCS):
    """All requests sent by the SDK."""

    options: ClassVar = {"fast_lane": False}
