"""What the commands share: which storage, and the options that several of them have."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from cyclopts import Parameter, validators

from lakery_cloud.config.urls import storage_from_url
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.registry import StorageRegistry

StorageUrl = Annotated[
    str | None,
    Parameter(
        name=["--storage", "-s"],
        env_var="LAKERY_CLOUD_STORAGE",
        help="URL of the storage, such as s3://bucket/prefix?region=eu-central-1. "
        "By default a folder in your data directory.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")]
Records = Annotated[tuple[str, ...], Parameter(name="--records", negative="", consume_multiple=False)]
Recursive = Annotated[bool, Parameter(name=["--recursive", "-r"], negative="")]
AT_A_TIME = 8
Jobs = Annotated[int, Parameter(name=["--jobs", "-j"], validator=validators.Number(gte=1))]


@asynccontextmanager
async def open_storage(url: str | None) -> AsyncGenerator[ObjectStorage[Any]]:
    """The storage of a URL, or the default one."""
    async with storage_from_url(url or default_url()) as storage:
        yield storage


@asynccontextmanager
async def open_registry(url: str | None) -> AsyncGenerator[StorageRegistry]:
    """The storage of a URL, or the default one, as the default of a registry."""
    # To be replaced by the registry of the configuration, whose records of every configured storage load.
    async with open_storage(url) as storage:
        yield StorageRegistry([storage], default=storage)


def default_url() -> str:
    """A folder in the user's data directory."""
    return Path(platformdirs.user_data_path("lakery-cloud"), "objects").as_uri()


def counted(count: int, noun: str) -> str:
    """`1 object`, `2 objects`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
