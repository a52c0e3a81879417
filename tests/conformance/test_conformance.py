"""The conformance suite on our own storages, and on every server that can tell the truth."""

import pytest

from lakery_cloud.testing import Rig, StorageConformance
from tests.rigs import FileRig, MemoryRig, S3Rig


class TestMemoryStorage(StorageConformance):
    @pytest.fixture
    def rig(self, memory_rig: MemoryRig) -> Rig:
        return memory_rig


class TestFileStorage(StorageConformance):
    @pytest.fixture
    def rig(self, file_rig: FileRig) -> Rig:
        return file_rig


class TestS3Storage(StorageConformance):
    @pytest.fixture
    def rig(self, s3_rig: S3Rig) -> Rig:
        return s3_rig
