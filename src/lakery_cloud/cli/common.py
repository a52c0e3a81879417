"""Options and storages that the commands share. Each command opens its storages here.

The configuration's modules take longer to import than many commands run, so they are imported on use.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
from cyclopts import Parameter, validators

from lakery_cloud.config.layers import STORAGE_VARIABLE, is_configured
from lakery_cloud.config.urls import storage_from_url
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.transport import missing
from lakery_cloud.engine.urls import nearest
from lakery_cloud.errors import ConfigError
from lakery_cloud.files import run_detached
from lakery_cloud.registry import StorageRegistry

if TYPE_CHECKING:
    from lakery_cloud.config.configuration import Configuration

StorageUrl = Annotated[
    str | None,
    Parameter(
        name=["--storage", "-s"],
        env_var=STORAGE_VARIABLE,
        help="Key or permanent name of a configured storage, a URL such as s3://bucket/prefix?region=eu-central-1, or the "
        "path of a folder such as ./blobs. "
        "Defaults to the configuration's default, or without a configuration to a folder in your data directory.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")]
Repeated = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False, show_default=False)]
"""An option that may be given several times."""
Records = Annotated[Repeated, Parameter(name="--records")]
Recursive = Annotated[bool, Parameter(name=["--recursive", "-r"], negative="")]
DryRun = Annotated[bool, Parameter(name=["--dry-run", "-n"], negative="")]
DEFAULT_JOBS = 8
Jobs = Annotated[int, Parameter(name=["--jobs", "-j"], validator=validators.Number(gte=1))]


@asynccontextmanager
async def open_storage(target: str | None, *, is_written: bool = False) -> AsyncGenerator[ObjectStorage[Any]]:
    """Open the storage of a URL, a folder, a configured key or a permanent name; without a target, the default storage.

    Args:
        target: The name.
        is_written: Whether the command writes to it, which makes a missing folder.

    Raises:
        BucketNotFound: The folder of a storage that is only read does not exist.
        ConfigError: No storage has this name, or one of its settings is wrong.
        MissingDependency: Its SDK is not installed.
    """
    async with storage_of(target) as storage:
        await check_folder(storage, is_written=is_written)
        yield storage


async def check_folder(storage: ObjectStorage[Any], *, is_written: bool = False) -> None:
    """Refuse a missing folder, which `ObjectStorage.list` takes for an empty one. Missing buckets are found by requests.

    Raises:
        BucketNotFound: The folder of the storage does not exist, and nothing will be written to it.
        ConfigError: It is a file.
    """
    if storage.url_scheme == "file":
        from lakery_cloud.providers.file.root import check_root

        transport, folder = await storage.transport(), storage.keys.bucket
        if not await transport.has_bucket(folder):
            await run_detached(lambda: check_root(Path(folder)))
            if is_written:
                return
            raise await missing(transport, Address(folder, ""))


@asynccontextmanager
async def open_registry(target: str | None) -> AsyncGenerator[StorageRegistry]:
    """Open all configured storages with the configuration's routes and default. A target saves everything instead.

    Raises:
        ConfigError: No storage has this name, or a setting is wrong.
        MissingDependency: The SDK of a storage is not installed.
    """
    async with _registry(target) as registry:
        yield registry


def _registry(target: str | None) -> StorageRegistry:
    _check_name(target)
    url = url_of(target) if target else default_url()
    if not is_configured() and url is not None:
        storage = storage_from_url(url)
        return StorageRegistry([storage], default=storage)
    from lakery_cloud.config.building import build_registry
    from lakery_cloud.config.configuration import Configuration

    configuration = Configuration.load()
    if not target and configuration.storages:
        return build_registry(configuration)
    if url is not None:
        return build_registry(configuration, target=storage_from_url(url))
    return build_registry(configuration, target=key_of(target, configuration))


def storage_of(target: str | None) -> ObjectStorage[Any]:
    """Return the storage that `open_storage` opens, for jobs that open it in other processes."""
    _check_name(target)
    if target and (url := url_of(target)) is not None:
        return storage_from_url(url)
    from lakery_cloud.config.building import build_storage
    from lakery_cloud.config.configuration import Configuration

    configuration = Configuration.load()
    if not target and not configuration.storages:
        return storage_from_url(default_url())
    return build_storage(configuration, key_of(target, configuration))


def _check_name(target: str | None) -> None:
    """Refuse an empty name, such as that of an unset variable of the shell; an empty LAKERY_CLOUD_STORAGE is none."""
    if target == "" and os.environ.get(STORAGE_VARIABLE) != "":
        raise ConfigError("the name of the storage is empty; leave it out for the default storage")


def url_of(target: str) -> str | None:
    """Return the URL of a storage that is named by a URL or by the path of a folder; None for any other name.

    Raises:
        ConfigError: The path begins with the home folder of an unknown user.
    """
    if "://" in target:
        return target
    if not is_path(target):
        return None
    try:
        return Path(target).expanduser().absolute().as_uri()
    except RuntimeError as error:
        raise ConfigError(f"the folder {target!r} can't be found: {error}") from None


def is_path(target: str) -> bool:
    """Return whether a name is the path of a folder: absolute, or with a leading `.`, `..` or `~`."""
    return ("://" not in target and target.partition("/")[0] in ("", ".", "..")) or target.startswith("~")


def key_of(target: str | None, configuration: "Configuration") -> str:
    """Return the key of the configured storage with this key or permanent name; without a target, of the default.

    Raises:
        ConfigError: No configured storage matches.
    """
    from lakery_cloud.config.building import name_of_storage

    keys = configuration.storages
    target = target or configuration.default_key  # an empty environment variable counts as unset
    if target is None:
        raise ConfigError(f"the configuration has no default storage; select one with --storage: {', '.join(keys)}")
    if target in keys:
        return target
    names = {name_of_storage(configuration, key): key for key in keys}
    if target not in names:
        hint = f"; write ./{target} for the folder" if Path(target).is_dir() else nearest(target, [*keys, *names])
        raise ConfigError(f"{target!r} is neither a configured storage nor a URL{hint}")
    return names[target]


def default_url() -> str:
    """Return the URL of a folder in the user's data directory."""
    return Path(platformdirs.user_data_path("lakery-cloud"), "objects").as_uri()
