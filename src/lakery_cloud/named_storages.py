"""`NamedStorages`: storages by their permanent names, also retired ones, whose records another storage reads."""

from typing import Any

from lakery_cloud.errors import NameConflict, NotRegistered, ReadOnlyStorage, brief
from lakery_cloud.storage import Storage


class NamedStorages:
    """Storages by permanent name, retired name and alias of a class; the base of `StorageRegistry`."""

    def __init__(self) -> None:
        self._storages: dict[str, Storage[Any]] = {}
        self._retired: dict[str, str] = {}
        self._found_default: Storage[Any] | None = None

    def add(self, storage: Storage[Any]) -> None:
        """Register a storage under its permanent name.

        Raises:
            NameConflict: Another storage has the name or reads its records.
        """
        if self._retired.get(storage.name, storage.name) != storage.name:
            raise NameConflict(f"{storage.name!r} is retired: {self._retired[storage.name]!r} reads its records")
        if self._storages.get(storage.name, storage) is not storage:
            raise NameConflict(
                f"a storage named {storage.name!r} is already registered; use a class with another name for the second "
                f'bucket: {type(storage).__name__}.named("acme.archive@v1")(...)'
            )
        self._storages[storage.name] = storage
        self._found_default = None

    def retire(self, name: str, reader: str) -> None:
        """Save nothing more under a name, and let the storage `reader` read its records.

        Raises:
            NameConflict: The name belongs to another storage, or another storage reads its records.
            NotRegistered: `reader` is not registered.
        """
        storage = self.get(reader)
        is_taken = name in self._storages and name != storage.name
        if is_taken or self._retired.get(name, storage.name) != storage.name:
            raise NameConflict(
                f"the name {name!r} can't be retired to {storage.name!r}: it is taken by another storage"
            )
        self._retired[name] = storage.name
        self._found_default = None

    @property
    def names(self) -> tuple[str, ...]:
        """Permanent names of the storages, in the order of their registration."""
        return tuple(self._storages)

    def get(self, name: str) -> Storage[Any]:
        """Return the storage that reads the records of a permanent name, a retired name, or an alias of a class.

        Raises:
            NotRegistered: There is none.
        """
        name = self._retired.get(name, name)
        storage = self._storages.get(name)
        if storage is None:
            storage = self._by_class_alias(name)
        if storage is None:
            raise NotRegistered(f"no storage named {brief(name)} is registered; known are {self._known()}")
        return storage

    def _writable(self, storage: Storage[Any] | str) -> Storage[Any]:
        name = storage if isinstance(storage, str) else storage.name
        found = self.get(name)
        if name in self._retired or found.name != name:
            raise ReadOnlyStorage(
                f"the storage name {name!r} is retired: {found.name!r} only reads its records; nothing can be saved or "
                "deleted under this name"
            )
        if not isinstance(storage, str) and found is not storage:
            raise NameConflict(f"another storage is registered as {name!r}: {found!r}, not {storage!r}")
        return found

    def _by_class_alias(self, name: str) -> Storage[Any] | None:
        """Return the storage whose class has the alias; a class that defines it precedes its subclasses."""
        found = [storage for storage in self._storages.values() if name in storage.aliases]
        own = [storage for storage in found if "aliases" in vars(type(storage))]
        candidates = own or found
        return candidates[0] if len(candidates) == 1 else None

    def _known(self) -> str:
        return ", ".join(self._storages) or "none"
