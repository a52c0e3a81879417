"""The pairs of `S3Storage` and the profiles of the strict double of S3."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lakery_cloud.testing import S3_PROFILES
from tests.rigs.base import BY_THE_SDK_ALONE
from tests.rigs.pairs import Pair
from tests.rigs.s3_double import S3DoubleRig

_WRITES = frozenset(
    {
        "test_attributes_are_equal_after_a_put_and_after_a_stream",
        "test_blob_past_the_limit_of_one_request_goes_in_parts",
        "test_copy_past_the_limit_of_one_request_goes_in_parts",
        "test_empty_blob_and_empty_stream",
        "test_failed_write_leaves_what_was_there",
        "test_same_blob_twice_is_one_object",
        "test_same_stream_twice_is_one_object",
        "test_second_write_of_a_stream_copies_nothing",
        "test_sixteen_writers_of_one_blob_all_succeed",
        "test_sixteen_writers_of_one_stream_all_succeed",
        "test_something_else_at_the_content_key_is_an_error_and_stays",
    }
)
_CLEAN_UPS = frozenset(
    {
        "test_cancelled_after_the_copy_leaves_the_content_alone",
        "test_cancelled_before_the_copy_leaves_nothing",
        "test_cancelled_copy_in_parts_leaves_nothing",
        "test_cancelled_stream_leaves_nothing",
        "test_deleting_what_is_not_there_is_fine",
        "test_error_of_the_source_comes_out_and_nothing_is_left",
        "test_sweep_aborts_unfinished_uploads",
        "test_sweep_removes_old_temporary_objects_and_nothing_else",
    }
)
_READS = frozenset(
    {
        "test_encoded_content_comes_back_as_it_was_stored",
        "test_missing_bucket_is_bucket_not_found",
        "test_missing_object_is_no_storage_data",
        "test_ranges_read_ahead_come_in_order",
        "test_stat_and_list_and_find_tell_what_is_stored",
        "test_tags_at_the_edge_of_the_rule_are_kept",
        "test_verify_finds_what_is_not_what_its_key_says",
    }
)
_DAMAGE = frozenset(
    {
        "test_blob_that_is_not_what_its_digest_says_is_refused",
        "test_blob_with_another_hash_is_refused",
        "test_damaged_content_is_an_integrity_error",
        "test_stream_that_is_not_what_its_digest_says_is_refused",
    }
)
_GROWING_PARTS = "test_part_size_grows_before_the_parts_run_out"
_ALL = _WRITES | _CLEAN_UPS | _READS


def _without_tags(store: str) -> Mapping[str, str]:
    return dict.fromkeys(
        (
            "test_attributes_are_equal_after_a_put_and_after_a_stream",
            "test_copy_past_the_limit_of_one_request_goes_in_parts",
            "test_stat_and_list_and_find_tell_what_is_stored",
            "test_tags_at_the_edge_of_the_rule_are_kept",
        ),
        f"{store} has no tags",
    )


def _s3_pair(name: str, only: frozenset[str], cannot: Mapping[str, str] | None = None, **settings: Any) -> Pair:
    profile = replace(S3_PROFILES[name], copy_seconds=0)
    return Pair(f"s3-{name}", lambda double: S3DoubleRig(profile, double, **settings), "strict_s3", cannot or {}, only)


# Stores with S3's API as people have them; for the conformance suite alone. `s3-aws` runs all of it.
S3_PROFILE_PAIRS = (
    _s3_pair("aws-versioned", _WRITES | _CLEAN_UPS),
    _s3_pair("aws-locked", _WRITES | _CLEAN_UPS),
    _s3_pair("aws-encrypted", _WRITES, sse="aws:kms"),
    _s3_pair("aws-requester-pays", _ALL, requester_pays=True),
    _s3_pair(
        "r2",
        _ALL | {_GROWING_PARTS},
        {**_without_tags("R2"), _GROWING_PARTS: "its parts must have the same size, so that they can't grow"},
        equal_parts=True,
    ),
    _s3_pair("b2", _ALL, _without_tags("B2")),
    _s3_pair("ceph", _WRITES, conditional_writes=False),
    _s3_pair("minio-behind-proxy", _WRITES | _READS),
    _s3_pair("oss", _WRITES | _CLEAN_UPS),
    _s3_pair("minimal", _ALL | _DAMAGE, _without_tags("it")),
    _s3_pair(
        "decoding",
        _READS,
        {"test_encoded_content_comes_back_as_it_was_stored": "the SDK asks for no encoding"}
        if BY_THE_SDK_ALONE
        else {},
    ),
)
S3_NOT_IN_THE_SUITE = {
    "aws-slow-copy": "it differs from aws only in the duration of copies",
    "needs-md5": "a part of oss and minimal",
}
"""Profile of S3 -> why it has no pair, here or among the failing stores. `tests/stores` has its cases."""
