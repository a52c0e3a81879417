"""The manifest of a job: its shards and the results of those that are done, so that a later run continues after any crash.

It is a file of JSON lines in a folder, or the content of a storage of its own, with one object for each line. A plan comes
first, then a result for each shard. What a crash cut off does not count.
"""

import asyncio
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Protocol

from lakery_cloud.digest import computed_digest
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import StorageUnavailable
from lakery_cloud.maintenance.shards import Shard, ShardResult, listed
from lakery_cloud.storage import SerializedData

FILE_NAME = "manifest.jsonl"
CONTENT_TYPE = "application/json"
VERSION = 1


class Lines(Protocol):
    """Where a manifest keeps its lines."""

    async def read(self) -> list[bytes]:
        """All lines."""

    async def append(self, line: bytes) -> None:
        """Add a line, so that it survives a crash."""


class Manifest:
    """The shards of jobs and their results.

    Args:
        place: A folder, made at the first line, or a storage that holds nothing else.
    """

    def __init__(self, place: str | Path | ObjectStorage[Any]) -> None:
        self._lines: Lines = _Objects(place) if isinstance(place, ObjectStorage) else _File(Path(place) / FILE_NAME)
        self._plan = ""

    async def begin(
        self, job: Mapping[str, Any], shards: Sequence[Shard]
    ) -> tuple[Sequence[Shard], Mapping[Shard, ShardResult]]:
        """The shards of a job, and the results that an earlier run has kept.

        Args:
            job: Its description.
            shards: Its shards, if no earlier run has planned it.

        Raises:
            StorageUnavailable: The folder can't be read or written.
            LakeryCloudError: The storage's errors.
        """
        entries = [entry for line in await self._lines.read() if (entry := _entry_of(line)) is not None]
        for entry in entries:
            if entry.get("job") == job and entry.get("version") == VERSION:
                self._plan = _name_of(entry)
                done = (_result_of(result) for result in entries if result.get("plan") == self._plan)
                return [Shard(prefix) for prefix in entry["shards"]], {result.shard: result for result in done}
        plan = {"version": VERSION, "job": job, "shards": [shard.hash_prefix for shard in shards]}
        self._plan = _name_of(plan)
        await self._lines.append(_line_of(plan))
        return shards, {}

    async def unfinished(self) -> list[Mapping[str, Any]]:
        """The descriptions of jobs that have shards without a result.

        Raises:
            LakeryCloudError: As for `begin`.
        """
        entries = [entry for line in await self._lines.read() if (entry := _entry_of(line)) is not None]
        done: defaultdict[Any, set[str]] = defaultdict(set)
        for entry in entries:
            if "plan" in entry:
                done[entry["plan"]].add(entry["shard"])
        plans = (entry for entry in entries if entry.get("version") == VERSION)
        return [plan["job"] for plan in plans if {*plan["shards"]} - done[_name_of(plan)]]

    async def add(self, result: ShardResult) -> None:
        """Keep the result of a shard.

        Raises:
            LakeryCloudError: As for `begin`.
        """
        entry = {
            "plan": self._plan,
            "shard": result.shard.hash_prefix,
            "counts": result.counts,
            "findings": result.findings,
        }
        await self._lines.append(_line_of(entry))


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()

    async def read(self) -> list[bytes]:
        try:
            content = await asyncio.to_thread(self._path.read_bytes)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed("read", error) from error
        return content.splitlines()

    async def append(self, line: bytes) -> None:
        async with self._lock:
            try:
                await asyncio.to_thread(self._write, line)
            except OSError as error:
                raise self._failed("written", error) from error

    def _write(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # The first newline ends a line that a crash cut off.
            file.write(b"\n" + line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _failed(self, verb: str, error: OSError) -> StorageUnavailable:
        return StorageUnavailable(f"the manifest {self._path} can't be {verb}: {error.strerror or error}")


class _Objects:
    def __init__(self, storage: ObjectStorage[Any]) -> None:
        self._storage = storage

    async def read(self) -> list[bytes]:
        lines = []
        async with aclosing(listed(self._storage)) as objects:
            async for content_hash, _ in objects:
                digest = await self._storage.digest_of(content_hash)
                if digest["content_type"] == CONTENT_TYPE:
                    lines.append(await self._storage.read_data(self._storage.storage_data_of(digest)))
        return lines

    async def append(self, line: bytes) -> None:
        serialized = SerializedData(data=line, content_type=CONTENT_TYPE, content_encoding=None)
        await self._storage.write_data(line, await computed_digest(serialized), {})


def _line_of(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode()


def _name_of(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(_line_of(plan)).hexdigest()


def _entry_of(line: bytes) -> dict[str, Any] | None:
    with suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict):
            return entry
    return None


def _result_of(entry: Mapping[str, Any]) -> ShardResult:
    return ShardResult(Shard(entry["shard"]), entry["counts"], entry["findings"])
