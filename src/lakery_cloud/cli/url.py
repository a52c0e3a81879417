"""`url` signs a URL by which somebody without credentials may get content, or put it."""

import json
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lakery_cloud.cli.common import Json, StorageUrl, open_storage, record_of
from lakery_cloud.cli.files import read_line_of_stdin
from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.object_storage import URL_LIFETIME, ObjectStorage
from lakery_cloud.errors import ConfigError
from lakery_cloud.files import chunks_of, guess_content_type
from lakery_cloud.registry import ContentRecord
from lakery_cloud.storage import SerializedDataStream

STANDARD_INPUT = "-"


async def url(
    target: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    put: Annotated[bool, Parameter(negative="")] = False,
    expires: timedelta = URL_LIFETIME,
    storage: StorageUrl = None,
    as_json: Json = False,
) -> None:
    """Print a URL by which anybody may get content until it expires; with --put, one to put a file's content.

    Whoever has the URL needs no credentials: it is one. With --put the headers that the request must carry are printed to
    standard error, as curl takes them. The store then makes nothing but this content where it can check that.

    Example: `lakery-cloud url --expires 1d "$(cat report.record)" --storage s3://bucket/reports`

    Args:
        target: A record's JSON, a bare content hash, or `-` for a record on standard input; with --put a file or a record.
        put: To put content, which is not sent now.
        expires: How long the URL lasts, such as 15m or 7d, which is the longest.
        storage: URL of the storage.
        as_json: Print one JSON object: method, url, headers, expires_at, pins_content, and the record.
    """
    async with open_storage(storage) as source:
        if put and target != STANDARD_INPUT and not target.lstrip().startswith("{"):
            record = await _record_of_file(Path(target), source)
        else:
            record = await record_of(await read_line_of_stdin() if target == STANDARD_INPUT else target, source)
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
    for name, value in signed.headers.items():
        print(f"-H {shlex.quote(f'{name}: {value}')}", file=sys.stderr)
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
    return ContentRecord(
        content_type=digest["content_type"],
        content_encoding=digest["content_encoding"],
        content_hash=digest["content_hash"],
        content_hash_algorithm=digest["content_hash_algorithm"],
        content_size=digest["content_size"],
        storage_name=storage.name,
        storage_data=storage.serialize_storage_data(storage.storage_data_of(digest)),
    )
