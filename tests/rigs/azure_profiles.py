"""The pairs of `AzureBlobStorage` and the profiles of the double of its accounts."""

from collections.abc import Mapping

from tests.rigs.azure import AzureRig
from tests.rigs.base import BY_THE_SDK_ALONE
from tests.rigs.pairs import Pair

_STREAMS = frozenset(
    {
        "test_blob_past_the_limit_of_one_request_goes_in_parts",
        "test_cancelled_after_the_copy_leaves_the_content_alone",
        "test_cancelled_before_the_copy_leaves_nothing",
        "test_cancelled_stream_leaves_nothing",
        "test_error_of_the_source_comes_out_and_nothing_is_left",
        "test_failed_write_leaves_what_was_there",
        "test_second_write_of_a_stream_copies_nothing",
        "test_stream_of_about_one_part",
        "test_stream_that_is_not_what_its_digest_says_is_refused",
        "test_sweep_removes_old_temporary_objects_and_nothing_else",
    }
)
"""Tests whose outcome depends on what a deletion leaves."""
_BLOBS = frozenset(
    {
        "test_blob_that_is_not_what_its_digest_says_is_refused",
        "test_same_blob_twice_is_one_object",
        "test_sixteen_writers_of_one_blob_all_succeed",
        "test_something_else_at_the_content_key_is_an_error_and_stays",
    }
)
_READS = frozenset(
    {
        "test_blobs_read_as_streams_and_streams_as_blobs",
        "test_encoded_content_comes_back_as_it_was_stored",
        "test_missing_object_is_no_storage_data",
        "test_ranges_read_ahead_come_in_order",
        "test_slow_reader_holds_no_more_than_the_ranges_ahead",
        "test_stat_and_list_and_find_tell_what_is_stored",
    }
)
_WHOLE_READS = ("test_blobs_read_as_streams_and_streams_as_blobs", "test_encoded_content_comes_back_as_it_was_stored")
_AFTER_THE_COMMIT = frozenset(
    {
        "test_blob_past_the_limit_of_one_request_goes_in_parts",
        "test_cancelled_after_the_copy_leaves_the_content_alone",
        "test_cancelled_before_the_copy_leaves_nothing",
        "test_cancelled_stream_leaves_nothing",
        "test_failed_write_leaves_what_was_there",
        "test_second_write_of_a_stream_copies_nothing",
        "test_stream_of_about_one_part",
        "test_sweep_removes_old_temporary_objects_and_nothing_else",
    }
)
"""Tests that delete a committed blob."""


def _azure_pair(name: str, only: frozenset[str], cannot: Mapping[str, str]) -> Pair:
    rig = f"AzureDouble as {name}"
    return Pair(f"azure-{name}", lambda doubles: AzureRig(rig, double=doubles(name)), "azure_doubles", cannot, only)


NO_CONTENT_RANGE = "it sends no Content-Range, so that reads are of whole blobs"
# Accounts of Azure as people have them; for the conformance suite alone. `tests/stores` has the cases of each.
AZURE_PROFILE_PAIRS = (
    _azure_pair("versioned", _STREAMS, {}),
    _azure_pair("immutable", _STREAMS | _BLOBS, dict.fromkeys(_AFTER_THE_COMMIT, "retention keeps committed blobs")),
    _azure_pair(
        "sas-without-delete",
        _STREAMS | _BLOBS,
        dict.fromkeys(
            _AFTER_THE_COMMIT
            | {
                "test_stream_that_is_not_what_its_digest_says_is_refused",
                "test_something_else_at_the_content_key_is_an_error_and_stays",
            },
            "it may delete neither committed blobs nor blocks",
        ),
    ),
    _azure_pair(
        "cdn",
        _READS,
        dict.fromkeys(
            ("test_ranges_read_ahead_come_in_order", "test_slow_reader_holds_no_more_than_the_ranges_ahead"),
            NO_CONTENT_RANGE,
        )
        | (dict.fromkeys(_WHOLE_READS, "the SDK reads no body without Content-Range") if BY_THE_SDK_ALONE else {}),
    ),
    _azure_pair("throttling", _READS | _BLOBS, {}),
)
AZURE_NOT_IN_THE_SUITE = {
    "azure": "it differs from Azurite only in how blocks are discarded",
    "legal-hold": "it differs from immutable only in the code of refusals",
    "no-crc64": "it differs from azure only in the checksum of puts and blocks",
    "soft-delete": "it differs from versioned only in one more request of a deletion",
    "slow-copy": "it differs from azure only in the duration of copies",
    "weak-etags": "it differs from azure only in ETags",
}
"""Profile of Azure -> why it has no pair, here or among the failing stores. `tests/stores` has its cases."""
