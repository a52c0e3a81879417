"""Where the files of an inventory are: in a folder, or in a bucket.

A manifest names its files by their keys in the bucket where the provider has written them. They are looked for beside the
manifest, in a folder `data` or `results` there, and in a folder `data` beside its own, so that copies in a folder or in
another bucket are found too. What a manifest names never leads anywhere else.
"""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from lakery_cloud.engine.keys import Address, check_untrusted_key
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.reader import UnverifiedRead
from lakery_cloud.engine.transport import Transport, missing
from lakery_cloud.errors import ConfigError, IntegrityError, brief

MAX_MANIFEST_SIZE = 256 * 1024 * 1024
"""A manifest has some 200 bytes for each file of many thousand rows."""

MAX_NAME = 255
"""Bytes of a file's name (`NAME_MAX` of Linux and macOS)."""


class Place(Protocol):
    """The manifest and the files beside it."""

    name: str
    """The name of the manifest's file."""

    async def read(self, name: str) -> bytes | None:
        """A small file beside the manifest; None if there is none."""

    async def fetch(self, name: str, folder: Path) -> Path:
        """A local copy of a file that the manifest names; in this folder, if one must be made.

        Raises:
            ConfigError: There is none.
        """


class LocalFiles:
    """Files in a folder.

    Args:
        manifest: The manifest.
    """

    def __init__(self, manifest: str | Path) -> None:
        self._path = Path(manifest)
        self.name = self._path.name

    def __str__(self) -> str:
        return repr(str(self._path))

    async def read(self, name: str) -> bytes | None:
        """Read a file beside the manifest."""
        path = self._path.with_name(name)
        try:
            if path.stat().st_size > MAX_MANIFEST_SIZE:
                raise ConfigError(f"{str(path)!r} is too large to be the manifest of an inventory")
            return await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{str(path)!r} can't be read: {error.strerror or error}") from error

    async def fetch(self, name: str, folder: Path) -> Path:
        """Find a file."""
        places = [Path(self._path.parent, each) for each in _places(name)]
        for path in places:
            if path.is_file():
                return path
        raise ConfigError(
            f"the file {brief(name)} of the inventory {self} is missing; copy it beside the manifest, or into a folder "
            "'data' there"
        )


class Objects:
    """Objects in a bucket.

    Args:
        storage: Any storage of the bucket.
        manifest: The key of the manifest.
    """

    def __init__(self, storage: ObjectStorage[Any], manifest: str) -> None:
        self._storage = storage
        self._bucket = storage.keys.bucket
        self._folder, slash, self.name = manifest.rpartition("/")
        self._root = f"{self._folder}{slash}"

    def __str__(self) -> str:
        return str(Address(self._bucket, f"{self._root}{self.name}"))

    async def read(self, name: str) -> bytes | None:
        """Read an object beside the manifest."""
        transport = await self._storage.transport()
        address = self._address(f"{self._root}{name}")
        info = await transport.head(address)
        if info is None:
            return None
        if info.size > MAX_MANIFEST_SIZE:
            raise ConfigError(f"{address} is too large to be the manifest of an inventory")
        async with aclosing(UnverifiedRead(transport, address).chunks()) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def fetch(self, name: str, folder: Path) -> Path:
        """Download an object."""
        transport = await self._storage.transport()
        address = await self._find(transport, name)
        path = folder / "downloaded"
        async with aclosing(UnverifiedRead(transport, address).chunks()) as chunks:
            with path.open("wb") as file:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
        return path

    async def _find(self, transport: Transport, name: str) -> Address:
        parent, slash, _ = self._folder.rpartition("/")
        beside = [
            f"{parent}{slash}{each.removeprefix('../')}" if each.startswith("../") else f"{self._root}{each}"
            for each in _places(name)
        ]
        # Names with folders are those of the provider's own bucket.
        for key in [name, *beside] if "/" in name else beside:
            address = self._address(key)
            if await transport.head(address) is not None:
                return address
        raise await missing(transport, self._address(beside[0]))

    def _address(self, key: str) -> Address:
        check_untrusted_key(key)
        return Address(self._bucket, key)


def _places(name: str) -> tuple[str, ...]:
    base = name.rpartition("/")[2]
    if base in ("", ".", "..") or "\\" in base or not base.isprintable() or len(base.encode()) > MAX_NAME:
        raise IntegrityError(f"the inventory names a file {brief(name)}, which no provider writes")
    return base, f"data/{base}", f"../data/{base}", f"results/{base}"
