"""What the commands share: which storage, what a target means, tables and progress."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lakery_cloud.config.urls import storage_from_url
from lakery_cloud.digest import close_stream
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import NotRegistered
from lakery_cloud.registry import ContentRecord, StorageRegistry

StorageUrl = Annotated[
    str | None,
    Parameter(
        name=["--storage", "-s"],
        env_var="LAKERY_CLOUD_STORAGE",
        help="URL of the storage, such as s3://bucket/prefix?region=eu-central-1. "
        "By default a folder in your data directory.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, one object a line.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Show no progress.")]


@asynccontextmanager
async def open_storage(url: str | None) -> AsyncGenerator[ObjectStorage[Any]]:
    """The storage of a URL, or the default one."""
    async with storage_from_url(url or default_url()) as storage:
        yield storage


def default_url() -> str:
    """A folder in the user's data directory."""
    return Path(platformdirs.user_data_path("lakery-cloud"), "objects").as_uri()


async def record_of(target: str | bytes, storage: ObjectStorage[Any]) -> ContentRecord:
    """The record that a target stands for: a record's JSON, or a bare hash that is looked up in the storage."""
    if isinstance(target, bytes) or target.lstrip().startswith("{"):
        record = ContentRecord.from_json(target)
        try:
            StorageRegistry([storage]).get(record.storage_name)
        except NotRegistered as error:
            raise NotRegistered(f"{error}; the record needs --storage with the URL of such a storage") from None
        return record
    digest = await storage.digest_of(target)
    storage_data = storage.serialize_storage_data(storage.storage_data_of(digest))
    return ContentRecord(**digest, storage_name=storage.name, storage_data=storage_data)


def counted(count: int, noun: str) -> str:
    """`1 object`, `2 objects`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


class Transfers:
    """Progress bars of transfers on standard error; none where that is no terminal."""

    def __init__(self, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )

    @contextlib.contextmanager
    def show(self) -> Iterator[None]:
        """Show the bars while the block runs."""
        with self._progress:
            yield

    async def counted(
        self, chunks: AsyncIterable[bytes], *, description: str, total: int | None
    ) -> AsyncGenerator[bytes]:
        """The chunks, counted on a bar of their own; closed at the end."""
        task = self._progress.add_task(description, total=total)
        try:
            async for chunk in chunks:
                yield chunk
                self._progress.advance(task, len(chunk))
        finally:
            await close_stream(chunks)
            self._progress.remove_task(task)
