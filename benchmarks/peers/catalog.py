"""All compared clients: their APIs and environments."""

import importlib
from dataclasses import dataclass
from typing import cast

from benchmarks.peers.base import Peer


@dataclass(frozen=True)
class Entry:
    """A client.

    Attributes:
        name: Its name in options, tables and plots.
        api: Its API.
        place: Its class, as `module:class` in this package.
        package: The distribution whose version is shown.
        environment: Name of its constraint file; None is the environment that lakery-cloud itself runs in.
        only: Names of its workloads; empty for all.
    """

    name: str
    api: str
    place: str
    package: str
    environment: str | None = None
    only: tuple[str, ...] = ()

    def load(self) -> type[Peer]:
        """Import the library, and return the class."""
        module, _, name = self.place.partition(":")
        return cast("type[Peer]", getattr(importlib.import_module(f"benchmarks.peers.{module}"), name))


OURS = "lakery-cloud"
LOOP_ALONE = "loop-alone"
LOOP_AND_HASH = "loop-alone-hashed"
LOOP_TEMPORARY = "loop-alone-temporary"
LOOP_BLOCKS = "loop-alone-blocks"
HASH_ALONE = "sha256-alone"
NO_CLIENTS = (LOOP_ALONE, LOOP_AND_HASH, LOOP_TEMPORARY, LOOP_BLOCKS, HASH_ALONE)
"""They show limits."""
BEFORE = "lakery-cloud-before"

LARGE = ("write-256", "write-file", "read-256")

PEERS = (
    Entry(OURS, "s3", "s3_lakery_cloud:LakeryCloud", "lakery-cloud"),
    Entry(f"{OURS}-sdk", "s3", "s3_lakery_cloud:WithoutHotRequests", "lakery-cloud"),
    Entry(f"{OURS}-ranges", "s3", "s3_lakery_cloud:InRanges", "lakery-cloud", only=("read-256",)),
    Entry(f"{OURS}-registry", "s3", "s3_lakery_cloud:ByRegistry", "lakery-cloud", only=("puts",)),
    Entry(f"{OURS}-digest", "s3", "s3_lakery_cloud:WithDigest", "lakery-cloud", only=("write-256",)),
    Entry(f"{OURS}-no-digest", "s3", "s3_lakery_cloud:WithoutDigest", "lakery-cloud", only=("write-file",)),
    Entry("labox", "s3", "s3_labox:Labox", "labox", "labox"),
    Entry("boto3", "s3", "s3_boto3:Boto3", "boto3", "boto3"),
    Entry("boto3-managed", "s3", "s3_boto3:ManagedBoto3", "boto3", "boto3", only=("read-256",)),
    Entry("s3transfer-crt", "s3", "s3_transfer_crt:S3TransferCRT", "s3transfer", "s3transfer-crt", only=LARGE),
    Entry("s3fs", "s3", "s3_s3fs:S3FS", "s3fs", "s3fs"),
    Entry("aioboto3", "s3", "s3_aioboto3:Aioboto3", "aioboto3"),
    Entry("aioboto3-tuned", "s3", "s3_aioboto3:TunedAioboto3", "aioboto3"),
    Entry("awscrt", "s3", "s3_awscrt:AwsCrt", "awscrt", "awscrt"),
    Entry("obstore", "s3", "obstore_stores:Obstore", "obstore", "obstore"),
    Entry("obstore-ranges", "s3", "obstore_stores:InRanges", "obstore", "obstore", only=("read-256",)),
    Entry("opendal", "s3", "s3_opendal:OpenDAL", "opendal", "opendal"),
    Entry("signed-by-hand", "s3", "s3_signed:SignedByHand", "aiohttp"),
    Entry(
        LOOP_ALONE,
        "s3",
        "loop_alone:OnS3",
        "lakery-cloud",
        only=("puts", "gets", "hits", "write", "write-256", "write-file", "read"),
    ),
    Entry(
        LOOP_AND_HASH,
        "s3",
        "loop_alone:HashedOnS3",
        "lakery-cloud",
        only=("write", "write-256", "write-file", "read-verified"),
    ),
    Entry(LOOP_TEMPORARY, "s3", "loop_temporary:PromotedOnS3", "lakery-cloud", only=("write-256", "write-file")),
    Entry(HASH_ALONE, "s3", "sha256_alone:SHA256Alone", "lakery-cloud", only=("read-verified",)),
    Entry(OURS, "start", "starts:LakeryCloudStarts", "lakery-cloud"),
    Entry(BEFORE, "start", "starts:LakeryCloudBefore", "lakery-cloud", only=("help", "put-to-folder")),
    Entry("boto3", "start", "starts:Boto3Starts", "boto3", "boto3", only=("first-put",)),
    Entry("aioboto3", "start", "starts:Aioboto3Starts", "aioboto3", only=("first-put",)),
    Entry("s3fs", "start", "starts:S3FSStarts", "s3fs", "s3fs", only=("first-put",)),
    Entry("obstore", "start", "starts:ObstoreStarts", "obstore", "obstore", only=("first-put",)),
    Entry(OURS, "gcs", "gcs_lakery_cloud:LakeryCloudGCS", "lakery-cloud"),
    Entry(f"{OURS}-composite", "gcs", "gcs_lakery_cloud:Composite", "lakery-cloud", only=("write-256",)),
    Entry(f"{OURS}-sdk", "gcs", "gcs_lakery_cloud:WithoutHotRequests", "lakery-cloud"),
    Entry(LOOP_ALONE, "gcs", "loop_alone:OnGCS", "lakery-cloud", only=("puts", "gets")),
    Entry(LOOP_TEMPORARY, "gcs", "loop_temporary:PromotedOnGCS", "lakery-cloud", only=("write-256",)),
    Entry("gcsfs", "gcs", "gcs_gcsfs:GCSFS", "gcsfs"),
    Entry("google-cloud-storage", "gcs", "gcs_google:GoogleCloudStorage", "google-cloud-storage"),
    Entry(
        "transfer-manager", "gcs", "gcs_google:TransferManager", "google-cloud-storage", only=("write-file", "read-256")
    ),
    Entry("gcloud-aio-storage", "gcs", "gcs_gcloud_aio:GcloudAio", "gcloud-aio-storage", "gcloud-aio"),
    Entry("obstore", "gcs", "obstore_stores:ObstoreGCS", "obstore", "obstore"),
    Entry(OURS, "start-gcs", "starts:LakeryCloudOnGCSStarts", "lakery-cloud"),
    Entry("gcsfs", "start-gcs", "starts:GCSFSStarts", "gcsfs"),
    Entry("google-cloud-storage", "start-gcs", "starts:GoogleCloudStorageStarts", "google-cloud-storage"),
    Entry("obstore", "start-gcs", "starts:ObstoreOnGCSStarts", "obstore", "obstore"),
    Entry(OURS, "azure", "azure_lakery_cloud:LakeryCloudAzure", "lakery-cloud"),
    Entry(f"{OURS}-blocks", "azure", "azure_lakery_cloud:CopiedInBlocks", "lakery-cloud", only=("write-256",)),
    Entry(f"{OURS}-sdk", "azure", "azure_lakery_cloud:WithoutHotRequests", "lakery-cloud"),
    Entry(LOOP_ALONE, "azure", "loop_alone:OnAzure", "lakery-cloud", only=("puts", "gets", "streams")),
    Entry(LOOP_TEMPORARY, "azure", "loop_temporary:PromotedOnAzure", "lakery-cloud", only=("write-256",)),
    Entry(LOOP_BLOCKS, "azure", "loop_temporary:PromotedInBlocks", "lakery-cloud", only=("write-256",)),
    Entry("adlfs", "azure", "azure_adlfs:ADLFS", "adlfs"),
    Entry("azure-storage-blob", "azure", "azure_sdk:AzureStorageBlob", "azure-storage-blob"),
    Entry("azure-storage-blob-32", "azure", "azure_sdk:LikeAzCopy", "azure-storage-blob", only=LARGE),
    Entry("obstore", "azure", "obstore_stores:ObstoreAzure", "obstore", "obstore"),
    Entry(OURS, "start-azure", "starts:LakeryCloudOnAzureStarts", "lakery-cloud"),
    Entry("adlfs", "start-azure", "starts:ADLFSStarts", "adlfs"),
    Entry("azure-storage-blob", "start-azure", "starts:AzureStorageBlobStarts", "azure-storage-blob"),
    Entry("obstore", "start-azure", "starts:ObstoreOnAzureStarts", "obstore", "obstore"),
)


def peers_of(api: str, workload: str) -> list[Entry]:
    """Return the clients of an API that do a workload, ours first."""
    return [entry for entry in PEERS if entry.api == api and (not entry.only or workload in entry.only)]
