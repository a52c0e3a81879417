"""gcsfs."""

from typing import Any

from gcsfs.core import GCSFileSystem

from benchmarks.peers.fsspec_files import FileSystemPeer


class GCSFS(FileSystemPeer):
    """Its file system."""

    async def open(self) -> None:
        options: dict[str, Any] = {
            "project": "bench",
            "token": "anon",
            "endpoint_url": self.target.url,
            "skip_instance_cache": True,
        }
        self.fs = GCSFileSystem(asynchronous=True, **options)
        self._session = await self.fs._set_session()  # noqa: SLF001, as in its documentation
        self.in_thread = GCSFileSystem(**options)

    async def close(self) -> None:
        await self._session.close()
