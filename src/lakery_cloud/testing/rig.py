"""A rig: a storage under test, and a way around it to what its store really holds."""

import abc
import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lakery_cloud.engine.keys import TEMPORARY_FOLDER
from lakery_cloud.engine.object_storage import ObjectStorage


@dataclass(frozen=True, slots=True)
class RawObject:
    """One object as the store itself gives it out, undecoded."""

    data: bytes
    content_type: str | None
    content_encoding: str | None
    tags: Mapping[str, str]
    metadata: Mapping[str, str]


class Rig(abc.ABC):
    """What the conformance suite needs to know about a storage and its server. A new rig holds nothing.

    Attributes:
        name: Storage and server, for the conformance table: `S3Storage on SeaweedFS`.
        part_size: The smallest part that the server takes; tests send a few of these.
        cannot: Name of a test -> why this storage or server can't show it.
    """

    name: ClassVar[str]
    part_size: ClassVar[int]
    cannot: ClassVar[Mapping[str, str]] = {}

    @abc.abstractmethod
    def storage(self, *, prefix: str = "", **options: Any) -> ObjectStorage[Any]:
        """A new storage on the rig's own bucket, with `part_size` unless the options say otherwise."""

    @abc.abstractmethod
    def elsewhere(self) -> ObjectStorage[Any]:
        """A new storage whose bucket is not there."""

    @abc.abstractmethod
    async def put(self, key: str, data: bytes) -> None:
        """Write an object behind the storage's back. Keys are the storage's, with its prefix."""

    @abc.abstractmethod
    async def get(self, key: str) -> RawObject | None:
        """Read an object behind the storage's back."""

    @abc.abstractmethod
    async def delete(self, key: str) -> None:
        """Delete an object behind the storage's back."""

    @abc.abstractmethod
    async def keys(self) -> list[str]:
        """All keys, temporary ones included."""

    @abc.abstractmethod
    async def uploads(self) -> list[str]:
        """Keys of all incomplete multipart uploads."""

    def own_key(self, key: str) -> str:
        """A key of the bucket as the rig's methods have it; they differ where a rig has only a part of the bucket."""
        return key

    async def check_nothing_temporary(self) -> None:
        """Nothing but content keys is left."""
        temporary = [key for key in await self.keys() if f"{TEMPORARY_FOLDER}/" in key]
        assert not temporary, f"temporary keys are left: {temporary}"
        assert not await self.uploads(), f"incomplete uploads are left: {await self.uploads()}"

    async def check_nothing_left(self) -> None:
        """Nothing is left at all, and nothing still runs."""
        await self.check_nothing_temporary()
        assert not await self.keys(), f"keys are left: {await self.keys()}"
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and _is_ours(task)]
        assert not tasks, f"tasks still run: {tasks}"


def _is_ours(task: "asyncio.Task[Any]") -> bool:
    coroutine: Any = task.get_coro()
    code = getattr(coroutine, "cr_code", None)
    return code is not None and "lakery_cloud/testing" not in code.co_filename and "lakery_cloud" in code.co_filename
