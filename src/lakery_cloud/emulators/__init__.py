"""Local servers of S3, Cloud Storage and Blob Storage without Docker, for tests, demos and the command line.

They never touch a real cloud: every server listens on 127.0.0.1 and keeps its data in a folder of its own.
"""

from lakery_cloud.emulators.emulator import Emulator
from lakery_cloud.emulators.servers.azurite import Azurite
from lakery_cloud.emulators.servers.fake_gcs import FakeGCS
from lakery_cloud.emulators.servers.localstack import LocalStack
from lakery_cloud.emulators.servers.ministack import MiniStack
from lakery_cloud.emulators.servers.moto import MotoProcess, MotoServer
from lakery_cloud.emulators.servers.seaweedfs import SeaweedFS
from lakery_cloud.emulators.system import EmulatorError

EMULATORS: dict[str, type[Emulator]] = {
    emulator.name: emulator for emulator in (MotoServer, LocalStack, SeaweedFS, MiniStack, FakeGCS, Azurite)
}
"""Every emulator by its name; each class can be made without arguments."""

__all__ = [
    "EMULATORS",
    "Azurite",
    "Emulator",
    "EmulatorError",
    "FakeGCS",
    "LocalStack",
    "MiniStack",
    "MotoProcess",
    "MotoServer",
    "SeaweedFS",
]
