"""adlfs."""

from collections.abc import Mapping
from typing import Any, ClassVar

from adlfs import AzureBlobFileSystem

from benchmarks.peers.azure_account import connection_string
from benchmarks.peers.fsspec_files import FileSystemPeer


class ADLFS(FileSystemPeer):
    """Its file system."""

    put_options: ClassVar[Mapping[str, Any]] = {"overwrite": True}

    async def open(self) -> None:
        options = {"connection_string": connection_string(self.target.url), "skip_instance_cache": True}
        self.fs = AzureBlobFileSystem(asynchronous=True, **options)
        self.in_thread = AzureBlobFileSystem(**options)

    async def close(self) -> None:
        await self.fs.service_client.close()
