"""Storages and registries from a configuration. This resolves references to secrets, and sends no request."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakery_cloud.config.configuration import Configuration, RouteSection
from lakery_cloud.config.problems import name_of
from lakery_cloud.config.secrets import Secret
from lakery_cloud.config.sections import StorageSection
from lakery_cloud.config.urls import class_of_url
from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.urls import nearest
from lakery_cloud.errors import ConfigError, LakeryCloudError, MissingDependency
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.routes import Route


def load_registry(file: str | Path | None = None, **settings: Any) -> StorageRegistry:
    """The registry of a configuration: its storages, routes and retired names.

    Args:
        file: As for `Configuration.load`.
        settings: As for `Configuration.load`.

    Raises:
        ConfigError: No storage is configured, a setting is wrong, or a reference to a secret leads nowhere.
        MissingDependency: The SDK of a storage is not installed.
    """
    return build_registry(Configuration.load(file, **settings))


def build_registry(configuration: Configuration, *, target: ObjectStorage[Any] | str | None = None) -> StorageRegistry:
    """The registry of a loaded configuration.

    Args:
        configuration: The settings.
        target: A storage, or the key of a configured one, that saves everything instead of the routes and the default. It
            replaces a configured storage with the same name.

    Raises:
        ConfigError, MissingDependency: As `load_registry`.
    """
    if not configuration.storages and target is None:
        raise ConfigError(
            "no storage is configured: there is no lakery-cloud.toml in this folder or above it, nor in your configuration "
            "folder, or it has no [storages.<key>]; `lakery-cloud config init` writes one to start with"
        )
    storages = build_storages(configuration)
    retired = _retired_names(configuration, storages)
    if target is not None:
        target = _find(storages, target, list(storages)) if isinstance(target, str) else target
        others = [storage for storage in storages.values() if storage.name != target.name]
        registry = StorageRegistry([target, *others], default=target)
        for name, reader in retired.items():  # afterwards, so that a target that is retired itself stays readable
            registry.retire(name, reader)
        return registry
    writable = [key for key, storage in storages.items() if storage.name not in retired]
    default = configuration.default
    if default is None and len(writable) != 1:
        raise ConfigError(f"'default' is missing; name one of {', '.join(writable) or 'the storages'}")
    with _within(configuration, "default"):
        default_storage = _find(storages, default, writable) if default is not None else storages[writable[0]]
    routes = [_build_route(configuration, number, storages, writable) for number in range(len(configuration.routes))]
    with _within(configuration, "retired"):
        return StorageRegistry(storages.values(), default=default_storage, routes=routes, retired=retired)


def build_storages(configuration: Configuration) -> dict[str, ObjectStorage[Any]]:
    """The storages by their keys in the configuration.

    Raises:
        ConfigError, MissingDependency: As `load_registry`.
    """
    storages: dict[str, ObjectStorage[Any]] = {}
    for key in configuration.storages:
        storage = build_storage(configuration, key)
        for other, built in storages.items():
            if built.name == storage.name:
                raise ConfigError(
                    f"[storages.{other}] and [storages.{key}] are both {storage.name!r}, and records could not tell them "
                    f'apart; give one its own permanent name: name = "acme.{key}@v1"'
                )
        storages[key] = storage
    return storages


def build_storage(configuration: Configuration, key: str) -> ObjectStorage[Any]:
    """One storage by its key in the configuration.

    Raises:
        ConfigError: There is no such key, a setting is wrong, or a reference to a secret leads nowhere.
        MissingDependency: Its SDK is not installed.
    """
    if key not in configuration.storages:
        raise ConfigError(f"there is no [storages.{key}]{nearest(key, configuration.storages)}")
    section = configuration.storages[key]
    with _within(configuration, "storages", key):
        storage_class = class_of_url(section.url)
        if section.name not in (None, storage_class.name):
            storage_class = storage_class.named(section.name)
        given = {name: getattr(section, name) for name in section.credential_names}
        credentials = {
            name: _resolved(name, text, configuration.folder) for name, text in given.items() if text is not None
        }
        settings = section.model_dump(exclude_none=True, exclude={"url", "name", *section.credential_names})
        storage = storage_class.from_url(section.url, **settings, **storage_class.credentials_from(credentials))
    if credentials and isinstance(storage, CloudStorage):
        storage.credential_origin = _origin(key, section, credentials)
    return storage


def name_of_storage(configuration: Configuration, key: str) -> str:
    """The permanent name of the configured storage with a key.

    Raises:
        MissingDependency: The SDK of its class, which has the name, is not installed.
    """
    section = configuration.storages[key]
    return section.name or class_of_url(section.url).name


def _resolved(name: str, text: Secret | str, folder: Path) -> str:
    if not isinstance(text, Secret):
        return str(folder / Path(text).expanduser())
    try:
        return text.resolve(folder)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error.__cause__


def _origin(key: str, section: StorageSection, credentials: Mapping[str, str]) -> str:
    """The settings that hold the credentials. References are shown, secrets are not."""
    shown = []
    for name in credentials:
        value = getattr(section, name)
        is_reference = not isinstance(value, Secret) or value.is_reference
        shown.append(f"{name} = {str(value)!r}" if is_reference else name)
    return f"[storages.{key}] {', '.join(shown)}"


def _build_route(
    configuration: Configuration, number: int, storages: Mapping[str, ObjectStorage[Any]], writable: list[str]
) -> Route:
    section: RouteSection = configuration.routes[number]
    with _within(configuration, "routes", number):
        storage = _find(storages, section.storage, writable)
        conditions = without_none(**section.model_dump(exclude={"storage"}))
        return Route(storage=storage.name, **conditions)


def _find(storages: Mapping[str, ObjectStorage[Any]], key: str, writable: list[str]) -> ObjectStorage[Any]:
    if key not in storages:
        raise ConfigError(f"there is no [storages.{key}]{nearest(key, storages)}")
    if key not in writable:
        raise ConfigError(f"[storages.{key}] is retired, so nothing can be saved to it")
    return storages[key]


def _retired_names(configuration: Configuration, storages: Mapping[str, ObjectStorage[Any]]) -> dict[str, str]:
    """Retired names, each with the permanent name of the storage that reads its records."""
    retired: dict[str, str] = {}
    with _within(configuration, "retired", "storages"):
        for name, key in configuration.retired.entries():
            reader = _find(storages, key, list(storages)).name
            if retired.setdefault(name or reader, reader) != reader:
                raise ConfigError(f"{name!r} is retired to two storages")
    return retired


@contextmanager
def _within(configuration: Configuration, *path: str | int) -> Iterator[None]:
    """Prefix errors with the key that is wrong, and with its place in the configuration."""
    try:
        yield
    except MissingDependency:
        raise
    except LakeryCloudError as error:
        place = configuration.place(*path)
        raise ConfigError(f"{place + ': ' if place else ''}{name_of(path)}: {error}") from error.__cause__
