"""Rigs whose storages have their temporary keys in a bucket beside the one of the content, and their pairs.

The bucket of the content keeps what is deleted, since that is what `temporary_bucket` is for: nothing temporary gets there.
"""

from collections.abc import AsyncGenerator
from typing import Any, ClassVar, Self

from lakery_cloud.engine.keys import TEMPORARY_FOLDER
from lakery_cloud.testing import GCS_PROFILES, S3_PROFILES, AzureDouble, StrictGCS, StrictS3
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig
from tests.rigs.gcs_double import GCSDoubleRig
from tests.rigs.pairs import BLOCKS_STAY, NO_LARGE_COPIES, NO_LIST_OF_SESSIONS, Pair
from tests.rigs.s3 import S3Rig
from tests.rigs.s3_double import S3DoubleRig


class BesideRig(CloudRig):
    """Mixin for a rig with two buckets: the rig's own for content, and that of `beside` for temporary keys.

    Temporary keys of the rig are those of both buckets, so that each check finds what is left in either of them. The rig
    puts temporary objects beside, as storages do.
    """

    beside_class: ClassVar[type[CloudRig]]

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.beside = self.beside_class(*args, **settings)
        self.name += ", temporary keys beside"
        word = self.storage_class.settings_class.bucket_names.setting
        self.settings = {**self.settings, f"temporary_{word}": self.beside.bucket}

    async def __aenter__(self) -> Self:
        await self.beside.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)
        await self.beside.__aexit__(*raised)

    async def put(self, key: str, data: bytes) -> None:
        if f"{TEMPORARY_FOLDER}/" in key:
            await self.beside.put(key, data)
        else:
            await super().put(key, data)  # type: ignore[safe-super]

    async def _bucket_keys(self) -> AsyncGenerator[str]:
        async for key in super()._bucket_keys():  # type: ignore[attr-defined]
            yield key
        async for key in self.beside._bucket_keys():
            yield key

    async def _bucket_uploads(self) -> AsyncGenerator[str]:
        async for key in super()._bucket_uploads():  # type: ignore[attr-defined]
            yield key
        async for key in self.beside._bucket_uploads():
            yield key

    async def check_nothing_temporary(self) -> None:
        await super().check_nothing_temporary()
        await self.beside.check_nothing_left()


class S3BesideRig(BesideRig, S3Rig):
    """Two buckets of a server with S3's API."""

    beside_class = S3Rig


class S3DoubleBesideRig(BesideRig, S3DoubleRig):
    """Two buckets of the strict double: that of the content has versions, and locks them."""

    beside_class = S3DoubleRig

    def __init__(self, double: StrictS3) -> None:
        super().__init__(S3_PROFILES["aws"], double)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._double.make_bucket(self.bucket, "aws-locked")
        return self

    async def check_nothing_temporary(self) -> None:
        await super().check_nothing_temporary()
        kept = [key for key in self._double.buckets[self.bucket] if f"{TEMPORARY_FOLDER}/" in key]
        assert not kept, f"versions of temporary keys are left: {kept}"


class GCSDoubleBesideRig(BesideRig, GCSDoubleRig):
    """Two buckets of the strict double: that of the content retains its objects."""

    beside_class = GCSDoubleRig

    def __init__(self, double: StrictGCS, **settings: Any) -> None:
        super().__init__(GCS_PROFILES["google"], double, **settings)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._double.make_bucket(self.bucket, "google-retained")
        return self


class AzureBesideRig(BesideRig, AzureRig):
    """Two containers of an account: that of the content is immutable."""

    beside_class = AzureRig

    def __init__(self, double: AzureDouble) -> None:
        super().__init__("AzureDouble as immutable", double=double)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        assert self._double is not None
        self._double.retained = {self.bucket}
        return self

    async def __aexit__(self, *raised: object) -> None:
        assert self._double is not None
        self._double.retained = None
        await super().__aexit__(*raised)


_WITH_TEMPORARY_KEYS = frozenset(
    {
        "test_attributes_are_equal_after_a_put_and_after_a_stream",
        "test_blob_past_the_limit_of_one_request_goes_in_parts",
        "test_blobs_read_as_streams_and_streams_as_blobs",
        "test_cancelled_after_the_copy_leaves_the_content_alone",
        "test_cancelled_again_during_the_clean_up_leaves_nothing",
        "test_cancelled_at_random_moments_leaves_nothing_partial",
        "test_cancelled_before_the_copy_leaves_nothing",
        "test_cancelled_before_the_first_request_sends_none",
        "test_cancelled_copy_in_parts_leaves_nothing",
        "test_cancelled_stream_leaves_nothing",
        "test_content_is_saved_though_its_temporary_key_can_not_be_deleted",
        "test_copy_past_the_limit_of_one_request_goes_in_parts",
        "test_empty_blob_and_empty_stream",
        "test_error_of_the_source_comes_out_and_nothing_is_left",
        "test_failed_write_leaves_what_was_there",
        "test_failing_clean_up_is_logged_with_the_key",
        "test_missing_bucket_is_bucket_not_found",
        "test_nobody_sees_the_content_key_before_it_is_whole",
        "test_part_size_grows_before_the_parts_run_out",
        "test_parts_that_finish_out_of_order",
        "test_pickled_storage_works",
        "test_prefix_is_kept_to_the_letter",
        "test_prefix_with_an_empty_segment_is_kept_or_refused",
        "test_ragged_chunks",
        "test_same_stream_twice_is_one_object",
        "test_second_write_of_a_stream_copies_nothing",
        "test_sixteen_writers_of_one_stream_all_succeed",
        "test_slow_store_stops_the_source",
        "test_something_else_at_the_content_key_is_an_error_and_stays",
        "test_stream_of_about_one_part",
        "test_stream_of_all_parts_at_a_time",
        "test_stream_that_is_not_what_its_digest_says_is_refused",
        "test_sweep_aborts_unfinished_uploads",
        "test_sweep_removes_old_temporary_objects_and_nothing_else",
    }
)
"""Tests that temporary keys in another bucket can change: of streams, sweeps, prefixes and missing buckets."""

BESIDE_PAIRS = (
    Pair("s3-temporary", S3DoubleBesideRig, "strict_s3", only=_WITH_TEMPORARY_KEYS),
    Pair(
        "gcs-temporary",
        GCSDoubleBesideRig,
        "strict_gcs",
        {**NO_LARGE_COPIES, **NO_LIST_OF_SESSIONS},
        _WITH_TEMPORARY_KEYS,
    ),
    Pair(
        "gcs-temporary-composite",
        lambda double: GCSDoubleBesideRig(double, composite_uploads="true"),
        "strict_gcs",
        NO_LARGE_COPIES,
        _WITH_TEMPORARY_KEYS,
    ),
    Pair(
        "azure-temporary",
        lambda doubles: AzureBesideRig(doubles("immutable")),
        "azure_doubles",
        BLOCKS_STAY,
        _WITH_TEMPORARY_KEYS,
    ),
)
"""For the conformance suite."""
KILLED_PAIRS = (
    Pair("s3-seaweedfs-temporary", lambda server: S3BesideRig("SeaweedFS", server), "seaweedfs"),
    *(pair for pair in BESIDE_PAIRS if pair.name in ("gcs-temporary", "azure-temporary")),
)
"""For writers in processes of their own, whose storages come from URLs: these can't have limits."""
