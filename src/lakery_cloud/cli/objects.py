"""`ls`, `stat` and `rm`: looking at what is stored, and deleting it."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from cyclopts import Parameter
from rich.filesize import decimal

from lakery_cloud.cli.common import (
    AT_A_TIME,
    Jobs,
    Json,
    Quiet,
    Records,
    Recursive,
    StorageUrl,
    counted,
    open_storage,
)
from lakery_cloud.cli.failures import Failures
from lakery_cloud.cli.progress import note, printable
from lakery_cloud.cli.targets import (
    Target,
    attempts,
    is_storage,
    open_targets,
)
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.engine.object_storage import StoredObject
from lakery_cloud.errors import ConfigError, NoStorageData
from lakery_cloud.records import ContentRecord


async def ls(
    *targets: str,
    records: Records = (),
    storage: StorageUrl = None,
    jobs: Jobs = AT_A_TIME,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """List content: hash, size and time, and the name of its file where a records file says that.

    Without targets it lists all content of the storage.

    Example: `lakery-cloud ls s3://bucket/reports`

    Example: `lakery-cloud ls 'ab*'`

    Args:
        targets: Names or URLs of storages, which are listed whole; hashes, patterns of hashes, or records' JSON.
        records: File of records, one a line; `-` is standard input.
        storage: URL of the storage.
        jobs: How many are looked up at a time.
        quiet: Show no sum.
        as_json: Print JSON, one object a line.
    """
    whole = [target for target in targets if is_storage(target)]
    named = [target for target in targets if target not in whole]
    is_default = not targets and not records
    failures = Failures(alone=len(targets) == 1 and not records)
    count = size = 0
    for source in [storage] if is_default else whole:
        async for content_hash, info in _all_of(source):
            count, size = count + 1, size + info.size
            _print_listed(content_hash, info, as_json=as_json)
    if named or records:
        async with (
            open_targets(named, storage=storage, records=records, recursive=True) as found,
            aclosing(attempts(_stat, found, limit=jobs)) as looked,
        ):
            async for target, result in looked:
                if isinstance(result, Exception):
                    failures.note(target.name, result)
                    continue
                _, stored = result
                count, size = count + 1, size + stored.info.size
                _print_listed(target.content_hash, stored.info, file=target.file, as_json=as_json)
    if not as_json and not quiet:
        note(f"{counted(count, 'object')}, {decimal(size)}")
    return failures.tell()


async def stat(
    *targets: str,
    records: Records = (),
    recursive: Recursive = False,
    storage: StorageUrl = None,
    jobs: Jobs = AT_A_TIME,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Show what the store says about stored content.

    Example: `lakery-cloud stat 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03`

    Args:
        targets: Records' JSON, hashes or patterns of hashes, also after the name or URL of a storage: `hot/<hash>`.
        records: File of records, one a line; `-` is standard input.
        recursive: Take all content that matches a pattern, such as 'ab*'.
        storage: URL of the storage.
        jobs: How many are looked up at a time.
        quiet: Print nothing: the exit code tells whether all of them are there.
        as_json: Print JSON, one object a line.
    """
    if not targets and not records:
        raise ConfigError("nothing to look at was given; name records, content hashes or a records file")
    failures = Failures(alone=len(targets) == 1 and not records and not recursive)
    async with (
        open_targets(targets, storage=storage, records=records, recursive=recursive) as found,
        aclosing(attempts(_stat, found, limit=jobs)) as looked,
    ):
        is_first = True
        async for target, result in looked:
            if isinstance(result, Exception):
                failures.note(target.name, result)
                continue
            if quiet and not as_json:
                continue
            record, stored = result
            if not is_first and not as_json:
                print()
            is_first = False
            _print_facts(_facts(stored.info, stored, record), as_json=as_json)
    return failures.tell()


async def rm(
    *targets: str,
    records: Records = (),
    recursive: Recursive = False,
    storage: StorageUrl = None,
    dry_run: Annotated[bool, Parameter(name=["--dry-run", "-n"], negative="")] = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
    jobs: Jobs = AT_A_TIME,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Delete content. What is not there is no error.

    Other records of the same content point to the same object: they can't be loaded any more either. What a records file
    or a pattern names is deleted only with --yes.

    Example: `lakery-cloud rm --dry-run 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03`

    Example: `lakery-cloud rm --records photos.jsonl --yes`

    Args:
        targets: Records' JSON, hashes or patterns of hashes, also after the name or URL of a storage: `hot/<hash>`.
        records: File of records, one a line; `-` is standard input.
        recursive: Take all content that matches a pattern, such as 'ab*'.
        storage: URL of the storage.
        dry_run: Say what would be deleted, and delete nothing.
        yes: Delete what a records file or a pattern names, too.
        jobs: How many are deleted at a time.
        quiet: Print nothing but failures.
        as_json: Print JSON, one object a line.
    """
    if not targets and not records:
        raise ConfigError("nothing to delete was given; name records, content hashes or a records file")
    only_looks = dry_run or (not yes and (bool(records) or recursive))
    failures = Failures(alone=len(targets) == 1 and not records and not recursive)
    count = size = 0

    async def delete(target: Target) -> int:
        record, stored = await _stat(target)
        if not only_looks:
            await target.registry.delete(record)
        return stored.info.size

    def tell(target: Target, done: str, *, size: int | None = None) -> None:
        if as_json or not quiet:
            _print_deleted(target.content_hash, done, size=size, as_json=as_json)

    async with (
        open_targets(targets, storage=storage, records=records, recursive=recursive) as found,
        aclosing(attempts(delete, _once(found), limit=jobs)) as done,
    ):
        async for target, result in done:
            if isinstance(result, NoStorageData):
                tell(target, "not there")
            elif isinstance(result, Exception):
                failures.note(target.name, result)
            else:
                count, size = count + 1, size + result
                tell(target, "would be deleted" if only_looks else "deleted", size=result)
    if only_looks and not dry_run and not as_json and not quiet:
        note(f"{counted(count, 'object')}, {decimal(size)}: nothing was deleted; delete them with --yes")
    return failures.tell()


async def _all_of(target: str | None) -> AsyncGenerator[tuple[str, ObjectInfo]]:
    async with open_storage(target) as source, aclosing(source.list()) as found:
        async for info in found:
            yield source.keys.hash_of(info.address.key) or "", info


async def _stat(target: Target) -> tuple[ContentRecord, StoredObject]:
    record = await target.record()
    return record, await target.storage.stat(target.storage.deserialize_storage_data(record.storage_data))


def _once(targets: list[Target]) -> list[Target]:
    """The targets without those that are the same object again."""
    return list({(id(each.storage), each.content_hash): each for each in reversed(targets)}.values())[::-1]


def _facts(info: ObjectInfo, found: StoredObject, record: ContentRecord) -> dict[str, object]:
    return {
        "content_hash": record.content_hash,
        "content_hash_algorithm": record.content_hash_algorithm,
        "content_size": info.size,
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
        line = {"content_hash": content_hash, "content_size": info.size, "modified": modified}
        print(json.dumps(line if file is None else {**line, "file": file}))
    else:
        print(f"{content_hash}  {info.size:>14}  {modified or ''}" + (f"  {printable(file)}" if file else ""))


def _print_facts(facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        text = ", ".join(f"{key}={tag}" for key, tag in sorted(value.items())) if isinstance(value, dict) else value
        print(f"{name:<{width}}  {'-' if text in (None, '') else text}")


def _print_deleted(target: str, done: str, *, size: int | None = None, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"target": target, "result": done, "content_size": size}))
    else:
        print(f"{done}  {target}" + (f"  {size}" if size is not None else ""))
