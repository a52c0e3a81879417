"""`copy` verifies and copies content from one storage to another, also across clouds, and skips existing content."""

import dataclasses
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from lakery_cloud import errors
from lakery_cloud.digest import DEFAULT_ALGORITHM
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError
from lakery_cloud.maintenance.jobs import Job, OpenedOnUse, StorageSource
from lakery_cloud.maintenance.shard_copier import CopyOptions, ShardCopier, Transferred, likely_digest
from lakery_cloud.maintenance.shards import Shard, ShardResult, listed, plan
from lakery_cloud.maintenance.transfers import UNKNOWN_TYPE, Copied, CopyOutcome, RecordCopier, Watch
from lakery_cloud.records import ContentRecord
from lakery_cloud.redaction import redact
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.storage import Digest, Storage
from lakery_cloud.streams.tasks import side_by_side

logger = logging.getLogger("lakery_cloud")

COPIES_AT_A_TIME = 8


async def copy(
    source: StorageRegistry,
    destination: Storage[Any],
    *,
    records: Iterable[ContentRecord] | AsyncIterable[ContentRecord] | None = None,
    at_a_time: int = COPIES_AT_A_TIME,
    dry_run: bool = False,
    keep_tags: bool = True,
    quarantine: bool = False,
    verify_after: bool = False,
    select: Callable[[str, int], bool] | None = None,
    watch: Watch | None = None,
    note: Callable[[str], None] = logger.warning,
) -> AsyncGenerator[Copied]:
    """Copy the content of records, or all content of the source's default storage, and yield one result each, in order.

    The bytes pass through this process in parts, and are compared with the content hash before they appear at the
    destination. Content type and encoding come from the record. Content that the destination already has is skipped, so
    you can resume an interrupted copy by running it again. A failed copy doesn't stop the others, unless all others would
    fail with the same error.

    Without records, content is copied in the order of its hashes, and looked up in listings of both storages. If both are
    of one class and at one endpoint, the store copies, and no bytes pass through this process.

    Args:
        source: The registry that loads the records. Without records, its default storage is copied.
        destination: The storage to copy to.
        records: Records of the content to copy. Defaults to all listed content, without objects deleted meanwhile.
        at_a_time: Number of objects to copy at a time.
        dry_run: Look up what would be copied, without copying it.
        keep_tags: Copy tags too, which needs the permission to read them.
        quarantine: Without records, copy content that is in quarantine at the source too.
        verify_after: Read each object that the store has copied, unless the store has told its hash.
        select: Without records, called with the content hash and the size of each object; only those are copied for which
            it returns true. Defaults to all.
        watch: Called with the record and the chunks of each object that passes through this process; yields the chunks
            on, to show progress.
        note: Called with the reason if storages of one store are not copied inside of it. Logs it by default.

    Raises:
        ConfigError: `at_a_time` is less than 1, or there are no records and the default storage can't list its content.
        BucketNotFound: The bucket of the source or destination does not exist.
        CredentialsError: Credentials are missing or refused.
        AccessDenied: The permission to list the source is missing.
        StorageUnavailable: The source could not be reached, or failed while it was listed.
    """
    if at_a_time < 1:
        raise ConfigError(f"at_a_time must be at least 1, not {at_a_time}")
    copier = RecordCopier(source, destination, dry_run=dry_run, keep_tags=keep_tags, watch=watch)
    results: AsyncGenerator[Copied | None]
    if records is not None:
        results = side_by_side(copier.copy, records, limit=at_a_time)
    elif isinstance(destination, ObjectStorage):
        options = CopyOptions(
            at_a_time=at_a_time,
            dry_run=dry_run,
            keep_tags=keep_tags,
            quarantine=quarantine,
            verify_after=verify_after,
            select=select,
            watch=watch,
            note=note,
        )
        results = _copy_all(_listable(source.default), destination, options)
    else:
        storage = _listable(source.default)
        entries = (entry async for entry in listed(storage) if select is None or select(entry[0], entry[1].size))
        results = side_by_side(lambda entry: copier.copy_listed(storage, entry[0]), entries, limit=at_a_time)
    async with aclosing(results):
        async for copied in results:
            if copied is not None:
                logger.info("%s: %s", copied.source.content_hash, copied.outcome)
                yield copied


def _listable(storage: Storage[Any]) -> ObjectStorage[Any]:
    if not isinstance(storage, ObjectStorage):
        raise ConfigError(f"{storage.name} can't list its content; pass the records to copy")
    return storage


async def _copy_all(
    source: ObjectStorage[Any], destination: ObjectStorage[Any], options: CopyOptions
) -> AsyncGenerator[Copied]:
    """Copy all content, shard by shard."""
    copier = ShardCopier(source, destination, options)
    for shard in await plan(source, shards=1):
        async with aclosing(copier.copy(shard)) as transferred:
            async for each in transferred:
                yield _copied(source, destination, each)


def _copied(source: ObjectStorage[Any], destination: ObjectStorage[Any], transferred: Transferred) -> Copied:
    digest, outcome = transferred.digest, transferred.outcome
    if digest is None:
        return Copied(_record_of_unread(source, transferred), outcome, error=transferred.error)
    record = ContentRecord.of(source, digest, source.storage_data_of(digest))
    is_stored = outcome in (CopyOutcome.COPIED, CopyOutcome.DEDUPLICATED)
    made = ContentRecord.of(destination, digest, destination.storage_data_of(digest)) if is_stored else None
    return Copied(record, outcome, made, transferred.error)


def _record_of_unread(source: ObjectStorage[Any], transferred: Transferred) -> ContentRecord:
    """A record without the content's type, and without storage data if the key is no hash of an algorithm."""
    digest = likely_digest(transferred.content_hash, transferred.size)
    return ContentRecord(
        content_type=UNKNOWN_TYPE,
        content_encoding=None,
        content_hash=transferred.content_hash,
        content_hash_algorithm=digest["content_hash_algorithm"] if digest else DEFAULT_ALGORITHM,
        content_size=transferred.size,
        storage_name=source.name,
        storage_data=source.serialize_storage_data(source.storage_data_of(digest)) if digest else "",
    )


class CopyJob(Job):
    """`copy` of all content as a job.

    It counts `objects`, `bytes`, each `CopyOutcome` with its bytes as `<outcome> bytes`, and what was `copied in store`. It
    reports failures, and if wanted each object, as `copied_of` reads it; and as a `note` why storages of one store are not
    copied inside of it.

    Args:
        source: The storage to copy from.
        destination: The storage to copy to.
        at_a_time: Number of objects of a shard to copy at a time.
        dry_run: As for `copy`.
        keep_tags: As for `copy`.
        quarantine: As for `copy`.
        verify_after: As for `copy`.
        reports_all: Report each object, which costs a request for an object that is not read, unless listings tell its
            type.

    Raises:
        ConfigError: `at_a_time` is less than 1.
    """

    def __init__(
        self,
        source: StorageSource,
        destination: StorageSource,
        *,
        at_a_time: int = COPIES_AT_A_TIME,
        dry_run: bool = False,
        keep_tags: bool = True,
        quarantine: bool = False,
        verify_after: bool = False,
        reports_all: bool = False,
    ) -> None:
        super().__init__(source)
        if at_a_time < 1:
            raise ConfigError(f"at_a_time must be at least 1, not {at_a_time}")
        self._destination = OpenedOnUse(destination)
        self._copies_in_store: bool | None = None
        self._reports_all = reports_all
        self._options = CopyOptions(
            at_a_time=at_a_time,
            dry_run=dry_run,
            keep_tags=keep_tags,
            describes=reports_all,
            quarantine=quarantine,
            verify_after=verify_after,
        )

    def description(self) -> Mapping[str, Any]:
        """The job, with both storages."""
        return {
            "name": "copy",
            "storage": repr(self.storage),
            "destination": repr(self._destination.storage),
            "dry_run": self._options.dry_run,
            "keep_tags": self._options.keep_tags,
            "quarantine": self._options.quarantine,
            "verify_after": self._options.verify_after,
            "reports_all": self._reports_all,
        }

    async def run(self, shard: Shard, payload: bytes = b"") -> ShardResult:
        """Copy one shard."""
        counts: Counter[str] = Counter()
        findings: list[dict[str, Any]] = []

        def note(text: str) -> None:
            findings.append({"note": redact(text)})

        options = dataclasses.replace(self._options, note=note)
        copier = ShardCopier(self.storage, self._destination.storage, options)
        copier.copies_in_store = self._copies_in_store
        async with aclosing(copier.copy(shard)) as transferred:
            async for each in transferred:
                counts.update({"objects": 1, "bytes": each.size, each.outcome: 1, f"{each.outcome} bytes": each.size})
                counts["copied in store"] += each.is_in_store
                self.watch(1, each.size)
                if self._reports_all or each.error is not None:
                    findings.append(_finding(each))
        self._copies_in_store = copier.copies_in_store  # after a refusal, no other shard is refused again
        return ShardResult(shard, +counts, findings)

    async def aclose(self) -> None:
        """Close both storages on the running event loop."""
        await super().aclose()
        await self._destination.aclose()


def _finding(transferred: Transferred) -> dict[str, Any]:
    """What a job reports of an object; little, since a large bucket has many."""
    finding: dict[str, Any] = {
        "content_hash": transferred.content_hash,
        "size": transferred.size,
        "result": transferred.outcome.value,
    }
    if transferred.digest is not None:
        finding |= {
            "content_type": transferred.digest["content_type"],
            "content_encoding": transferred.digest["content_encoding"],
            "content_hash_algorithm": transferred.digest["content_hash_algorithm"],
        }
    if (error := transferred.error) is not None:
        public = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        finding["error"] = f"{public.__name__}: {redact(str(error))}"
    return finding


def copied_of(source: ObjectStorage[Any], destination: ObjectStorage[Any], finding: Mapping[str, Any]) -> Copied:
    """The result for an object that a `CopyJob` reports."""
    digest = None
    if "content_type" in finding:
        digest = Digest(
            content_type=finding["content_type"],
            content_encoding=finding["content_encoding"],
            content_hash_algorithm=finding["content_hash_algorithm"],
            content_hash=finding["content_hash"],
            content_size=finding["size"],
        )
    error = None
    if "error" in finding:
        name, _, text = finding["error"].partition(": ")
        error = getattr(errors, name)(text)
    outcome = CopyOutcome(finding["result"])
    return _copied(source, destination, Transferred(finding["content_hash"], finding["size"], outcome, digest, error))
