"""`ls`, `stat` and `rm`: looking at what is stored, and deleting it."""

import json
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.filesize import decimal

from lakery_cloud.cli.common import Json, StorageUrl, counted, open_storage, record_of
from lakery_cloud.engine.object_storage import StoredObject
from lakery_cloud.engine.transport import ObjectInfo
from lakery_cloud.errors import ConfigError, NoStorageData
from lakery_cloud.registry import ContentRecord


async def ls(*, storage: StorageUrl = None, as_json: Json = False) -> None:
    """List the content of a storage: hash, size and time.

    Example: `lakery-cloud ls --storage s3://bucket/reports`

    Args:
        storage: URL of the storage.
        as_json: Print JSON, one object a line.
    """
    count = size = 0
    async with open_storage(storage) as source:
        async for info in source.list():
            count, size = count + 1, size + info.size
            content_hash = source.keys.hash_of(info.address.key) or ""
            modified = info.modified.isoformat(timespec="seconds") if info.modified else None
            if as_json:
                print(json.dumps({"content_hash": content_hash, "content_size": info.size, "modified": modified}))
            else:
                print(f"{content_hash}  {info.size:>14}  {modified or ''}")
    if not as_json:
        Console(stderr=True).print(f"{counted(count, 'object')}, {decimal(size)}", highlight=False)


async def stat(target: str, *, storage: StorageUrl = None, as_json: Json = False) -> None:
    """Show what the store says about stored content.

    Example: `lakery-cloud stat 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03`

    Args:
        target: A record's JSON or a bare content hash.
        storage: URL of the storage.
        as_json: Print JSON.
    """
    async with open_storage(storage) as source:
        record = await record_of(target, source)
        found = await source.stat(source.deserialize_storage_data(record.storage_data))
    facts = _facts(found.info, found, record)
    if as_json:
        print(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        text = ", ".join(f"{key}={tag}" for key, tag in sorted(value.items())) if isinstance(value, dict) else value
        print(f"{name:<{width}}  {'-' if text in (None, '') else text}")


async def rm(
    *targets: str,
    storage: StorageUrl = None,
    dry_run: Annotated[bool, Parameter(name=["--dry-run", "-n"], negative="")] = False,
    as_json: Json = False,
) -> None:
    """Delete content. What is not there is no error.

    Other records of the same content point to the same object: they can't be loaded any more either.

    Example: `lakery-cloud rm --dry-run 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03`

    Args:
        targets: Records' JSON or bare content hashes.
        storage: URL of the storage.
        dry_run: Say what would be deleted, and delete nothing.
        as_json: Print JSON, one object a line.
    """
    if not targets:
        raise ConfigError("nothing to delete was given; name records or content hashes")
    async with open_storage(storage) as source:
        for target in targets:
            try:
                record = await record_of(target, source)
                storage_data = source.deserialize_storage_data(record.storage_data)
                found = await source.stat(storage_data)
            except NoStorageData:
                _print_deleted(target, "not there", as_json=as_json)
                continue
            if not dry_run:
                await source.delete(storage_data)
            done = "would be deleted" if dry_run else "deleted"
            _print_deleted(record.content_hash, done, size=found.info.size, as_json=as_json)


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


def _print_deleted(target: str, done: str, *, size: int | None = None, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"target": target, "result": done, "content_size": size}))
    else:
        print(f"{done}  {target}" + (f"  {size}" if size is not None else ""))
