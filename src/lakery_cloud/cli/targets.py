"""What the targets of a command mean: records, bare hashes, patterns of hashes, and URLs of stored content."""

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
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.pipeline import side_by_side
from lakery_cloud.errors import ConfigError, InvalidRecord, NoStorageData, NotRegistered, brief
from lakery_cloud.registry import ContentRecord, StorageRegistry

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
        texts: Records' JSON, bare hashes, patterns of hashes, URLs of stored content, or `-` for a record
            on standard input.
        storage: Name or URL of the storage that bare hashes and patterns are looked up in.
        records: Records files.
        recursive: Whether patterns are allowed.

    Raises:
        InvalidRecord, NotRegistered, ConfigError: What was given can't be meant.
    """
    named = [NamedRecord(ContentRecord.from_json(text)) if _is_record(text) else text for text in texts]
    named += read_records(records)
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(open_registry(storage))
        finder = _Finder(stack, registry, recursive=recursive)
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

    def __init__(self, stack: AsyncExitStack, registry: StorageRegistry, *, recursive: bool) -> None:
        self._stack = stack
        self._registry = registry
        self._recursive = recursive
        self._opened: dict[str, ObjectStorage[Any]] = {}

    async def find(self, given: str | NamedRecord) -> list[Target]:
        """The targets that one word, or one line of a records file, stands for."""
        if isinstance(given, NamedRecord):
            return [self._of_record(given)]
        if given == STANDARD_INPUT:
            return [self._of_record(NamedRecord(ContentRecord.from_json(await read_line_of_stdin())))]
        if "://" in given:
            storage, content_hash = await self._of_url(given)
            return [replace(_of_hash(StorageRegistry([storage]), content_hash), name=given)]
        return await self._matching(given) if PATTERN & {*given} else [_of_hash(self._registry, given)]

    def _of_record(self, named: NamedRecord) -> Target:
        record = named.record
        storage = storage_of(record, self._registry)
        name = named.file or record.content_hash
        return Target(name, self._registry, storage, record.content_hash, record, named.file)

    async def _of_url(self, url: str) -> tuple[ObjectStorage[Any], str]:
        """The storage that holds content, and the hash, out of `s3://bucket/prefix/<hash>?...`."""
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ConfigError(f"the URL of stored content is malformed: {error}") from None
        path, _, content_hash = parts.path.rpartition("/")
        place = urlunsplit(parts._replace(path=path))
        if place not in self._opened:
            self._opened[place] = await self._stack.enter_async_context(open_storage(place))
        return self._opened[place], content_hash

    async def _matching(self, pattern: str) -> list[Target]:
        if not self._recursive:
            raise ConfigError(f"{pattern!r} is a pattern of hashes; give -r to take all that match")
        storage = as_object_storage(self._registry)
        hashes = [storage.keys.hash_of(info.address.key) or "" async for info in storage.list()]
        found = [_of_hash(self._registry, each) for each in hashes if fnmatchcase(each, pattern)]
        if not found:
            raise NoStorageData(f"no content in {storage!r} has a hash like {pattern!r}")
        return found


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
    if storage.keys.hash_of(storage.keys.content(content_hash).key) is None:
        raise InvalidRecord(
            f"a content hash is at least 16 lower-case hexadecimal digits, not {brief(content_hash)}; give a record, a "
            "hash or the URL of stored content"
        )
    return Target(content_hash, registry, storage, content_hash)


def _is_record(text: str) -> bool:
    return text.lstrip().startswith("{")
