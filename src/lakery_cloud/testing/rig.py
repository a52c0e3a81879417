"""The rig of the conformance suite: it makes storages under test, and accesses their store directly."""

import abc
import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lakery_cloud.engine.keys import TEMPORARY_FOLDER
from lakery_cloud.engine.object_storage import ObjectStorage


@dataclass(frozen=True, slots=True)
class RawObject:
    """An object as the store holds it, without decoding."""

    data: bytes
    content_type: str | None
    content_encoding: str | None
    tags: Mapping[str, str]
    metadata: Mapping[str, str]


class Rig(abc.ABC):
    """A storage class on a server, as the conformance suite uses it. A new rig is empty.

    Attributes:
        name: Storage and server, for the conformance table: `S3Storage on SeaweedFS`.
        part_size: The smallest part that the server accepts; tests send a few parts of this size.
        cannot: Name of a test -> why this storage or server can't pass it.
    """

    name: ClassVar[str]
    part_size: ClassVar[int]
    cannot: ClassVar[Mapping[str, str]] = {}

    @abc.abstractmethod
    def storage(self, *, prefix: str = "", **options: Any) -> ObjectStorage[Any]:
        """Make a storage on the rig's own bucket. `part_size` is the rig's, unless an option overrides it."""

    @abc.abstractmethod
    def elsewhere(self) -> ObjectStorage[Any]:
        """Make a storage whose bucket does not exist."""

    @abc.abstractmethod
    async def put(self, key: str, data: bytes) -> None:
        """Write an object directly to the store. Keys include the storage's prefix."""

    @abc.abstractmethod
    async def get(self, key: str) -> RawObject | None:
        """Read an object directly from the store; None if it does not exist."""

    @abc.abstractmethod
    async def delete(self, key: str) -> None:
        """Delete an object directly from the store."""

    @abc.abstractmethod
    async def keys(self) -> list[str]:
        """Return all keys in the store, including temporary ones."""

    @abc.abstractmethod
    async def uploads(self) -> list[str]:
        """Return the keys of all incomplete multipart uploads."""

    def own_key(self, key: str) -> str:
        """Convert a key in the bucket to the rig's key, for a rig that has only a part of its bucket."""
        return key

    async def check_nothing_temporary(self) -> None:
        """Check that no temporary key and no incomplete upload is left."""
        temporary = [key for key in await self.keys() if f"{TEMPORARY_FOLDER}/" in key]
        assert not temporary, f"temporary keys are left: {temporary}"
        assert not await self.uploads(), f"incomplete uploads are left: {await self.uploads()}"

    async def check_nothing_left(self) -> None:
        """Check that the store is empty and no task is running."""
        await self.check_nothing_temporary()
        assert not await self.keys(), f"keys are left: {await self.keys()}"
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and _is_ours(task)]
        assert not tasks, f"tasks still run: {tasks}"


def _is_ours(task: "asyncio.Task[Any]") -> bool:
    coroutine: Any = task.get_coro()
    code = getattr(coroutine, "cr_code", None)
    return code is not None and "lakery_cloud/testing" not in code.co_filename and "lakery_cloud" in code.co_filename
