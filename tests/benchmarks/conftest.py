"""The null servers, one of each API for a session."""

from collections.abc import Iterator

import pytest

from benchmarks.harness import Admin
from benchmarks.null_server import Running, null_server
from benchmarks.workloads import BY_NAME


def _server(api: str) -> Iterator[Running]:
    with null_server(api) as server:
        with Admin(server) as admin:
            admin.fill(BY_NAME["gets"])
        yield server


@pytest.fixture(scope="session")
def null_s3() -> Iterator[Running]:
    yield from _server("s3")


@pytest.fixture(scope="session")
def null_gcs() -> Iterator[Running]:
    yield from _server("gcs")


@pytest.fixture(scope="session")
def null_azure() -> Iterator[Running]:
    yield from _server("azure")
