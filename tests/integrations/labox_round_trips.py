"""Round trips through labox's own saver and loader, with its database. It prints its results as JSON.

It runs in a process of its own, with labox and the packages that it needs: `labox_round_trips.py <URL> [endpoint]`. With an
endpoint, it also writes by labox's own S3 storage.
"""

import asyncio
import hashlib
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

from labox.builtin import StorableStream, StorableValue, json_serializer, json_stream_serializer
from labox.builtin.storables.simple import StorableStreamUnpacker, StorableValueUnpacker
from labox.core import BaseRecord, ContentRecord, Registry, load_one, save_one
from labox.core.api.saver import _wrap_stream_dump
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from lakery_cloud import ReadOnlyStorage, storage_from_url
from lakery_cloud.integrations.labox import labox_storages

VALUE = {"number": 1, "text": "x" * 1000}
ROWS = [{"row": number, "text": "y" * 1000} for number in range(1000)]


async def rows() -> Any:
    for row in ROWS:
        yield row


def registry_of(*storages: Any) -> Registry:
    return Registry(
        storages=storages,
        default_storage=storages[0],
        serializers=[json_serializer, json_stream_serializer],
        storables=[StorableValue, StorableStream],
        unpackers=[StorableValueUnpacker(), StorableStreamUnpacker()],
    )


async def save(registry: Registry, session: AsyncSession) -> list[Any]:
    value = await save_one(StorableValue(VALUE), tags={"project": "labox"}, registry=registry, session=session)
    stream = await save_one(StorableStream(rows()), registry=registry, session=session)
    return [value, stream]


async def load(manifests: list[Any], registry: Registry, session: AsyncSession) -> list[bool]:
    value, stream = manifests
    loaded = await load_one(value, StorableValue, registry=registry, session=session)
    async with AsyncExitStack() as stack:
        opened = await load_one(stream, StorableStream, registry=registry, session=session, stack=stack)
        return [loaded.value == VALUE, [row async for row in opened.value_stream] == ROWS]


async def crossed(storage: Any) -> list[bool]:
    """Whether a value and a stream come back, each as a value and as a stream: the four round trips of labox's own tests."""
    value = json.dumps(VALUE).encode()
    digest = {
        "content_encoding": None,
        "content_hash": hashlib.sha256(value).hexdigest(),
        "content_hash_algorithm": "sha256",
        "content_size": len(value),
        "content_type": "application/json",
    }
    chunks = [json.dumps(row).encode() for row in ROWS]

    async def stream() -> Any:
        for chunk in chunks:
            yield chunk

    dump = {"data_stream": stream(), "content_type": "text/plain", "content_encoding": None}
    hashed, get_digest = _wrap_stream_dump(dump)  # as the saver passes streams
    configs = [
        await storage.write_data(value, digest, {}),
        await storage.write_data_stream(hashed, get_digest, {}),
    ]
    found = []
    for config, expected in zip(configs, (value, b"".join(chunks)), strict=True):
        found.append(await storage.read_data(config) == expected)
        found.append(b"".join([chunk async for chunk in storage.read_data_stream(config)]) == expected)
    return found


async def main(url: str, endpoint: str | None = None) -> dict[str, Any]:
    engine = create_async_engine("sqlite+aiosqlite://")
    await BaseRecord.create_all(engine)
    async with storage_from_url(url) as storage, AsyncSession(engine, expire_on_commit=False) as session:
        bridges = labox_storages(storage)
        ours = registry_of(*bridges)
        manifests = await save(ours, session)
        await save(ours, session)
        records = (await session.scalars(select(ContentRecord))).all()
        found: dict[str, Any] = {
            "loaded": await load(manifests, ours, session),
            "names": sorted({record.storage_name for record in records}),
            "data": sorted({record.storage_config for record in records}),
            "stored": len([info async for info in storage.list()]),
        }
        for reader in bridges[1:]:
            try:
                await save(registry_of(reader), session)
            except* ReadOnlyStorage:
                found.setdefault("readers", []).append(reader.name)
        found["crossed"] = await crossed(bridges[0])
        if endpoint is not None:
            theirs = registry_of(_labox_s3(storage.keys.bucket, endpoint))
            found["theirs"] = await load(await save(theirs, session), ours, session)
    await engine.dispose()
    return found


def _labox_s3(bucket: str, endpoint: str) -> Any:
    import boto3
    from labox.extra.aws import S3Storage, simple_s3_router

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    return S3Storage(s3_client=client, s3_router=simple_s3_router(bucket))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
