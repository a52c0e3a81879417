"""docs/stores.md: how stores differ, and what lakery-cloud does about it, from the profiles of the doubles."""

from collections.abc import Iterator

from lakery_cloud.testing import AZURE_PROFILES, GCS_PROFILES, S3_PROFILES
from lakery_cloud.testing.doubles.s3_profiles import Difference
from tools.tables import code, table

HEAD = """\
# Stores

Stores differ from what their API promises, and buckets differ by their options. This page lists what lakery-cloud does in
each case, or what you can do. `make pages` generates it from the profiles of the [test doubles](testing.md), which behave
like these stores; the conformance suite runs on them. [The doctor](doctor.md) finds the differences of your own bucket.

A feature is a header, an operation, or a field of the profile.
"""
CLOUDS = (
    ("S3 and stores with its API", S3_PROFILES),
    ("Google Cloud Storage", GCS_PROFILES),
    ("Azure Blob Storage", AZURE_PROFILES),
)


def stores_page() -> str:
    """The page."""
    return "\n".join(_page())


def _page() -> Iterator[str]:
    yield HEAD
    header = ("store and profile", "feature", "of the store", "what lakery-cloud does, or you can do", "source")
    for title, profiles in CLOUDS:
        yield f"## {title}\n"
        rows = (
            (f"{profile.title} ({code(profile.name)})", *_cells(difference))
            for profile in profiles.values()
            for difference in profile.differences
        )
        yield from table(header, rows)


def _cells(difference: Difference) -> tuple[str, ...]:
    value = "yes" if difference.value == "True" else difference.value
    return code(difference.feature), value, difference.consequence, difference.source
