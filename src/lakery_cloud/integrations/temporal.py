"""Large payloads of Temporal in any storage, by its external storage. Installed with the extra `temporal`.

Source: temporalio 1.35, `converter/_extstore.py`, whose interface is experimental.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)
from temporalio.exceptions import ApplicationError

from lakery_cloud.digest import digest_data
from lakery_cloud.errors import (
    PERMANENT_ERRORS,
    AccessDenied,
    InvalidRecord,
    LakeryCloudError,
    NoStorageData,
    NotRegistered,
    ReadOnlyStorage,
)
from lakery_cloud.records import ContentRecord
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.routes import Content
from lakery_cloud.storage import SerializedData, SerializedDataStream, Storage
from lakery_cloud.streams.chunks import slices
from lakery_cloud.streams.tasks import bounded_tasks

T = TypeVar("T")
R = TypeVar("R")

CONTENT_TYPE = "application/x-protobuf"
RECORD = "record"
"""Name of the record in the data of a claim. Permanent: histories of workflows keep it."""
MiB = 1024**2
STREAMED = 50 * MiB
"""Bytes of a payload that is sent in parts, so that an interruption costs one of them."""
AT_A_TIME = 8
"""Payloads that a driver stores or retrieves at a time."""
NOT_RETRYABLE = (*PERMANENT_ERRORS, AccessDenied, InvalidRecord, NoStorageData, NotRegistered, ReadOnlyStorage)
"""Errors that Temporal does not retry: somebody must change something first."""


class LakeryDriver(StorageDriver):
    """Keeps payloads as content of a registry: by their hash, created once, and verified when they are read.

    Equal payloads are stored once, also across workflows. Claims hold the record, so each is read from the storage that
    wrote it, whatever the registry saves to today. Nothing here deletes payloads: see the page on garbage collection.

    Args:
        registry: Saves and loads payloads. It must stay open while workers and clients use the driver.
        storage: The storage to save to, or its name; by default that of the registry's routes, or its default.
        name: Name of the driver among those of an `ExternalStorage`. Permanent: histories of workflows keep it.

    Raises:
        NotRegistered, NameConflict, ReadOnlyStorage: The registry can't save to `storage`.
    """

    def __init__(
        self,
        registry: StorageRegistry,
        *,
        storage: Storage[Any] | str | None = None,
        name: str = "lakery_cloud",
    ) -> None:
        if storage is not None:
            registry.explain(Content(content_type=CONTENT_TYPE, content_encoding=None), storage=storage)
        self._registry = registry
        self._storage = storage
        self._name = name

    def name(self) -> str:
        """The name of this driver."""
        return self._name

    def type(self) -> str:
        """The type of this driver: the same for every name."""
        return "lakery_cloud"

    async def store(
        self,
        context: StorageDriverStoreContext,
        payloads: Sequence[Payload],
    ) -> list[StorageDriverClaim]:
        """Save payloads, and return a claim with the record of each.

        Raises:
            ApplicationError: A save failed; not retryable if a retry can't help.
        """
        return await _for_each(self._store, payloads)

    async def retrieve(
        self,
        context: StorageDriverRetrieveContext,
        claims: Sequence[StorageDriverClaim],
    ) -> list[Payload]:
        """Load the payloads of claims, verified.

        Raises:
            ApplicationError: A load failed; not retryable if a retry can't help.
        """
        return await _for_each(self._retrieve, claims)

    async def _store(self, payload: Payload) -> StorageDriverClaim:
        # Without it, the order of a payload's metadata and so its hash may differ between processes.
        data = payload.SerializeToString(deterministic=True)
        content = SerializedData(data=data, content_type=CONTENT_TYPE, content_encoding=None)
        if len(data) <= STREAMED:
            record = await self._registry.save(content, storage=self._storage)
        else:
            stream = SerializedDataStream(
                data_stream=slices(data, MiB), content_type=CONTENT_TYPE, content_encoding=None
            )
            record = await self._registry.save_stream(stream, storage=self._storage, digest=await digest_data(content))
        return StorageDriverClaim(claim_data={RECORD: record.to_json()})

    async def _retrieve(self, claim: StorageDriverClaim) -> Payload:
        if RECORD not in claim.claim_data:
            raise InvalidRecord(f"the claim has no {RECORD!r}, so another driver made it")
        record = ContentRecord.from_json(claim.claim_data[RECORD])
        payload, data = Payload(), (await self._registry.load(record))["data"]
        try:
            payload.ParseFromString(data)
        except DecodeError as error:
            raise InvalidRecord(f"the content {record.content_hash} is no payload of Temporal: {error}") from error
        return payload


async def _for_each(function: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
    """Call a function for several items at a time; the first failure cancels the others."""

    async def call(item: T) -> R:
        try:
            return await function(item)
        except LakeryCloudError as error:
            raise ApplicationError(
                str(error), type=type(error).__name__, non_retryable=isinstance(error, NOT_RETRYABLE)
            ) from error

    async with bounded_tasks(AT_A_TIME) as tasks:
        running = [await tasks.start(call(item)) for item in items]
    return [task.result() for task in running]
