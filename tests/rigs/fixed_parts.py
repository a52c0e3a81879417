"""Pairs of storages whose parts at a time do not grow, on one server of each cloud; for the conformance suite alone."""

from lakery_cloud.streams.pace import FIRST_PARTS
from lakery_cloud.testing import S3_PROFILES
from tests.rigs.azure import AzureRig
from tests.rigs.gcs import GCSRig
from tests.rigs.pairs import BLOCKS_STAY, NO_LARGE_COPIES, Pair
from tests.rigs.s3_double import S3DoubleRig

_STREAMS = frozenset(
    {
        "test_attributes_are_equal_after_a_put_and_after_a_stream",
        "test_blob_past_the_limit_of_one_request_goes_in_parts",
        "test_cancelled_at_random_moments_leaves_nothing_partial",
        "test_cancelled_before_the_copy_leaves_nothing",
        "test_cancelled_known_stream_leaves_the_content_or_nothing",
        "test_copy_past_the_limit_of_one_request_goes_in_parts",
        "test_error_of_the_source_comes_out_and_nothing_is_left",
        "test_error_of_the_source_of_a_known_stream_leaves_nothing",
        "test_known_stream_is_stored_with_its_attributes",
        "test_part_size_grows_before_the_parts_run_out",
        "test_ragged_chunks",
        "test_same_stream_twice_is_one_object",
        "test_stream_that_is_not_what_its_digest_says_is_refused",
        "test_stream_with_another_digest_than_the_known_one_is_refused_before_its_end_is_sent",
        "test_writers_of_one_known_stream_all_succeed",
    }
)
"""Tests of streams and copies in parts that set no number of parts themselves."""

FIXED_PARTS_PAIRS = (
    Pair(
        "s3-fixed-parts",
        lambda double: S3DoubleRig(S3_PROFILES["aws"], double, max_concurrent_parts=FIRST_PARTS),
        "strict_s3",
        only=_STREAMS,
    ),
    Pair(
        "gcs-fixed-parts",
        # Other uploads send one part at a time.
        lambda double: GCSRig(
            "StrictGCS", double.url, double=double, composite_uploads="true", max_concurrent_parts=FIRST_PARTS
        ),
        "strict_gcs",
        NO_LARGE_COPIES,
        _STREAMS,
    ),
    Pair(
        "azure-fixed-parts",
        lambda server: AzureRig("Azurite", server, max_concurrent_parts=FIRST_PARTS),
        "azurite",
        BLOCKS_STAY,
        _STREAMS,
    ),
)
