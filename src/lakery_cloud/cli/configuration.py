"""`config`, `explain` and `storages`: what is configured, where each setting comes from, and what it does to content."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import ByteSize, TypeAdapter, ValidationError

from lakery_cloud.cli.common import (
    Json,
    Quiet,
    StorageUrl,
    counted,
    default_url,
    open_registry,
)
from lakery_cloud.cli.progress import note
from lakery_cloud.cli.records import STANDARD_INPUT
from lakery_cloud.cli.tags import read_tags
from lakery_cloud.config.building import build_registry, build_storages
from lakery_cloud.config.configuration import Configuration
from lakery_cloud.config.layers import FILE_NAME, find_file
from lakery_cloud.config.problems import name_of
from lakery_cloud.config.starter import STARTER
from lakery_cloud.digest import DEFAULT_ALGORITHM
from lakery_cloud.engine.attributes import check_tags
from lakery_cloud.errors import ConfigError
from lakery_cloud.files import DEFAULT_TYPE, guess_content_type
from lakery_cloud.routes import Content

config = App(name="config", help="Start, show and check the configuration.")


@config.command
def init(
    path: Path = Path(FILE_NAME),
    *,
    force: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a configuration to start with.

    Example: `lakery-cloud config init`

    Args:
        path: The file; by default lakery-cloud.toml in this folder.
        force: Write over a file that is there.
        quiet: Print nothing.
        as_json: Print JSON.
    """
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(STARTER.format(url=default_url()))
    except FileExistsError:
        raise ConfigError(f"{str(path)!r} is there already; --force writes over it") from None
    if as_json:
        print(json.dumps({"written": str(path)}))
    elif not quiet:
        print(f"written  {path}")


@config.command
def show(*, quiet: Quiet = False, as_json: Json = False) -> None:
    """Show each setting that is not a default, and where it comes from. Secrets are starred; references are shown.

    Example: `lakery-cloud config show`

    Args:
        quiet: Say nothing where nothing is configured.
        as_json: Print JSON, one object a line.
    """
    configuration = Configuration.load()
    found = list(_settings(configuration.model_dump(exclude_unset=True)))
    if not found and not quiet:
        note("nothing is configured: `lakery-cloud config init` writes a file")
    for path, value in found:
        place = configuration.place(*path)
        if as_json:
            print(json.dumps({"setting": name_of(path), "value": value, "origin": place}))
        else:
            print(f"{name_of(path)} = {json.dumps(value)}  # {place}")


@config.command
def check(*, quiet: Quiet = False, as_json: Json = False) -> None:
    """Read the configuration, find its secrets and make its storages. Nothing is sent. Exits with 2 if anything is wrong.

    Example: `lakery-cloud config check`

    Args:
        quiet: Print nothing: the exit code tells.
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
        counts = f"{counted(len(registry.names), 'storage')}, {counted(len(configuration.routes), 'route')}"
        print(f"right  {path or 'the environment'}  {counts}, default {registry.default.name}")


async def explain(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    storage: StorageUrl = None,
    content_type: Annotated[str | None, Parameter(name=["--content-type", "-t"])] = None,
    content_encoding: str | None = None,
    tag: Annotated[tuple[str, ...], Parameter(name="--tag", negative="", consume_multiple=False)] = (),
    size: str | None = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say where a file would be saved, by which rule, and where the credentials come from. Nothing is sent.

    Example: `lakery-cloud explain photo.jpg --tag tier=cold --size 64MiB`

    Args:
        file: A file, a name alone where none is there, or `-` for a stream of unknown size.
        storage: A configured storage or a URL, as put would be given it.
        content_type: Media type; by default guessed from the file's name.
        content_encoding: Content coding of the bytes, such as gzip.
        tag: A tag as key=value; may be given up to 10 times.
        size: Size, such as 64MiB; by default the file's.
        quiet: Print the permanent name of the storage alone.
        as_json: Print JSON.
    """
    path = Path(file)
    is_there = file != STANDARD_INPUT and path.is_file()
    content = Content(
        content_type=content_type or (DEFAULT_TYPE if file == STANDARD_INPUT else guess_content_type(path)),
        content_encoding=content_encoding,
        tags=check_tags(read_tags(tag)),
        size=_read_size(size) if size is not None else path.stat().st_size if is_there else None,
    )
    content_hash = await asyncio.to_thread(_hash_of, path) if is_there else None
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
        lines = value if isinstance(value, tuple) else [value or "not known before the end of the content"]
        for line in lines:
            print(f"{name:<{width}}  {line}")


def storages(*, quiet: Quiet = False, as_json: Json = False) -> None:
    """List the configured storages: key, permanent name, class, bucket and prefix, and where credentials come from.

    Example: `lakery-cloud storages`

    Args:
        quiet: Print the keys alone.
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
        note(f"none is configured; without --storage it is {default_url()}")


def _settings(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Path and value of each setting, lists of texts as they are."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _settings(inner, (*path, key))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _settings(inner, (*path, number))
    else:
        yield path, value if isinstance(value, bool | int | float | list | tuple) else str(value)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, DEFAULT_ALGORITHM).hexdigest()


def _read_size(text: str) -> int:
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise ConfigError(f"a size is a number with a unit, such as 64MiB, not {text!r}") from None
