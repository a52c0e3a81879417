"""Targets of commands: records, content hashes and patterns of hashes, each with an optional storage in front."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from lakery_cloud.cli.common import open_registry, open_storage
from lakery_cloud.cli.failures import FAILURES
from lakery_cloud.cli.files import read_line_of_stdin
from lakery_cloud.cli.records import NamedRecord, read_records
from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.engine.keys import is_hash
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import (
    ConfigError,
    InvalidRecord,
    NoStorageData,
    NotRegistered,
    brief,
)
from lakery_cloud.records import ContentRecord
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.storage import Storage
from lakery_cloud.streams.tasks import side_by_side

R = TypeVar("R")

PATTERN = frozenset("*?[")
"""Characters by which a pattern differs from a hash."""


@dataclass(frozen=True, slots=True)
class Target:
    """One object that a command works on.

    Attributes:
        name: Its name in messages: its file name, else the hash.
        registry: The registry that loads it.
        storage: The storage that has it.
        content_hash: Its hash.
        known_record: Its record, if the user gave one.
        file: The file name in a records file, or None. It is untrusted input.
    """

    name: str
    registry: StorageRegistry
    storage: ObjectStorage[Any]
    content_hash: str
    known_record: ContentRecord | None = None
    file: str | None = None

    async def record(self) -> ContentRecord:
        """Return the given record, or look up the hash and make one.

        Raises:
            NoStorageData: The storage has no content with this hash.
        """
        if self.known_record is not None:
            return self.known_record
        digest = await self.storage.digest_of(self.content_hash)
        return ContentRecord.of(self.storage, digest, self.storage.storage_data_of(digest))


@asynccontextmanager
async def open_targets(
    texts: Sequence[str], *, storage: str | None, records: tuple[str, ...] = (), recursive: bool = False
) -> AsyncGenerator[list[Target]]:
    """Open the storages of all targets, and yield the targets in order. Nothing is yielded if one of them is invalid.

    Args:
        texts: JSON of records, hashes and patterns of hashes, the latter two with an optional storage and slash in
            front, or `STANDARD_INPUT` to read a record from there.
        storage: Name or URL of the storage for hashes and patterns without one.
        records: Records files.
        recursive: Whether patterns are allowed.

    Raises:
        InvalidRecord, NotRegistered, ConfigError: A target is invalid.
    """
    named = [NamedRecord(ContentRecord.from_json(text)) if _is_record(text) else text for text in texts]
    named += read_records(records)
    async with AsyncExitStack() as stack:
        resolver = _TargetResolver(stack, storage, recursive=recursive)
        yield [target for given in named for target in await resolver.resolve(given)]


async def call_for_each(
    function: Callable[[Target], Awaitable[R]], targets: Iterable[Target], *, limit: int
) -> AsyncGenerator[tuple[Target, R | Exception]]:
    """Call a function for several targets at a time, and yield each target with its result or error, in order."""

    async def attempt(target: Target) -> tuple[Target, R | Exception]:
        try:
            return target, await function(target)
        except FAILURES as error:
            return target, error

    async with aclosing(side_by_side(attempt, targets, limit=limit)) as results:
        async for result in results:
            yield result


class _TargetResolver:
    """Turns arguments into targets, and opens the storages that they name."""

    def __init__(self, stack: AsyncExitStack, storage: str | None, *, recursive: bool) -> None:
        self._stack = stack
        self._storage = storage
        self._recursive = recursive
        self._opened: dict[str, StorageRegistry] = {}

    async def resolve(self, given: str | NamedRecord) -> list[Target]:
        """Return the targets of one argument, or of one line of a records file."""
        if given == STANDARD_INPUT:
            given = NamedRecord(ContentRecord.from_json(await read_line_of_stdin()))
        if isinstance(given, NamedRecord):
            return [_target_of_record(await self._registry(""), given)]
        storage, name = split_target(given)
        if not (is_hash(name) or PATTERN & {*name}):
            raise InvalidRecord(
                f"a content hash is at least 16 lower-case hexadecimal digits, not {brief(name)}; give a record, a hash, "
                "or the name or URL of a storage, a slash and a hash"
            )
        registry = await self._registry(storage)
        if PATTERN & {*name}:
            return await self._matching(registry, name)
        return [replace(_target_of_hash(registry, name), name=given)]

    async def _registry(self, storage: str) -> StorageRegistry:
        """Return a registry of the storage that a target names; without a name, the registry of --storage."""
        if storage not in self._opened:
            if storage:
                registry = StorageRegistry([await self._stack.enter_async_context(open_storage(storage))])
            else:
                registry = await self._stack.enter_async_context(open_registry(self._storage))
            self._opened[storage] = registry
        return self._opened[storage]

    async def _matching(self, registry: StorageRegistry, pattern: str) -> list[Target]:
        if not self._recursive:
            raise ConfigError(f"{pattern!r} is a pattern of hashes; add -r to select all matching content")
        storage = _as_object_storage(registry.default)
        hashes = [storage.keys.hash_of(info.address.key) or "" async for info in storage.list()]
        found = [_target_of_hash(registry, each) for each in hashes if fnmatchcase(each, pattern)]
        if not found:
            raise NoStorageData(f"no content hash in {storage!r} matches {pattern!r}")
        return found


def split_target(given: str) -> tuple[str, str]:
    """Split `hot/<hash>` or `s3://bucket/prefix/<hash>?...` into key or URL of the storage, and hash or pattern.

    Raises:
        ConfigError: The argument is a malformed URL.
    """
    if "://" not in given:
        place, _, name = given.rpartition("/")
        return place, name
    try:
        parts = urlsplit(given)
    except ValueError as error:
        raise ConfigError(f"the URL of a target is malformed: {error}") from None
    path, _, name = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=path)), name


def is_storage(given: str) -> bool:
    """Return whether an argument means a storage as a whole, by its URL or its configured name."""
    if _is_record(given):
        return False
    if "://" in given:
        _, name = split_target(given)
        return not (is_hash(name) or PATTERN & {*name})
    if "@" in given:  # permanent names have one, hashes never
        return True
    from lakery_cloud.config.configuration import Configuration

    return given in Configuration.load().storages


def _as_object_storage(storage: Storage[Any]) -> ObjectStorage[Any]:
    """Return the storage if it is an `ObjectStorage`, which all commands need.

    Raises:
        ConfigError: It is of another class.
    """
    if not isinstance(storage, ObjectStorage):
        raise ConfigError(f"{storage.name} is not an ObjectStorage, which this command needs")
    return storage


def _target_of_hash(registry: StorageRegistry, content_hash: str) -> Target:
    return Target(content_hash, registry, _as_object_storage(registry.default), content_hash)


def _target_of_record(registry: StorageRegistry, named: NamedRecord) -> Target:
    record = named.record
    try:
        storage = _as_object_storage(registry.get(record.storage_name))
    except NotRegistered as error:
        raise NotRegistered(f"{error}; select a storage of this kind with --storage") from None
    return Target(named.file or record.content_hash, registry, storage, record.content_hash, record, named.file)


def _is_record(text: str) -> bool:
    return text.lstrip().startswith("{")
