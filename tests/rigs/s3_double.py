"""The rig of `S3Storage` on a profile of the strict double, whose objects it accesses without requests."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Self

from lakery_cloud.testing import RawObject, S3Profile, StrictS3
from tests.rigs.s3 import SmallPartsRig

METADATA = "x-amz-meta-"


class S3DoubleRig(SmallPartsRig):
    """`S3Storage` on a double."""

    def __init__(self, profile: S3Profile, server: StrictS3, **settings: Any) -> None:
        super().__init__(f"StrictS3 as {profile.name}", server, **settings)
        self._profile = profile
        self._double = server

    async def __aenter__(self) -> Self:
        self._double.profile = self._profile
        self._double.min_part_size = self.part_size
        self._double.make_bucket(self.bucket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._double.remove_bucket(self.bucket)

    async def abort_uploads(self) -> None:
        self._double.abort_uploads(self.bucket)

    async def put(self, key: str, data: bytes) -> None:
        self._double.put(self.bucket, key, data)

    async def get(self, key: str) -> RawObject | None:
        found = self._double.current(self.bucket, key)
        if found is None or found.data is None:
            return None
        headers = found.headers
        return RawObject(
            found.data,
            headers.get("content-type"),
            headers.get("content-encoding"),
            found.tags,
            await self.stored_metadata(key),
        )

    async def stored_metadata(self, key: str) -> Mapping[str, str]:
        found = self._double.current(self.bucket, key)
        assert found is not None
        return {
            name.removeprefix(METADATA): value for name, value in found.headers.items() if name.startswith(METADATA)
        }

    async def delete(self, key: str) -> None:
        self._double.buckets[self.bucket].pop(key, None)

    async def _bucket_keys(self) -> AsyncGenerator[str]:
        for key in list(self._double.buckets[self.bucket]):
            if self._double.current(self.bucket, key):
                yield key

    async def _bucket_uploads(self) -> AsyncGenerator[str]:
        for upload in self._double.unfinished_uploads(self.bucket):
            yield upload.key
