"""What the targets of a command mean: records, hashes and patterns of hashes, also after the name or URL of a storage."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from lakery_cloud.cli.common import open_registry, open_storage
from lakery_cloud.cli.failures import FAILURES
from lakery_cloud.cli.files import read_line_of_stdin
from lakery_cloud.cli.records import STANDARD_INPUT, NamedRecord, read_records
from lakery_cloud.config.configuration import Configuration
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
from lakery_cloud.streams.tasks import side_by_side

R = TypeVar("R")

PATTERN = frozenset("*?[")
"""Characters that make a hash a pattern."""


@dataclass(frozen=True, slots=True)
class Target:
    """One content that a command works on.

    Attributes:
        name: What the user called it: the name of a file, else the hash.
        registry: What loads it.
        storage: Where it is.
        content_hash: Its hash.
        known: Its record, where the user gave that.
        file: Name of the file that it was saved from, where a records file says so. It is untrusted input.
    """

    name: str
    registry: StorageRegistry
    storage: ObjectStorage[Any]
    content_hash: str
    known: ContentRecord | None = None
    file: str | None = None

    async def record(self) -> ContentRecord:
        """Its record, which a bare hash is looked up for.

        Raises:
            NoStorageData: No such content is stored.
        """
        if self.known is not None:
            return self.known
        digest = await self.storage.digest_of(self.content_hash)
        return ContentRecord.of(self.storage, digest, self.storage.storage_data_of(digest))


@asynccontextmanager
async def open_targets(
    texts: Sequence[str], *, storage: str | None, records: tuple[str, ...] = (), recursive: bool = False
) -> AsyncGenerator[list[Target]]:
    """The targets that were given, in their order, on open storages. All of it is looked at before anything is done.

    Args:
        texts: Records' JSON, hashes and patterns of hashes, alone or after the name or URL of a storage and a slash, or
            `-` for a record on standard input.
        storage: Name or URL of the storage that bare hashes and patterns are looked up in.
        records: Records files.
        recursive: Whether patterns are allowed.

    Raises:
        InvalidRecord, NotRegistered, ConfigError: What was given can't be meant.
    """
    named = [NamedRecord(ContentRecord.from_json(text)) if _is_record(text) else text for text in texts]
    named += read_records(records)
    async with AsyncExitStack() as stack:
        finder = _Finder(stack, storage, recursive=recursive)
        yield [target for given in named for target in await finder.find(given)]


async def attempts(
    function: Callable[[Target], Awaitable[R]], targets: Iterable[Target], *, limit: int
) -> AsyncGenerator[tuple[Target, R | Exception]]:
    """Call a function for several targets at a time: each target, in order, with its result or what befell it."""

    async def attempt(target: Target) -> tuple[Target, R | Exception]:
        try:
            return target, await function(target)
        except FAILURES as error:
            return target, error

    async with aclosing(side_by_side(attempt, targets, limit=limit)) as results:
        async for result in results:
            yield result


class _Finder:
    """Finds out what one target means."""

    def __init__(self, stack: AsyncExitStack, storage: str | None, *, recursive: bool) -> None:
        self._stack = stack
        self._storage = storage
        self._recursive = recursive
        self._opened: dict[str, StorageRegistry] = {}

    async def find(self, given: str | NamedRecord) -> list[Target]:
        """The targets that one word, or one line of a records file, stands for."""
        if given == STANDARD_INPUT:
            given = NamedRecord(ContentRecord.from_json(await read_line_of_stdin()))
        if isinstance(given, NamedRecord):
            return [_of_record(await self._registry(""), given)]
        place, name = split_target(given)
        if not (is_hash(name) or PATTERN & {*name}):
            raise InvalidRecord(
                f"a content hash is at least 16 lower-case hexadecimal digits, not {brief(name)}; give a record, a hash, "
                "or both the name or URL of a storage and a hash, with a slash between them"
            )
        registry = await self._registry(place)
        if PATTERN & {*name}:
            return await self._matching(registry, name)
        return [replace(_of_hash(registry, name), name=given)]

    async def _registry(self, place: str) -> StorageRegistry:
        """The storage that a target names before its last slash; without one, what is configured or --storage says."""
        if place not in self._opened:
            if place:
                registry = StorageRegistry([await self._stack.enter_async_context(open_storage(place))])
            else:
                registry = await self._stack.enter_async_context(open_registry(self._storage))
            self._opened[place] = registry
        return self._opened[place]

    async def _matching(self, registry: StorageRegistry, pattern: str) -> list[Target]:
        if not self._recursive:
            raise ConfigError(f"{pattern!r} is a pattern of hashes; give -r to take all that match")
        storage = as_object_storage(registry)
        hashes = [storage.keys.hash_of(info.address.key) or "" async for info in storage.list()]
        found = [_of_hash(registry, each) for each in hashes if fnmatchcase(each, pattern)]
        if not found:
            raise NoStorageData(f"no content in {storage!r} has a hash like {pattern!r}")
        return found


def split_target(given: str) -> tuple[str, str]:
    """Key or URL of a storage, or nothing, and the hash or pattern: of `hot/<hash>` and `s3://bucket/prefix/<hash>?...`.

    Raises:
        ConfigError: It is a malformed URL.
    """
    if "://" not in given:
        place, _, name = given.rpartition("/")
        return place, name
    try:
        parts = urlsplit(given)
    except ValueError as error:
        raise ConfigError(f"the URL of stored content is malformed: {error}") from None
    path, _, name = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=path)), name


def is_storage(given: str) -> bool:
    """Whether a word is the URL of a storage or the name of a configured one, and no content in it."""
    if _is_record(given):
        return False
    if "://" in given:
        _, name = split_target(given)
        return not (is_hash(name) or PATTERN & {*name})
    return "@" in given or given in Configuration.load().storages  # no hash and no pattern has an @, each name has one


def as_object_storage(registry: StorageRegistry) -> ObjectStorage[Any]:
    """The default storage of a registry, which every command can look into.

    Raises:
        ConfigError: It is a storage of another kind.
    """
    storage = registry.default
    if not isinstance(storage, ObjectStorage):
        raise ConfigError(f"{storage.name} holds no objects that this command could look at")
    return storage


def storage_of(record: ContentRecord, registry: StorageRegistry) -> ObjectStorage[Any]:
    """The storage that a record is in.

    Raises:
        NotRegistered: None of its name is configured.
        ConfigError: It is a storage of another kind.
    """
    try:
        storage = registry.get(record.storage_name)
    except NotRegistered as error:
        raise NotRegistered(f"{error}; the record needs --storage with the URL of such a storage") from None
    if not isinstance(storage, ObjectStorage):
        raise ConfigError(f"{storage.name} holds no objects that this command could look at")
    return storage


def _of_hash(registry: StorageRegistry, content_hash: str) -> Target:
    storage = as_object_storage(registry)
    return Target(content_hash, registry, storage, content_hash)


def _of_record(registry: StorageRegistry, named: NamedRecord) -> Target:
    record = named.record
    storage = storage_of(record, registry)
    name = named.file or record.content_hash
    return Target(name, registry, storage, record.content_hash, record, named.file)


def _is_record(text: str) -> bool:
    return text.lstrip().startswith("{")
