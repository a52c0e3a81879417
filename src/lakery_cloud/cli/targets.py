"""Targets of commands: records, content hashes and patterns of hashes, each with an optional storage in front."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from lakery_cloud.cli.common import check_folder, is_path, open_registry, open_storage
from lakery_cloud.cli.failures import FAILURES
from lakery_cloud.cli.files import read_line_of_stdin
from lakery_cloud.cli.records import NamedRecord, read_records
from lakery_cloud.cli.words import STANDARD_INPUT
from lakery_cloud.config.urls import split_target
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import (
    AccessDenied,
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
MIN_DIGITS = 8
"""Fewest digits of a hash that are looked up."""
_FULL_LENGTHS = frozenset((32, 40, 56, 64, 96, 128))
"""Hexadecimal digits of the hashes of hashlib. Content with a hash of 64 or more is looked up without a listing."""


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
        if not _means_content(name):
            raise InvalidRecord(
                f"a content hash is lower-case hexadecimal, and at least its first {MIN_DIGITS} digits are needed, not "
                f"{brief(name)}; give a record, a hash, or the name or URL of a storage, a slash and a hash"
            )
        registry = await self._registry(storage)
        if PATTERN & {*name}:
            return await self._matching(registry, name)
        content_hash = name if len(name) >= 64 else await self._complete(registry, name)
        return [replace(_target_of_hash(registry, content_hash), name=given)]

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
        hashes = [each for each in await _hashes(registry) if fnmatchcase(each, pattern)]
        if not hashes:
            raise NoStorageData(f"no content hash in {registry.default!r} matches {pattern!r}")
        return [_target_of_hash(registry, each) for each in hashes]

    async def _complete(self, registry: StorageRegistry, digits: str) -> str:
        """Return the only content hash that begins with these digits, or that has no others."""
        try:
            hashes = await _hashes(registry, digits)
        except AccessDenied:
            if len(digits) not in _FULL_LENGTHS:
                raise
            return digits
        if digits in hashes or (not hashes and len(digits) in _FULL_LENGTHS):
            return digits
        if not hashes:
            raise NoStorageData(f"no content hash in {registry.default!r} begins with {digits!r}")
        if len(hashes) > 1:
            raise InvalidRecord(
                f"{len(hashes)} content hashes begin with {digits!r}, such as {hashes[0]}; give more digits"
            )
        return hashes[0]


async def _hashes(registry: StorageRegistry, digits: str = "") -> list[str]:
    """List the content hashes of the default storage that begin with these digits."""
    storage = as_object_storage(registry.default)
    await check_folder(storage)
    return [storage.keys.hash_of(info.address.key) or "" async for info in storage.list(hash_prefix=digits)]


def _means_content(name: str) -> bool:
    """Return whether the last part of a target is a hash, the beginning of one, or a pattern."""
    return bool(PATTERN & {*name}) or (len(name) >= MIN_DIGITS and {*name} <= {*"0123456789abcdef"})


def is_storage(given: str) -> bool:
    """Return whether an argument means a storage as a whole, by its URL, its folder or its configured name."""
    if _is_record(given):
        return False
    if "://" in given or is_path(given):
        _, name = split_target(given)
        return not _means_content(name) or (is_path(given) and os.path.isdir(os.path.expanduser(given)))
    if "@" in given:  # permanent names have one, hashes never
        return True
    from lakery_cloud.config.configuration import Configuration

    return given in Configuration.load().storages


def as_object_storage(storage: Storage[Any]) -> ObjectStorage[Any]:
    """Return the storage if it is an `ObjectStorage`, which all commands need.

    Raises:
        ConfigError: It is of another class.
    """
    if not isinstance(storage, ObjectStorage):
        raise ConfigError(f"{storage.name} is not an ObjectStorage, which this command needs")
    return storage


def _target_of_hash(registry: StorageRegistry, content_hash: str) -> Target:
    return Target(content_hash, registry, as_object_storage(registry.default), content_hash)


def _target_of_record(registry: StorageRegistry, named: NamedRecord) -> Target:
    record = named.record
    try:
        storage = as_object_storage(registry.get(record.storage_name))
    except NotRegistered as error:
        raise NotRegistered(f"{error}; select a storage of this kind with --storage") from None
    return Target(named.file or record.content_hash, registry, storage, record.content_hash, record, named.file)


def _is_record(text: str) -> bool:
    return text.lstrip().startswith("{")
