"""`url` signs a URL that gets or puts content without credentials."""

import json
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lakery_cloud.cli.common import Json, Quiet, StorageUrl, open_storage
from lakery_cloud.cli.progress import print_note
from lakery_cloud.cli.put import digest_of
from lakery_cloud.cli.targets import open_targets
from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.engine.object_storage import URL_LIFETIME, ObjectStorage
from lakery_cloud.engine.urls import check_lifetime
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
    """Print a URL that gets content until it expires, or with --put one that puts a file's content.

    The URL is itself a credential: its holder needs no other. With --put the command prints the headers that the request
    must have to standard error, as options of curl. A store that can check the content then accepts no other.

    Example: `lakery-cloud url --expires 1d "$(cat report.record)" --storage s3://bucket/reports`

    Args:
        target: JSON of a record, or a content hash; `hot/<hash>` is a hash in the storage hot; `-` reads a record from
            standard input. With --put a file or a record.
        put: Sign a URL that puts content. The command itself sends nothing.
        expires: Lifetime of the URL, such as 15m; at most 7d.
        storage: Name or URL of the storage.
        quiet: Print only the URL, without the headers of --put.
        as_json: Print one JSON object: method, url, headers, expires_at, pins_content and record.
    """
    if put and target != STANDARD_INPUT and not target.lstrip().startswith("{"):
        path = Path(target)
        if not path.is_file():
            raise ConfigError(f"no file {target!r} exists; --put needs a file or the JSON of a record")
        async with open_storage(storage, is_written=True) as source:
            check_lifetime(expires, longest=source.max_url_lifetime, storage=source.name)
            record = await _record_of_file(path, source)
            signed = await source.presign(record.digest, method="PUT", expires=expires)
    else:
        async with open_targets([target], storage=storage) as (found,):
            check_lifetime(expires, longest=found.storage.max_url_lifetime, storage=found.storage.name)
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
            print_note(f"-H {shlex.quote(f'{name}: {value}')}")
    print(signed.url)


async def _record_of_file(path: Path, storage: ObjectStorage[Any]) -> ContentRecord:
    """Return the record that a file will have."""
    digest = await digest_of(
        SerializedDataStream(data_stream=chunks_of(path), content_type=guess_content_type(path), content_encoding=None)
    )
    return ContentRecord.of(storage, digest, storage.storage_data_of(digest))
