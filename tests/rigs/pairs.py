"""The one table of (storage, server) pairs that tests run on."""

import os
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from lakery_cloud.testing import GCS_PROFILES, S3_PROFILES
from tests.environment import release
from tests.rigs.azure import AzureRig
from tests.rigs.base import PairRig
from tests.rigs.gcs import GCSRig
from tests.rigs.gcs_double import GCSDoubleRig
from tests.rigs.live import GCS_TESTBENCH, bucket_of, is_live, why_not_live
from tests.rigs.local import FileRig, MemoryRig
from tests.rigs.s3 import S3Rig, SmallPartsRig
from tests.rigs.s3_double import S3DoubleRig


@dataclass(frozen=True)
class Pair:
    """A storage and the server that it is tested on.

    Attributes:
        name: `<cloud>-<server>`, or the storage alone where there is no server.
        make: Makes the rig from the value of the fixture `source`, or from the bucket of a real account.
        source: The fixture with the server or another argument of `make`.
        cannot: Name of a conformance test -> why the server doesn't support it.
        only: The only tests of the conformance suite that the server can change, by name; all without any. The others show
            the same on another server of the cloud.
        variable: The environment variable with the URL of a server that you start yourself.
    """

    name: str
    make: Callable[[Any], AbstractAsyncContextManager[Any]]
    source: str = ""
    cannot: Mapping[str, str] = field(default_factory=dict, hash=False)
    only: frozenset[str] = frozenset()
    variable: str = ""

    @property
    def cloud(self) -> str:
        """The first part of its name: `memory`, `file`, `s3`, `gcs` or `azure`."""
        return self.name.partition("-")[0]

    @property
    def is_live(self) -> bool:
        """Whether it is a real account."""
        return self.name.endswith("-live")

    @property
    def why_skipped(self) -> str | None:
        """What to set so that its tests run; None if they do."""
        if self.variable and not os.environ.get(self.variable):
            return f"to run it, start the server and set {self.variable} to its URL"
        return why_not_live(self.cloud) if self.is_live else None

    @asynccontextmanager
    async def open(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[PairRig]:
        """A new rig, with its credentials in the environment. The server is started if no test has needed it yet."""
        if self.is_live:
            release(monkeypatch)
        source = (
            bucket_of(self.cloud) if self.is_live else request.getfixturevalue(self.source) if self.source else None
        )
        async with self.make(source) as rig:
            rig.cannot = self.cannot
            for name, value in rig.environment.items():
                monkeypatch.setenv(name, value)
            yield rig


NO_LIMIT = "rewriteTo has no size limit"
NO_LARGE_COPIES = {
    "test_copy_past_the_limit_of_one_request_goes_in_parts": NO_LIMIT,
    "test_cancelled_copy_in_parts_leaves_nothing": NO_LIMIT,
}
NO_LIST_OF_SESSIONS = {
    "test_sweep_aborts_unfinished_uploads": "resumable uploads can't be listed; they end by themselves"
}
BLOCKS_STAY = {
    "test_cancelled_copy_in_parts_leaves_nothing": "the blocks of a content key stay, invisible, for up to a week"
}

# On one pair of S3 and one of Cloud Storage, the SDK sends all requests. The results must be the same.
LOCAL_PAIRS = (
    Pair(
        "memory",
        lambda _: nullcontext(MemoryRig()),
        cannot={"test_missing_bucket_is_bucket_not_found": "memory has no buckets"},
    ),
    Pair("file", lambda folder: nullcontext(FileRig(folder)), "tmp_path"),
    Pair(
        "s3-moto",
        lambda server: S3Rig("MotoServer", server),
        "moto",
        {"test_blob_with_another_hash_is_refused": "it stores a body whose ChecksumSHA256 is wrong"},
    ),
    Pair("s3-localstack", lambda server: S3Rig("LocalStack", server, fast_lane=False), "localstack"),
    Pair(
        "s3-seaweedfs",
        lambda server: S3Rig("SeaweedFS", server),
        "seaweedfs",
        {"test_prefix_with_an_empty_segment_is_kept_or_refused": "its keys are paths, where a//b is a/b"},
    ),
    Pair(
        "gcs-fake",
        lambda server: GCSRig("FakeGCS", server.endpoint_url),
        "fake_gcs",
        {**NO_LARGE_COPIES, **NO_LIST_OF_SESSIONS},
    ),
    Pair(
        "gcs-strict",
        # With the class of temporary objects, so that streams are moved to their content key. On the others they are rewritten.
        lambda double: GCSRig("StrictGCS", double.url, double=double, storage_class="STANDARD"),
        "strict_gcs",
        {**NO_LARGE_COPIES, **NO_LIST_OF_SESSIONS},
    ),
    Pair(
        "gcs-composite",
        # The first parts are composed to a temporary object, on the profile below to the content key.
        lambda server: GCSRig(
            "FakeGCS, composite uploads", server.endpoint_url, composite_uploads="true", fast_lane=False
        ),
        "fake_gcs",
        NO_LARGE_COPIES,
    ),
    Pair(
        "azure-azurite",
        lambda server: AzureRig("Azurite", server),
        "azurite",
        BLOCKS_STAY,
    ),
)


# For what it alone shows, and a small part of the conformance suite.
MINISTACK = Pair(
    "s3-ministack",
    lambda server: SmallPartsRig("MiniStack", server),
    "ministack",
    {"test_known_stream_is_stored_with_its_attributes": "it loses the tags of a multipart upload"},
    frozenset(
        {
            "test_attributes_are_equal_after_a_put_and_after_a_stream",
            "test_blob_that_is_not_what_its_digest_says_is_refused",
            "test_blob_with_another_hash_is_refused",
            "test_blobs_read_as_streams_and_streams_as_blobs",
            "test_cancelled_known_stream_leaves_the_content_or_nothing",
            "test_encoded_content_comes_back_as_it_was_stored",
            "test_known_stream_is_stored_with_its_attributes",
            "test_known_stream_that_another_writer_stores_meanwhile_is_success",
            "test_missing_bucket_is_bucket_not_found",
            "test_sixteen_writers_of_one_blob_all_succeed",
            "test_sixteen_writers_of_one_stream_all_succeed",
            "test_stream_that_is_not_what_its_digest_says_is_refused",
            "test_sweep_aborts_unfinished_uploads",
            "test_writers_of_one_known_stream_all_succeed",
        }
    ),
)


def _gcs_profile(name: str, **settings: Any) -> Pair:
    return Pair(
        f"gcs-{name}",
        lambda double: GCSDoubleRig(GCS_PROFILES[name], double, **settings),
        "strict_gcs",
        {**NO_LARGE_COPIES, **NO_LIST_OF_SESSIONS},
    )


# Stores that behave as local servers don't; for the conformance suite alone.
PROFILE_PAIRS = (
    Pair("s3-aws", lambda double: S3DoubleRig(S3_PROFILES["aws"], double), "strict_s3"),
    _gcs_profile("emulator-like"),
    _gcs_profile("google-versioned", composite_uploads="true", storage_class="STANDARD"),
    _gcs_profile("google-requester-pays", user_project="payer"),
    _gcs_profile("google-xml-errors"),
)
GCS_NOT_IN_THE_SUITE = {
    **dict.fromkeys(
        ("google-retained", "google-held"),
        "each stream leaves its temporary object; with `temporary_bucket`, the suite runs on a bucket with retention",
    ),
    "google-one-change-a-second": "each deletion of a temporary object would wait for a second",
    "google-slow-copy": "it differs from google only in the duration of copies",
    "google-new-errors": "it differs from google-xml-errors only in the format of errors",
    "other-host": "it differs from google only in the beginning of uploads",
}
"""Profile of Cloud Storage -> why it has no pair, here or among the failing stores. `gcs-strict` is the profile `google`;
`tests/stores` has the cases of the others."""
LIVE_PAIRS = (
    Pair("s3-live", lambda bucket: S3Rig("a real account", bucket=bucket)),
    Pair(
        "gcs-live",
        lambda bucket: GCSRig("a real account", bucket=bucket),
        cannot={**NO_LARGE_COPIES, **NO_LIST_OF_SESSIONS},
    ),
    Pair("azure-live", lambda container: AzureRig("a real account", bucket=container)),
)
PAIRS = (*LOCAL_PAIRS, *(LIVE_PAIRS if is_live() else ()))
TESTBENCH_PAIR = Pair(
    "gcs-testbench",
    lambda _: GCSRig("storage-testbench", os.environ[GCS_TESTBENCH]),
    cannot={
        **NO_LARGE_COPIES,
        **NO_LIST_OF_SESSIONS,
        "test_empty_blob_and_empty_stream": "its resource of an empty object has no size",
        "test_attributes_are_equal_after_a_put_and_after_a_stream": "it adds metadata of its own",
    },
    variable=GCS_TESTBENCH,
)
"""For the conformance suite alone, if its variable is set."""
CLOUDS = ("s3", "gcs", "azure")


def params(pairs: Iterable[Pair]) -> list[Any]:
    """Return parameters of a fixture that opens these pairs. Those without their variable are skipped with the reason."""
    reasons = {pair: pair.why_skipped for pair in pairs}
    return [
        pytest.param(pair, id=pair.name, marks=[pytest.mark.skip(reason=reason)] if reason else [])
        for pair, reason in reasons.items()
    ]


def params_of(*names: str) -> list[Any]:
    """Parameters for the named pairs alone, for what one server a cloud shows as well as all."""
    return params(pair for pair in (*LOCAL_PAIRS, *PROFILE_PAIRS) if pair.name in names)


FULLY = frozenset({"memory", "file", "s3-seaweedfs", "gcs-strict", "azure-azurite"})
"""Each storage once. Real accounts count too."""


def on_each(
    rig: str,
    pairs: Iterable[Pair],
    names: str,
    values: Sequence[Any],
    *,
    few: int = 1,
    fully: Collection[str] = FULLY,
    ids: Callable[[Any], str] = str,
) -> pytest.MarkDecorator:
    """Parametrize a test of a storage by pair and values, without the repetitions that show nothing new.

    Args:
        rig: The fixture that opens a pair.
        pairs: The pairs.
        names: The parameters for the values.
        values: The values, or a tuple of values for each test if there are several parameters.
        few: How many of the values are used on all pairs.
        fully: Names of the pairs with all values; each storage once.
        ids: Makes the id of a value.
    """
    rows = [
        pytest.param(
            *pair.values,
            *(value if isinstance(value, tuple) else (value,)),
            id=f"{pair.id}-{ids(value)}",
            marks=pair.marks,
        )
        for pair in params(pairs)
        for value in (values if pair.id in fully or pair.values[0].is_live else values[:few])
    ]
    return pytest.mark.parametrize(f"{rig}, {names}", rows, indirect=[rig])


def one_server_a_cloud(*names: str) -> list[Pair]:
    """A local server of each cloud, the real accounts, and the named pairs: for what knows no server, such as the command."""
    return [
        pair for pair in PAIRS if pair.is_live or pair.name in ("s3-seaweedfs", "gcs-fake", "azure-azurite", *names)
    ]
