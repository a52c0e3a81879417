"""Fixtures that all tests share: the rigs, all from the table of `tests.rigs.pairs`."""

import gc
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.retries.standard import ExponentialBackoff

from lakery_cloud.engine import requests, writer
from tests.conformance_table import note_case, write_table
from tests.environment import take_away
from tests.rigs.base import PairRig
from tests.rigs.pairs import CLOUDS, LOCAL_PAIRS, PAIRS, Pair, params
from tests.sdk_sessions import share_handlers

pytest_plugins = ["tests.servers", "tests.telemetry"]

share_handlers()


def pytest_configure() -> None:
    # A shell lets background processes, and all that they start, ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = (
    "tests/docs/test_examples.py",
    "tests/emulators/",
    "tests/live/",
    "tests/clouds/test_load.py",
    "tests/cli/test_cli_emulators.py",
    "tests/soak/",
    "tests/benchmarks/test_demo.py",
    "tests/clouds/test_unreachable.py",
    "tests/clouds/test_memory.py",
    "tests/model/",
    "tests/s3/test_aiobotocore.py",
    "tests/clouds/test_kills.py",
)
"""The beginnings of the ids of tests that take many seconds, or wait most of their time."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests: so none is left to the end, when the other workers have nothing to do."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """Exclude the thousands of tests from all collections of garbage, which would look through them each time."""
    gc.collect()
    gc.freeze()


# Under xdist the terminal is the only one that sees all reports.
def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance-table", type=Path, help="write the results of all cases to this file")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    path = config.getoption("--conformance-table")
    if path is not None:
        stats = terminalreporter.stats
        write_table(
            path, [report for outcome in ("passed", "failed", "error", "skipped") for report in stats.get(outcome, ())]
        )


@pytest.fixture(autouse=True)
def _no_configuration_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Remove the credentials and settings of the user; a live rig restores them."""
    take_away(monkeypatch, tmp_path_factory.getbasetemp() / "nowhere")


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once, also after a longer pause was asked for. The first pause of the SDKs is up to a second."""
    monkeypatch.setattr(requests, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(requests, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(writer, "CONFLICT_PAUSE", 0.01)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.01)


def rig_on(*pairs: Pair) -> Any:
    """A fixture: an empty rig on each of the pairs."""

    @pytest.fixture(params=params(pairs))
    async def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PairRig]:
        async with request.param.open(request, monkeypatch) as rig:
            note_case(request, rig.name)
            yield rig

    return opened


rig = rig_on(*PAIRS)
url_rig = rig_on(*(pair for pair in PAIRS if pair.name != "memory"))  # memory is not shared between processes
cloud_rig = rig_on(*(pair for pair in PAIRS if pair.cloud in CLOUDS))

# For tests about one cloud or server: never a real account, since they know its server or put a proxy before it.
s3_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.cloud == "s3"))
gcs_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.cloud == "gcs"))
azure_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.cloud == "azure"))
seaweedfs_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name == "s3-seaweedfs"))
strict_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name == "gcs-strict"))
