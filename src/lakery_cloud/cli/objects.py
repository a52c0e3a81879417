"""`ls`, `stat` and `rm`: list, look up and delete stored content."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.filesize import decimal

from lakery_cloud.cli.common import (
    DEFAULT_JOBS,
    DryRun,
    Jobs,
    Json,
    Quiet,
    Records,
    Recursive,
    Repeated,
    StorageUrl,
    open_storage,
)
from lakery_cloud.cli.failures import Failures, error_text, result_of
from lakery_cloud.cli.progress import print_note
from lakery_cloud.cli.records import hashes_or_records
from lakery_cloud.cli.targets import (
    Target,
    call_for_each,
    is_storage,
    open_targets,
)
from lakery_cloud.cli.words import pluralize, printable
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.engine.object_storage import StoredObject
from lakery_cloud.errors import ConfigError, NoStorageData
from lakery_cloud.records import ContentRecord

if TYPE_CHECKING:
    from lakery_cloud.maintenance.live import LiveSet

FOUND = "found"


async def ls(
    *targets: str,
    records: Records = (),
    storage: StorageUrl = None,
    quarantine: Annotated[bool, Parameter(negative="")] = False,
    jobs: Jobs = DEFAULT_JOBS,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """List content: hash, size, time, and the file name if a records file has it.

    Without targets the command lists all content of the storage.

    Example: `lakery-cloud ls s3://bucket/reports`

    Example: `lakery-cloud ls 'ab*'`

    Args:
        targets: Names or URLs of storages to list all of, content hashes, patterns of hashes, or JSON of records.
        records: File with one record a line; `-` is standard input.
        storage: Name or URL of the storage.
        quarantine: List what is in quarantine instead of all content of a storage.
        jobs: Number of objects to look up at a time.
        quiet: Print no total.
        as_json: Print JSON, one object a line.
    """
    whole = [target for target in targets if is_storage(target)]
    named = [target for target in targets if target not in whole]
    is_default = not targets and not records
    failures = Failures(is_single=len(targets) == 1 and not records, has_lines=as_json)
    count = size = 0
    for source in [storage] if is_default else whole:
        async for content_hash, info in _list_storage(source, quarantine=quarantine):
            count, size = count + 1, size + info.size
            _print_listed(content_hash, info, as_json=as_json)
    if named or records:
        async with (
            open_targets(named, storage=storage, records=records, recursive=True) as found,
            aclosing(call_for_each(_stat, found, limit=jobs)) as results,
        ):
            async for target, result in results:
                if isinstance(result, Exception):
                    _print_failed(target, result, as_json=as_json)
                    failures.add(target.name, result)
                    continue
                _, stored = result
                count, size = count + 1, size + stored.info.size
                _print_listed(target.content_hash, stored.info, file=target.file, as_json=as_json)
    if not as_json and not quiet:
        print_note(f"{pluralize(count, 'object')}, {decimal(size)}")
    return failures.report()


async def stat(
    *targets: str,
    records: Records = (),
    recursive: Recursive = False,
    storage: StorageUrl = None,
    jobs: Jobs = DEFAULT_JOBS,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Show the properties of stored content: size, type, key, version, time and tags.

    Example: `lakery-cloud stat 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03`

    Args:
        targets: JSON of records, content hashes, or patterns of hashes; `hot/<hash>` is a hash in the storage hot.
        records: File with one record a line; `-` is standard input.
        recursive: Select all content that matches a pattern, such as 'ab*'.
        storage: Name or URL of the storage.
        jobs: Number of objects to look up at a time.
        quiet: Print nothing; the exit code is 0 if all content exists.
        as_json: Print JSON, one object a line.
    """
    if not targets and not records:
        raise ConfigError("no content given to look up; name records, content hashes or a records file")
    is_single = len(targets) == 1 and not records and not recursive
    failures = Failures(is_single=is_single, has_lines=as_json)
    async with (
        open_targets(targets, storage=storage, records=records, recursive=recursive) as found,
        aclosing(call_for_each(_stat, found, limit=jobs)) as results,
    ):
        is_first = True
        async for target, result in results:
            if isinstance(result, Exception):
                _print_failed(target, result, as_json=as_json)
                failures.add(target.name, result)
                continue
            if quiet and not as_json:
                continue
            record, stored = result
            if not is_first and not as_json:
                print()
            is_first = False
            _print_facts(_facts(stored.info, stored, record), as_json=as_json)
    return failures.report()


async def rm(
    *targets: str,
    records: Records = (),
    recursive: Recursive = False,
    storage: StorageUrl = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
    unless_referenced_by: Repeated = (),
    column: str = "content_hash",
    jobs: Jobs = DEFAULT_JOBS,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Delete content. Content that does not exist is not an error.

    All records of the same content share one object, so none of them can be loaded afterwards. Content that you select by
    a records file or a pattern is deleted only with --yes.

    Example: `lakery-cloud rm --dry-run 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03`

    Example: `lakery-cloud rm --records photos.jsonl --yes`

    Args:
        targets: JSON of records, content hashes, or patterns of hashes; `hot/<hash>` is a hash in the storage hot.
        records: File with one record a line; `-` is standard input.
        recursive: Select all content that matches a pattern, such as 'ab*'.
        storage: Name or URL of the storage.
        dry_run: Print what would be deleted, without deleting it.
        yes: Delete the content of records files and patterns.
        unless_referenced_by: File of records that are still needed, or a .csv or .parquet table; its content is kept.
        column: Name of the column of such a table that has content hashes or records.
        jobs: Number of objects to delete at a time.
        quiet: Print only failures.
        as_json: Print JSON, one object a line.
    """
    if not targets and not records:
        raise ConfigError("no content given to delete; name records, content hashes or a records file")
    is_dry = dry_run or (not yes and (bool(records) or recursive))
    is_single = len(targets) == 1 and not records and not recursive
    failures = Failures(is_single=is_single, has_lines=as_json)
    count = size = 0
    needed: LiveSet | None = None

    async def delete(target: Target) -> int | None:
        if needed is not None and needed.names(target.content_hash):
            return None
        record, stored = await _stat(target)
        if not is_dry:
            await target.registry.delete(record)
        return stored.info.size

    def print_result(target: Target, result: str, *, size: int | None = None) -> None:
        if as_json:
            print(_line(target, result, size=size))
        elif not quiet:
            print(f"{result}  {target.content_hash}" + (f"  {size}" if size is not None else ""))

    async with AsyncExitStack() as stack:
        if unless_referenced_by:
            from lakery_cloud.maintenance.live import live_set

            sources = [hashes_or_records(name, column) for name in unless_referenced_by]
            needed = stack.enter_context(await live_set(sources))
        found = await stack.enter_async_context(
            open_targets(targets, storage=storage, records=records, recursive=recursive)
        )
        results = await stack.enter_async_context(aclosing(call_for_each(delete, _unique(found), limit=jobs)))
        async for target, result in results:
            if result is None:
                print_result(target, "kept")
            elif isinstance(result, NoStorageData):
                print_result(target, "not there")
            elif isinstance(result, Exception):
                _print_failed(target, result, as_json=as_json)
                failures.add(target.name, result)
            else:
                count, size = count + 1, size + result
                print_result(target, "would be deleted" if is_dry else "deleted", size=result)
    if is_dry and not dry_run and not as_json and not quiet:
        print_note(f"{pluralize(count, 'object')}, {decimal(size)}: nothing was deleted; add --yes to delete them")
    return failures.report()


async def _list_storage(target: str | None, *, quarantine: bool) -> AsyncGenerator[tuple[str, ObjectInfo]]:
    async with open_storage(target) as source:
        if quarantine:
            from lakery_cloud.maintenance.shards import in_quarantine

            async with aclosing(in_quarantine(source)) as entries:
                async for entry in entries:
                    yield entry
            return
        async with aclosing(source.list()) as found:
            async for info in found:
                yield source.keys.hash_of(info.address.key) or "", info


async def _stat(target: Target) -> tuple[ContentRecord, StoredObject]:
    record = await target.record()
    return record, await target.storage.stat(target.storage.deserialize_storage_data(record.storage_data))


def _unique(targets: list[Target]) -> list[Target]:
    """Return the last target of each object, in order."""
    return list({(id(each.storage), each.content_hash): each for each in reversed(targets)}.values())[::-1]


def _facts(info: ObjectInfo, found: StoredObject, record: ContentRecord) -> dict[str, object]:
    return {
        "content_hash": record.content_hash,
        "content_hash_algorithm": record.content_hash_algorithm,
        "size": info.size,
        "content_type": info.content_type,
        "content_encoding": info.content_encoding,
        "bucket": info.address.bucket,
        "key": info.address.key,
        "version": info.version,
        "modified": info.modified.isoformat(timespec="seconds") if info.modified else None,
        "tags": dict(found.tags),
    }


def _print_listed(content_hash: str, info: ObjectInfo, *, file: str | None = None, as_json: bool) -> None:
    modified = info.modified.isoformat(timespec="seconds") if info.modified else None
    if as_json:
        line = {"content_hash": content_hash, "size": info.size, "result": FOUND, "error": None, "modified": modified}
        print(json.dumps(line if file is None else {**line, "file": file}))
    else:
        print(f"{content_hash}  {info.size:>14}  {modified or ''}" + (f"  {printable(file)}" if file else ""))


def _print_facts(facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"result": FOUND, "error": None, **facts}))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        text = ", ".join(f"{key}={tag}" for key, tag in sorted(value.items())) if isinstance(value, dict) else value
        print(f"{name:<{width}}  {'-' if text in (None, '') else text}")


def _print_failed(target: Target, error: Exception, *, as_json: bool) -> None:
    if as_json:
        print(_line(target, result_of(error), error=error))


def _line(target: Target, result: str, *, size: int | None = None, error: Exception | None = None) -> str:
    """Format the JSON of a target that was deleted, or that failed."""
    facts = {"content_hash": target.content_hash, "size": size, "result": result}
    file = {} if target.file is None else {"file": target.file}
    return json.dumps({**facts, "error": error_text(error) if error else None, **file})
