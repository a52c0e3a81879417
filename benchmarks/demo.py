"""`make demo`: save real input to files and to S3, read it back verified, save it again, and interrupt a stream.

The input is the text of the repository, or of the folders that are named: `python -m benchmarks.demo docs`.
Everything runs on this machine: files in a temporary folder, and moto's S3 server in this process, behind a proxy that
counts requests and bytes.
"""

import abc
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aioboto3
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from lakery_cloud import (
    ContentRecord,
    FileStorage,
    ObjectStorage,
    S3Storage,
    SerializedDataStream,
    StorageRegistry,
)
from lakery_cloud.emulators import MotoServer
from lakery_cloud.files import chunks_of, guess_content_type
from lakery_cloud.testing import ScriptedProxy

MiB = 1024**2
STREAM_SIZE = 100 * MiB
BUCKET = "lakery-demo"
REPOSITORY = Path(__file__).parent.parent


@dataclass
class Step:
    """One line of the table."""

    storage: str
    what: str
    items: int
    size: int
    seconds: float
    outcome: str


def input_files(names: Sequence[str]) -> list[Path]:
    """Return files of the repository, from these folders."""
    folders = [REPOSITORY / name for name in names]
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".md", ".json", ".txt"}]
    return sorted({*found, REPOSITORY / "README.md", REPOSITORY / "pyproject.toml"})


def generated(*, stops: asyncio.Event | None = None) -> SerializedDataStream:
    """A stream of 100 MiB, the same each time. With `stops` it sets the event at 60 MiB and then waits."""

    async def chunks() -> AsyncGenerator[bytes]:
        for number in range(STREAM_SIZE // MiB):
            if stops is not None and number == 60:
                stops.set()
                await asyncio.Event().wait()
            yield number.to_bytes(4, "big") * (MiB // 4)

    return SerializedDataStream(data_stream=chunks(), content_type="application/octet-stream", content_encoding=None)


def opened(path: Path) -> SerializedDataStream:
    """Return a file as a stream."""
    return SerializedDataStream(
        data_stream=chunks_of(path), content_type=guess_content_type(path), content_encoding=None
    )


class Demo(abc.ABC):
    """All scenes on one storage."""

    def __init__(self, storage: ObjectStorage[Any], files: list[Path], proxy: ScriptedProxy | None) -> None:
        self.storage = storage
        self.name = type(storage).__name__
        self.registry = StorageRegistry([storage])
        self.files = files
        self.proxy = proxy
        self.steps: list[Step] = []

    async def play(self) -> None:
        """Play the scenes one after another."""
        size = sum(path.stat().st_size for path in self.files)
        started = self.start()
        records = [await self.registry.save_stream(opened(path)) for path in self.files]
        self.note("save files", len(records), size, started, f"{len({r.content_hash for r in records})} objects")

        started = self.start()
        records.append(await self.registry.save_stream(generated()))
        self.note("save a generated stream", 1, STREAM_SIZE, started, "1 object")

        started = self.start()
        await self.read_back(records)
        self.note("load all, verified", len(records), size + STREAM_SIZE, started, "every hash is right")

        before = [info.address.key async for info in self.storage.list()]
        started = self.start()
        sources = [*map(opened, self.files), generated()]
        for source, record in zip(sources, records, strict=True):
            again = await self.registry.save_stream(source, digest=record.digest)
            assert again.storage_data == record.storage_data
        after = [info.address.key async for info in self.storage.list()]
        assert after == before
        self.note(
            "save all again, hashes known",
            len(records),
            size + STREAM_SIZE,
            started,
            f"{self.bytes_sent()}, 0 new objects",
        )

        started = self.start()
        stopped = asyncio.Event()
        saving = asyncio.create_task(self.registry.save_stream(generated(stops=stopped)))
        await stopped.wait()
        saving.cancel()
        await asyncio.wait([saving])
        left = await self.left_over(set(after))
        assert saving.cancelled(), saving
        assert not left, left
        self.note("kill a stream at 60 MiB", 1, 60 * MiB, started, "nothing is left")

    async def read_back(self, records: list[ContentRecord]) -> None:
        """Read the content of every record to its end. The storage compares the hash, and raises on a wrong one."""
        for record in records:
            size = 0
            async for chunk in self.registry.load_stream(record)["data_stream"]:
                size += len(chunk)
            assert size == record.content_size

    @abc.abstractmethod
    async def left_over(self, expected: set[str]) -> list[str]:
        """Return unexpected keys and incomplete uploads, without asking the storage."""

    def start(self) -> float:
        """Reset the counters, and return the time."""
        if self.proxy is not None:
            self.proxy.exchanges.clear()
        return time.perf_counter()

    def bytes_sent(self) -> str:
        """Return the number of bytes that were sent since the start."""
        if self.proxy is None:
            return "0 bytes written"
        return f"{sum(exchange.sent_bytes for exchange in self.proxy.exchanges)} bytes sent"

    def note(self, what: str, items: int, size: int, started: float, outcome: str) -> None:
        """Add a line to the table."""
        if self.proxy is not None:
            outcome += f", {len(self.proxy.exchanges)} requests"
        self.steps.append(Step(self.name, what, items, size, time.perf_counter() - started, outcome))


class FileDemo(Demo):
    """The demo on files."""

    async def left_over(self, expected: set[str]) -> list[str]:
        root = Path(self.storage.keys.bucket)
        paths = await asyncio.to_thread(lambda: [path for path in root.rglob("*") if path.is_file()])
        return sorted({str(path.relative_to(root)) for path in paths} - expected)


class S3Demo(Demo):
    """The demo on S3."""

    endpoint_url = ""

    async def left_over(self, expected: set[str]) -> list[str]:
        async with aioboto3.Session().client("s3", endpoint_url=self.endpoint_url) as client:
            objects = (await client.list_objects_v2(Bucket=BUCKET)).get("Contents", [])
            uploads = (await client.list_multipart_uploads(Bucket=BUCKET)).get("Uploads", [])
        return [entry["Key"] for entry in [*objects, *uploads] if entry["Key"] not in expected]


async def run(console: Console, files: list[Path]) -> list[Step]:
    """Play the demo on both storages."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(MotoServer())
        os.environ.update(server.environment(), AWS_DEFAULT_REGION=server.region)
        async with aioboto3.Session().client("s3", endpoint_url=server.endpoint_url) as client:
            await client.create_bucket(Bucket=BUCKET)
        proxy = await stack.enter_async_context(ScriptedProxy(server.endpoint_url))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lakery-demo-"))
        file_storage = await stack.enter_async_context(FileStorage(folder))
        s3_storage = await stack.enter_async_context(S3Storage(BUCKET, endpoint_url=proxy.url))
        s3_demo = S3Demo(s3_storage, files, proxy)
        s3_demo.endpoint_url = server.endpoint_url
        demos: list[Demo] = [FileDemo(file_storage, files, None), s3_demo]
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as progress:
            for demo in demos:
                progress.add_task(f"{demo.name}: saving, loading, saving again, breaking ...", total=None)
                await demo.play()
    return [step for demo in demos for step in demo.steps]


def main() -> None:
    """Play the demo, and print its table."""
    console = Console()
    files = input_files(sys.argv[1:] or ("src", "tests", "docs"))
    steps = asyncio.run(run(console, files))
    table = Table(title="lakery-cloud: content-addressed, verified, nothing left behind")
    for heading, justify in (("storage", "left"), ("step", "left"), ("items", "right"), ("size", "right")):
        table.add_column(heading, justify=justify)
    table.add_column("seconds", justify="right")
    table.add_column("outcome")
    for number, step in enumerate(steps, start=1):
        table.add_row(
            step.storage,
            step.what,
            str(step.items),
            decimal(step.size),
            f"{step.seconds:.2f}",
            step.outcome,
            end_section=number == len(steps) // 2,
        )
    console.print(table)


if __name__ == "__main__":
    main()
