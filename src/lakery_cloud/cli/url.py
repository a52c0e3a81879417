"""`url` signs a URL by which somebody without credentials may get content, or put it."""

import json
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lakery_cloud.cli.common import (
    Json,
    Quiet,
    StorageUrl,
    open_storage,
)
from lakery_cloud.cli.progress import note
from lakery_cloud.cli.records import STANDARD_INPUT
from lakery_cloud.cli.targets import open_targets
from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.object_storage import URL_LIFETIME, ObjectStorage
from lakery_cloud.errors import ConfigError
from lakery_cloud.files import chunks_of, guess_content_type
from lakery_cloud.records import ContentRecord
from lakery_cloud.storage import SerializedDataStream


async def url(
    target: str,
    *,
    put: Annotated[bool, Parameter(negative="")] = False,
    expires: timedelta = URL_LIFETIME,
    storage: StorageUrl = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print a URL by which anybody may get content until it expires; with --put, one to put a file's content.

    Whoever has the URL needs no credentials: it is one. With --put the headers that the request must carry are printed to
    standard error, as curl takes them. The store then makes nothing but this content where it can check that.

    Example: `lakery-cloud url --expires 1d "$(cat report.record)" --storage s3://bucket/reports`

    Args:
        target: A record's JSON, a content hash, also after the name or URL of a storage, or `-` for a record on standard
            input; with --put a file or a record.
        put: To put content, which is not sent now.
        expires: How long the URL lasts, such as 15m or 7d, which is the longest.
        storage: URL of the storage.
        quiet: Print the URL alone, without the headers of a request to put.
        as_json: Print one JSON object: method, url, headers, expires_at, pins_content, and the record.
    """
    if put and target != STANDARD_INPUT and not target.lstrip().startswith("{"):
        async with open_storage(storage) as source:
            record = await _record_of_file(Path(target), source)
            signed = await source.presign(record.digest, method="PUT", expires=expires)
    else:
        async with open_targets([target], storage=storage) as (found,):
            record, source = await found.record(), found.storage
            content = record.digest if put else source.deserialize_storage_data(record.storage_data)
            signed = await source.presign(content, method="PUT" if put else "GET", expires=expires)
    if as_json:
        facts = {
            "method": signed.method,
            "url": signed.url,
            "headers": dict(signed.headers),
            "expires_at": signed.expires_at.isoformat(timespec="seconds"),
            "pins_content": signed.pins_content,
            "record": json.loads(record.to_json()),
        }
        print(json.dumps(facts))
        return
    if not quiet:
        for name, value in signed.headers.items():
            note(f"-H {shlex.quote(f'{name}: {value}')}")
    print(signed.url)


async def _record_of_file(path: Path, storage: ObjectStorage[Any]) -> ContentRecord:
    """The record that a file will have."""
    if not path.is_file():
        raise ConfigError(f"there is no file {str(path)!r}; with --put give a file, or a record's JSON")
    digesting = DigestingStream(
        SerializedDataStream(data_stream=chunks_of(path), content_type=guess_content_type(path), content_encoding=None)
    )
    async for _ in digesting:
        pass
    digest = digesting.get_digest()
    return ContentRecord.of(storage, digest, storage.storage_data_of(digest))
