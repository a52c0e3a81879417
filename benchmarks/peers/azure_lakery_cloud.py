"""lakery-cloud itself on Blob Storage."""

from typing import Any, ClassVar

from benchmarks.peers.azure_account import connection_string
from benchmarks.peers.base import Target
from benchmarks.peers.s3_lakery_cloud import LakeryCloud, made
from lakery_cloud import AzureBlobStorage


class LakeryCloudAzure(LakeryCloud):
    """`AzureBlobStorage` with its defaults."""

    sends = "SHA-256, CRC64, create-only put"
    streams = "SHA-256, CRC64, temporary blob of 5 MiB blocks, copy by one request; one put if it fits"
    place = "blob"
    bucket = "container"

    def _make(self, target: Target) -> Any:
        return made(AzureBlobStorage, target, connection_string=connection_string(target.url), **self.options)


class CopiedInBlocks(LakeryCloudAzure):
    """Copies in blocks at the same time; off by default up to 5,000 MiB, since a failed one leaves invisible blocks."""

    streams = "SHA-256, CRC64, temporary blob of 5 MiB blocks, copied in blocks of 16 MiB"
    options: ClassVar = {"copy_threshold": 64 * 1024**2}


class WithoutHotRequests(LakeryCloudAzure):
    """All requests sent by the SDK."""

    reads = "4 MiB ranges one by one"
    options: ClassVar = {"fast_lane": False}
