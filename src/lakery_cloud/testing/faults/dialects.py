"""The dialects that a fault proxy knows, and how it tells them apart."""

from collections.abc import Mapping

from lakery_cloud.testing.faults.dialect import Dialect, Request
from lakery_cloud.testing.faults.dialects_azure import AZURE, is_azure_request
from lakery_cloud.testing.faults.dialects_gcs import GCS, is_gcs_request
from lakery_cloud.testing.faults.dialects_s3 import S3

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (S3, GCS, AZURE)}
"""Every dialect by its name."""


def dialect_of(request: Request) -> Dialect:
    """Tell which API a request speaks. A request that has no mark of Azure or Cloud Storage speaks S3."""
    if is_azure_request(request):
        return AZURE
    return GCS if is_gcs_request(request) else S3
