"""`config`, `explain` and `storages`: show the configuration, the source of each setting, and where content is saved."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from lakery_cloud.cli.common import Json, Quiet, Repeated, StorageUrl, default_url, open_registry
from lakery_cloud.cli.progress import print_note
from lakery_cloud.cli.selection import read_size
from lakery_cloud.cli.tags import read_tags
from lakery_cloud.cli.words import STANDARD_INPUT, pluralize, printable
from lakery_cloud.config.building import build_registry, build_storages
from lakery_cloud.config.configuration import Configuration
from lakery_cloud.config.layers import FILE_NAME, find_file
from lakery_cloud.config.problems import name_of
from lakery_cloud.config.starter import STARTER
from lakery_cloud.digest import DEFAULT_ALGORITHM
from lakery_cloud.engine.attributes import check_tags
from lakery_cloud.errors import ConfigError
from lakery_cloud.files import DEFAULT_TYPE, guess_content_type
from lakery_cloud.redaction import redact
from lakery_cloud.routes import Content

config = App(name="config", help="Create, show and check the configuration.")


@config.command
def init(
    path: Path = Path(FILE_NAME),
    *,
    force: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write an initial configuration file.

    Example: `lakery-cloud config init`

    Args:
        path: The file to write. Defaults to lakery-cloud.toml in the current folder.
        force: Overwrite an existing file.
        quiet: Print nothing.
        as_json: Print JSON.
    """
    _check_is_no_folder(path)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(STARTER.format(url=default_url()))
    except FileExistsError:
        raise ConfigError(f"{str(path)!r} already exists; add --force to overwrite it") from None
    if as_json:
        print(json.dumps({"written": str(path)}))
    elif not quiet:
        print(f"written  {printable(str(path))}")


@config.command
def show(*, quiet: Quiet = False, as_json: Json = False) -> None:
    """Show each setting that is not a default, and its source. Secrets are masked; references to secrets are shown.

    Example: `lakery-cloud config show`

    Args:
        quiet: Print no note if the configuration is empty.
        as_json: Print JSON, one object a line.
    """
    configuration = Configuration.load()
    found = list(_iter_settings(configuration.model_dump(exclude_unset=True)))
    if not found and not quiet:
        print_note("the configuration is empty; create a file with `lakery-cloud config init`")
    for path, value in found:
        origin = configuration.place(*path)
        if as_json:
            print(json.dumps({"setting": name_of(path), "value": value, "origin": origin}))
        else:
            print(f"{name_of(path)} = {json.dumps(value)}  # {origin}")


@config.command
def check(*, quiet: Quiet = False, as_json: Json = False) -> None:
    """Read the configuration, resolve its secrets and create its storages, without any request. Exits with 2 on errors.

    Example: `lakery-cloud config check`

    Args:
        quiet: Print nothing; the exit code is the result.
        as_json: Print JSON.
    """
    path = find_file()
    configuration = Configuration.load(path)
    registry = build_registry(configuration)
    facts = {
        "file": str(path) if path else None,
        "storages": len(registry.names),
        "routes": len(configuration.routes),
        "default": registry.default.name,
    }
    if as_json:
        print(json.dumps(facts))
    elif not quiet:
        counts = f"{pluralize(len(registry.names), 'storage')}, {pluralize(len(configuration.routes), 'route')}"
        print(f"valid  {path or 'the environment'}  {counts}, default {registry.default.name}")


async def explain(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    storage: StorageUrl = None,
    content_type: Annotated[str | None, Parameter(name=["--content-type", "-t"])] = None,
    content_encoding: str | None = None,
    tag: Annotated[Repeated, Parameter(name="--tag")] = (),
    size: str | None = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show where a file would be saved, by which rule, and the source of the credentials, without any request.

    Example: `lakery-cloud explain photo.jpg --tag tier=cold --size 64MiB`

    Args:
        file: A file, which need not exist, or `-` for a stream of unknown size.
        storage: Name or URL of the storage, as for put.
        content_type: Media type; guessed from the file's name by default.
        content_encoding: Content encoding of the bytes, such as gzip.
        tag: A tag as key=value; repeat it for up to 10 tags.
        size: Size, such as 64MiB. Defaults to the file's size.
        quiet: Print only the permanent name of the storage.
        as_json: Print JSON.
    """
    path = Path(file)
    _check_is_no_folder(path)
    is_file = file != STANDARD_INPUT and path.is_file()
    content = Content(
        content_type=content_type or (DEFAULT_TYPE if file == STANDARD_INPUT else guess_content_type(path)),
        content_encoding=content_encoding,
        tags=check_tags(read_tags(tag)),
        size=read_size("--size", size) if size is not None else path.stat().st_size if is_file else None,
    )
    content_hash = await asyncio.to_thread(_hash_of, path) if is_file else None
    async with open_registry(storage) as registry:
        target = registry.default if storage else None
        facts = asdict(registry.explain(content, content_hash=content_hash, storage=target))
    if as_json:
        print(json.dumps(facts))
        return
    if quiet:
        print(facts["storage_name"])
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        lines = value if isinstance(value, tuple) else [value or "unknown before the content is read"]
        for line in lines:
            print(f"{name:<{width}}  {line}")


def storages(*, quiet: Quiet = False, as_json: Json = False) -> None:
    """List the configured storages: key, permanent name, bucket and prefix, and source of the credentials.

    Example: `lakery-cloud storages`

    Args:
        quiet: Print only the keys.
        as_json: Print JSON, one object a line.
    """
    configuration = Configuration.load()
    for key, storage in build_storages(configuration).items():
        facts = {
            "key": key,
            "name": storage.name,
            "place": f"{storage.url_scheme}://{storage.keys.bucket}/{storage.keys.prefix}",
            "credential_source": storage.credential_source(),
            "is_default": key == configuration.default_key,
        }
        if as_json:
            print(json.dumps(facts))
        elif quiet:
            print(key)
        else:
            mark = "  (default)" if facts["is_default"] else ""
            print(f"{key:<12}  {storage.name:<24}  {facts['place']}  {facts['credential_source']}{mark}")
    if not configuration.storages and not quiet:
        print_note(f"no storages are configured; the default is {default_url()}")


def _iter_settings(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield path and value of each setting. A list of strings is one setting."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _iter_settings(inner, (*path, key))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _iter_settings(inner, (*path, number))
    else:
        yield path, _redacted(value)


def _redacted(value: Any) -> Any:
    """The value of a setting without credentials, which a URL in the wrong place can have."""
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return value if isinstance(value, bool | int | float) else redact(str(value))


def _check_is_no_folder(path: Path) -> None:
    """Refuse a folder where one file is expected. An empty name is the current folder."""
    if path.is_dir():
        raise ConfigError(f"{str(path)!r} is a folder; name one file")


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, DEFAULT_ALGORITHM).hexdigest()
