"""New processes that do one thing and end: a command of lakery-cloud, or a program in `benchmarks.first_puts`."""

import os
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.earlier import BEFORE_COLD_STARTS, extract
from benchmarks.payload import KiB, unique
from benchmarks.peers.base import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Peer, Unavailable

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
PUT = "put; SHA-256 in line"


class FirstPut(Peer):
    """A program that puts once.

    Attributes:
        library: The end of the program's name, and the word for the table.
    """

    library: ClassVar[str]

    async def open(self) -> None:
        """Set the environment of the processes."""
        self._environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a start does not compile, but the first of all

    async def start(self, what: str, number: int, folder: Path) -> None:
        if what != "first-put":
            raise Unavailable(f"it has no {what}")
        program = f"benchmarks.first_puts.with_{self.library}"
        self.run("-m", program, self.target.url, self.target.bucket, f"put {number}")

    def run(self, *arguments: str) -> None:
        """Run Python to its end.

        Raises:
            RuntimeError: It failed.
        """
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)  # noqa: S603, our own programs
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} ended with exit code {done.returncode}: {done.stderr[-300:]}")

    async def put(self, key: str, data: bytes) -> Any:
        raise Unavailable("it only starts")

    async def get(self, handle: Any) -> bytes:
        raise Unavailable("it only starts")

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        raise Unavailable("it only starts")

    def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        raise Unavailable("it only starts")


class LakeryCloudStarts(FirstPut):
    """The program and the command of lakery-cloud."""

    library = "lakery_cloud"
    starts = "SHA-256, create-only put"

    async def open(self) -> None:
        await super().open()
        scripts = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["scripts"]
        module, _, function = scripts["lakery-cloud"].partition(":")
        self._script = (
            f"import sys; from {module} import {function}; sys.argv[0] = 'lakery-cloud'; sys.exit({function}())"
        )

    async def start(self, what: str, number: int, folder: Path) -> None:
        if what == "help":
            self.run("-c", self._script, "--help")
        elif what == "put-to-folder":
            self._put_to_folder(folder, number)
        else:
            await super().start(what, number, folder)

    def _put_to_folder(self, folder: Path, number: int) -> None:
        content, stored = folder / "small", folder / "stored"
        stored.mkdir(exist_ok=True)
        content.write_bytes(unique(KiB, number))
        self.run("-c", self._script, "put", str(content), "--storage", stored.as_uri())


class LakeryCloudBefore(LakeryCloudStarts):
    """The command as it was before it imported its modules on demand."""

    async def start(self, what: str, number: int, folder: Path) -> None:
        source = folder / "before"
        if not source.exists():
            extract(BEFORE_COLD_STARTS, source)
        self._environment["PYTHONPATH"] = str(source / "src")
        await super().start(what, number, folder)


class GCSFSStarts(FirstPut):
    """The program with gcsfs."""

    library = "gcsfs"
    starts = PUT

    async def open(self) -> None:
        await super().open()
        self._environment["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # it waits for gRPC, which no null server has


def _starts(library: str, work: str) -> type[FirstPut]:
    """The program with a library, which does this work."""
    return type(library, (FirstPut,), {"library": library, "starts": work})


Boto3Starts = _starts("boto3", f"CRC-32, {PUT}")
Aioboto3Starts = _starts("aioboto3", f"CRC-32, {PUT}")
ObstoreStarts = _starts("obstore", PUT)
S3FSStarts = _starts("s3fs", PUT)
LakeryCloudOnGCSStarts = _starts("lakery_cloud_gcs", "SHA-256, CRC-32C, create-only insert")
GoogleCloudStorageStarts = _starts("google_cloud_storage", f"CRC-32C, {PUT}")
ObstoreOnGCSStarts = _starts("obstore_gcs", PUT)
LakeryCloudOnAzureStarts = _starts("lakery_cloud_azure", "SHA-256, CRC64, create-only put")
ADLFSStarts = _starts("adlfs", PUT)
AzureStorageBlobStarts = _starts("azure_storage_blob", PUT)
ObstoreOnAzureStarts = _starts("obstore_azure", PUT)
