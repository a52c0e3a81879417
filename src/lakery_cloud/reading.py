"""`ReadingRegistry`: loads the content of records from the storages that they name."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from lakery_cloud.batches import AT_A_TIME, MAX_BUFFERED_BYTES, Loaded, load_all
from lakery_cloud.content_file import ContentFile, on_running_loop
from lakery_cloud.digest import check_data, verified
from lakery_cloud.files import check_target, write_file, write_open_file
from lakery_cloud.named_storages import NamedStorages
from lakery_cloud.records import ContentRecord
from lakery_cloud.storage import SerializedData, SerializedDataStream, Storage, check_range


class ReadingRegistry(NamedStorages):
    """The half of `StorageRegistry` that reads."""

    async def load(self, record: ContentRecord) -> SerializedData:
        """Load content as one blob, and compare it with the record.

        Raises:
            NotRegistered: The record's storage is not registered.
            IntegrityError: The content does not match the record.
            LakeryCloudError: The storage's errors.
        """
        storage, storage_data = self._find(record)
        data = await storage.read_data(storage_data)
        if not storage.verifies_reads:
            await check_data(data, record.digest, what=f"the content from {record.storage_name}")
        return SerializedData(data=data, content_type=record.content_type, content_encoding=record.content_encoding)

    def load_many(
        self,
        records: AsyncIterable[ContentRecord] | Iterable[ContentRecord],
        /,
        *,
        at_a_time: int = AT_A_TIME,
        max_buffered_bytes: int = MAX_BUFFERED_BYTES,
    ) -> AsyncGenerator[Loaded]:
        """Load the content of many records, several at a time, and yield one result for each, in their order.

        A failed load doesn't stop the others: its error is in its result. An error of `records` itself is raised after
        the results of the records before it. Closing the results cancels the loads under way and closes `records`.

        Args:
            records: The records. A record is taken when its load can start.
            at_a_time: Most loads at a time.
            max_buffered_bytes: Most bytes of content under way or waiting for you. Larger content is loaded alone.

        Raises:
            ConfigError: A limit is less than 1.
        """
        return load_all(self.load, records, at_a_time=at_a_time, max_buffered_bytes=max_buffered_bytes)

    def load_stream(self, record: ContentRecord) -> SerializedDataStream:
        """Load content as a stream that is compared with the record at its end.

        Close `data_stream` if you don't read it to its end.

        Raises:
            NotRegistered, IntegrityError, LakeryCloudError: As for `load`, while you read the stream.
        """
        return SerializedDataStream(
            data_stream=self._chunks(record),
            content_type=record.content_type,
            content_encoding=record.content_encoding,
        )

    async def read_range(self, record: ContentRecord, start: int, stop: int) -> bytes:
        """Read bytes `start` to `stop` of content; fewer at its end. A range of the whole is verified, as by `load`.

        Raises:
            ConfigError: `start` or `stop` is negative.
            NotRegistered, IntegrityError, LakeryCloudError: As for `load`.
        """
        check_range(start, stop)
        if start == 0 and stop >= record.content_size:
            return (await self.load(record))["data"]
        storage, storage_data = self._find(record)
        return await storage.read_range(storage_data, start, stop)

    def open_stream(self, record: ContentRecord) -> ContentFile:
        """Open content as a binary file, for libraries that read files. Nothing is requested before the first read.

        Its reads block, so read it in a worker thread: `await asyncio.to_thread(pandas.read_parquet, file)`. The event loop
        that runs now must keep running.

        Raises:
            NotRegistered, InvalidRecord: As for `load`.
        """
        self._find(record)
        return ContentFile(record, on_running_loop(partial(self.read_range, record)))

    async def load_file(self, record: ContentRecord, path: str | os.PathLike[str] | BinaryIO) -> None:
        """Load content into a file.

        An existing file is replaced only by complete, verified content. An open file gets the bytes as they arrive, so
        after an error it has a part of them.

        Args:
            record: The record.
            path: Path of the file, or a binary file object, which stays open.

        Raises:
            OSError: The path is a folder or can't be written, or its folder does not exist.
            NotRegistered, IntegrityError, LakeryCloudError: As for `load`; the file of a path is not changed.
        """
        async with aclosing(self._chunks(record)) as chunks:
            if not isinstance(path, str | os.PathLike):
                await write_open_file(path, chunks)
                return
            target = Path(path)
            await asyncio.to_thread(check_target, target)
            await write_file(target, chunks)

    async def exists(self, record: ContentRecord) -> bool:
        """Whether the content of a record is stored, without reading it.

        Raises:
            NotRegistered: The record's storage is not registered.
            IntegrityError: The stored object has another size.
            LakeryCloudError: The storage's errors, such as `BucketNotFound`.
        """
        storage, storage_data = self._find(record)
        return await storage.exists(storage_data)

    async def _chunks(self, record: ContentRecord) -> AsyncGenerator[bytes]:
        storage, storage_data = self._find(record)
        async with aclosing(storage.read_data_stream(storage_data)) as chunks:
            what = f"the content from {record.storage_name}"
            checked = chunks if storage.verifies_reads else verified(chunks, record.digest, what=what)
            async for chunk in checked:
                yield chunk

    def _find(self, record: ContentRecord) -> tuple[Storage[Any], Any]:
        """Return the storage of a record, and its storage data."""
        record.check()
        storage = self.get(record.storage_name)
        storage_data = storage.deserialize_storage_data(record.storage_data)
        return storage, storage.complete_storage_data(storage_data, record.digest)
