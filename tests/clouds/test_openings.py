"""The event loop stays free while a client of an SDK opens: what takes long is done in threads."""

import threading
from pathlib import Path
from typing import Any

import adlfs
import azure.identity.aio
import pytest
from aiobotocore.session import AioSession
from botocore.loaders import JSONFileLoader, Loader

from lakery_cloud import AzureBlobStorage, S3Storage
from lakery_cloud.providers.azure import storage as azure_storage
from lakery_cloud.testing.doubles.s3 import StrictS3


def is_on_the_loop() -> bool:
    return threading.current_thread() is threading.main_thread()


class NotedFiles(JSONFileLoader):
    """Loads files of the SDK, and notes which ones on the event loop and which ones in threads."""

    def __init__(self) -> None:
        self.on_the_loop, self.in_threads = list[str](), list[str]()

    def load_file(self, file_path: str) -> Any:
        found = super().load_file(file_path)
        if found is not None:
            (self.on_the_loop if is_on_the_loop() else self.in_threads).append(Path(file_path).name)
        return found


async def test_descriptions_of_the_api_of_s3_are_loaded_in_a_thread() -> None:
    files = NotedFiles()
    async with StrictS3() as server:
        server.make_bucket("bucket")
        session = AioSession()
        session.register_component("data_loader", Loader(file_loader=files))
        session.set_credentials(server.access_key_id, server.secret_access_key)
        async with S3Storage("bucket", session=session, endpoint_url=server.url, region=server.region) as storage:
            assert [info async for info in storage.list()] == []
    assert files.on_the_loop == []
    assert {"service-2", "endpoint-rule-set-1"} <= set(files.in_threads)


async def test_credentials_of_azure_are_made_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class FileSystem(adlfs.AzureBlobFileSystem):  # type: ignore[misc]  # it has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            made.append(("file system", is_on_the_loop()))
            super().__init__(*args, **options)

    class Credential(azure.identity.aio.DefaultAzureCredential):
        def __init__(self, *args: Any, **options: Any) -> None:
            made.append(("credential", is_on_the_loop()))
            super().__init__(*args, **options)

    monkeypatch.setattr(azure_storage, "AzureBlobFileSystem", FileSystem)
    monkeypatch.setattr(azure.identity.aio, "DefaultAzureCredential", Credential)
    async with AzureBlobStorage("container", account_name="account") as storage:
        await storage.transport()
    assert made == [("file system", False), ("credential", False), ("credential", False)]
