"""Each client really does its work: the null server has what the client says that it wrote."""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import Admin, missing_of
from benchmarks.null_server import Running
from benchmarks.payload import MiB, write_blocks
from benchmarks.peers.base import Peer, Target
from benchmarks.peers.catalog import PEERS, Entry
from benchmarks.workloads import BY_NAME, CONTENT, WRITTEN, Work, Workload

SIZE = 20 * MiB
"""Content of three parts."""
# moto needs boto3, so it is here too; the other environments are not part of the tests. Variants use the same code. adlfs
# prints tracebacks when a process with it ends; the benchmark itself checks its writes.
LEFT_OUT = ("lakery-cloud-sdk", "sha256-alone", "adlfs")
IN_PROCESS = [
    entry
    for entry in PEERS
    if entry.environment in (None, "boto3") and not entry.api.startswith("start") and entry.name not in LEFT_OUT
]
WRITES = ("puts", "hits", "streams", "write-256", "write-file")
READS = ("gets", "read-256")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("content")
    write_blocks(folder / CONTENT, SIZE)
    return folder


def shortened(name: str) -> Workload:
    workload = BY_NAME[name]
    return dataclasses.replace(workload, size=SIZE) if workload.is_large else dataclasses.replace(workload, count=20)


async def turns_of(
    client: type[Peer], names: Sequence[str], server: Running, folder: Path
) -> AsyncIterator[tuple[Workload, dict[str, Any]]]:
    """Do a turn of each workload in one bucket; yield its number of operations, and what the server has seen."""
    workloads = [shortened(name) for name in names]
    peer = client(Target(server.url, workloads[0].bucket, None, 32, verify=True))
    await peer.open()
    try:
        with Admin(server) as admin:
            for workload in workloads:
                admin.fill(workload)
                work = Work(workload, peer, label=client.__name__, folder=folder)
                await work.warm_up()
                if workload.stores:
                    admin.make_room()
                admin.start_counting()
                yield workload, {"operations": await work.turn(1), "seen": admin.counts()}
    finally:
        await peer.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of other clients
@pytest.mark.parametrize("names", [WRITES, READS], ids=["writes", "reads"])
@pytest.mark.parametrize("entry", IN_PROCESS, ids=lambda entry: f"{entry.api}-{entry.name}")
async def test_client_does_its_work(
    entry: Entry, names: Sequence[str], folder: Path, request: pytest.FixtureRequest
) -> None:
    names = [name for name in names if not entry.only or name in entry.only]
    if not names:
        return
    async for workload, turn in turns_of(entry.load(), names, request.getfixturevalue(f"null_{entry.api}"), folder):
        seen, size = turn["seen"], turn["operations"] * workload.size
        assert missing_of(workload, turn) is None, workload.name
        if workload.stores:
            assert seen["received"] >= size, workload.name
            assert seen["unfinished"][WRITTEN] == 0, workload.name
        if workload.reads:
            assert seen["sent"] >= size, workload.name


class Forgetful(Peer):
    """Reads what it should write."""

    async def open(self) -> None:
        pass

    async def put(self, key: str, data: bytes) -> Any:
        return key

    async def get(self, handle: Any) -> bytes:
        raise NotImplementedError

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        async for _ in chunks:
            pass

    def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "missing"),
    [("puts", "not 20 of 20480"), ("write-256", f"not 1 of {SIZE}"), ("write-file", f"not 1 of {SIZE}")],
)
async def test_a_write_that_the_server_does_not_have_is_an_error(
    name: str, missing: str, folder: Path, null_s3: Running
) -> None:
    ((workload, turn),) = [done async for done in turns_of(Forgetful, [name], null_s3, folder)]
    assert missing_of(workload, turn) == f"the server has 0 objects of 0 bytes, {missing}"
