"""Pairs of storages and stores that fail some or all requests, and the tests of the suite that run on them."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Self

from lakery_cloud.testing import GCS_PROFILES, S3_PROFILES
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig
from tests.rigs.gcs_double import GCSDoubleRig
from tests.rigs.pairs import NO_LIST_OF_SESSIONS, Pair
from tests.rigs.s3_double import S3DoubleRig

_LISTINGS = frozenset(
    {
        "test_stat_and_list_and_find_tell_what_is_stored",
        "test_sweep_aborts_unfinished_uploads",
        "test_sweep_removes_old_temporary_objects_and_nothing_else",
        "test_verify_finds_what_is_not_what_its_key_says",
    }
)
TESTS_OF_FAILING_STORES: frozenset[str] = _LISTINGS | {
    "test_attributes_are_equal_after_a_put_and_after_a_stream",
    "test_blob_past_the_limit_of_one_request_goes_in_parts",
    "test_blob_with_another_hash_is_refused",
    "test_cancelled_before_the_copy_leaves_nothing",
    "test_cancelled_stream_leaves_nothing",
    "test_copy_past_the_limit_of_one_request_goes_in_parts",
    "test_damaged_content_is_an_integrity_error",
    "test_deleting_what_is_not_there_is_fine",
    "test_empty_blob_and_empty_stream",
    "test_encoded_content_comes_back_as_it_was_stored",
    "test_error_of_the_source_comes_out_and_nothing_is_left",
    "test_failed_write_leaves_what_was_there",
    "test_missing_bucket_is_bucket_not_found",
    "test_missing_object_is_no_storage_data",
    "test_nobody_sees_the_content_key_before_it_is_whole",
    "test_ranges_read_ahead_come_in_order",
    "test_same_blob_twice_is_one_object",
    "test_same_stream_twice_is_one_object",
    "test_something_else_at_the_content_key_is_an_error_and_stays",
    "test_stream_that_is_not_what_its_digest_says_is_refused",
}
"""Tests of requests. The others send none, show the same with other content, or end while writes still run."""
_OF_EARLY_ENDS = frozenset(
    {
        "test_cancelled_before_the_copy_leaves_nothing",
        "test_cancelled_stream_leaves_nothing",
        "test_error_of_the_source_comes_out_and_nothing_is_left",
        "test_stream_that_is_not_what_its_digest_says_is_refused",
    }
)
"""They run where the beginning of an upload succeeds and its end does not; elsewhere they show the same as writes."""


class _SmallPages(CloudRig):
    """Mixin: listings have two entries a page."""

    _double: Any

    async def __aenter__(self) -> Self:
        self._double.page_size = 2
        return await super().__aenter__()  # type: ignore[safe-super]

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)  # type: ignore[safe-super]
        self._double.page_size = PAGE_SIZE


class _S3Rig(_SmallPages, S3DoubleRig):
    pass


class _GCSRig(_SmallPages, GCSDoubleRig):
    async def _bucket_uploads(self) -> AsyncGenerator[str]:
        if "location" in self._profile.missing:  # nobody can cancel a session without its URL; it ends by itself
            return
        async for key in super()._bucket_uploads():
            yield key


class _AzureRig(AzureRig):
    async def _bucket_uploads(self) -> AsyncGenerator[str]:
        assert self._double is not None
        if "delete_blob" in self._double.profile.invents:  # nobody can discard the blocks; Azure does after a week
            return
        async for key in super()._bucket_uploads():
            yield key


PAGE_SIZE = 1000
"""The doubles' own."""


_SWEPT = "test_sweep_removes_old_temporary_objects_and_nothing_else"
_UPLOADS = "test_sweep_aborts_unfinished_uploads"
_ARCHIVED = frozenset(
    {
        "test_attributes_are_equal_after_a_put_and_after_a_stream",
        "test_damaged_content_is_an_integrity_error",
        "test_empty_blob_and_empty_stream",
        "test_encoded_content_comes_back_as_it_was_stored",
        "test_missing_object_is_no_storage_data",
        "test_ranges_read_ahead_come_in_order",
        "test_same_stream_twice_is_one_object",
        "test_stat_and_list_and_find_tell_what_is_stored",
    }
)
"""Tests of reads, and of streams, whose temporary objects may be archived, too. The rest succeeds as elsewhere."""
_CANNOT: Mapping[str, Mapping[str, str]] = {
    "s3-stripping": {_UPLOADS: "the test itself begins the upload, which no ETag completes"},
    "gcs-stripping": {_SWEPT: "deletions succeed as elsewhere"},
    "azure-same-marker": {_UPLOADS: "the test itself begins the upload, and only a listing finds it"},
    "gcs-google-policy": {
        "test_something_else_at_the_content_key_is_an_error_and_stays": "the policy refuses the object of the test, too"
    },
}
"""Pair -> test -> why it does not run there."""


_ENDS_LATE = {("s3", "gateway"), ("gcs", "google-policy")}


def _failing(cloud: str, source: str, make: Callable[[str], Callable[[Any], Any]], *names: str) -> list[Pair]:
    pairs = []
    for name in names:
        cannot = {**_CANNOT.get(f"{cloud}-{name}", {}), **(NO_LIST_OF_SESSIONS if cloud == "gcs" else {})}
        tests = TESTS_OF_FAILING_STORES if (cloud, name) in _ENDS_LATE else TESTS_OF_FAILING_STORES - _OF_EARLY_ENDS
        tests = _LISTINGS if name in ("same-token", "no-token", "same-marker") else tests
        tests = _ARCHIVED if name.endswith("archive") else tests
        pairs.append(Pair(f"{cloud}-{name}", make(name), source, cannot, tests.difference(cannot)))
    return pairs


FAILING_PAIRS = (
    *_failing(
        "s3",
        "strict_s3",
        lambda name: lambda double: _S3Rig(S3_PROFILES[name], double),
        *("gateway", "portal", "stripping", "aws-archive", "same-token", "no-token"),
    ),
    *_failing(
        "gcs",
        "strict_gcs",
        lambda name: lambda double: _GCSRig(GCS_PROFILES[name], double),
        *("gateway", "portal", "redirecting", "stripping", "google-policy", "same-token"),
    ),
    *_failing(
        "azure",
        "azure_doubles",
        lambda name: lambda doubles: _AzureRig(f"AzureDouble as {name}", double=doubles(name)),
        *("gateway", "portal", "archive", "same-marker"),
    ),
)
SAVE_NOTHING = frozenset(
    {
        *("s3-gateway", "s3-portal", "azure-gateway", "azure-portal"),
        *("gcs-gateway", "gcs-portal", "gcs-redirecting", "gcs-google-policy"),
    }
)
"""Names of the pairs whose stores never store anything."""
