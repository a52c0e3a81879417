"""The rig of `GCSStorage` on a profile of the strict double, whose objects it accesses without requests."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Self
from urllib.parse import unquote

from lakery_cloud.providers.gcs.requests import TAG_PREFIX
from lakery_cloud.testing import GCSProfile, RawObject, StrictGCS
from lakery_cloud.testing.doubles.gcs_profiles import GCS_PROFILES
from tests.rigs.gcs import GCSRig


class GCSDoubleRig(GCSRig):
    """`GCSStorage` on a double. Noncurrent versions of temporary objects count as leftovers."""

    def __init__(self, profile: GCSProfile, double: StrictGCS, **settings: Any) -> None:
        super().__init__(f"StrictGCS as {profile.name}", double.url, double=double, **settings)
        self._profile = profile
        self._double = double

    async def __aenter__(self) -> Self:
        self._double.profile = self._profile
        self._double.damage = None
        self._double.buckets[self.bucket] = {}
        return self

    async def __aexit__(self, *_: object) -> None:
        self._double.profile = GCS_PROFILES["google"]
        del self._double.buckets[self.bucket]

    async def put(self, key: str, data: bytes) -> None:
        self._double.put(self.bucket, self.in_bucket(key), data)

    async def get(self, key: str) -> RawObject | None:
        found = self._double.buckets[self.bucket].get(self.in_bucket(key))
        if found is None:
            return None
        metadata = found.resource.get("metadata", {})
        return RawObject(
            found.data,
            found.resource.get("contentType"),
            found.resource.get("contentEncoding"),
            {unquote(k.removeprefix(TAG_PREFIX)): v for k, v in metadata.items() if k.startswith(TAG_PREFIX)},
            {k: v for k, v in metadata.items() if not k.startswith(TAG_PREFIX)},
        )

    async def stored_metadata(self, key: str) -> Mapping[str, str]:
        return dict(self._double.buckets[self.bucket][self.in_bucket(key)].resource.get("metadata", {}))

    async def delete(self, key: str) -> None:
        self._double.buckets[self.bucket].pop(self.in_bucket(key), None)

    async def check_nothing_temporary(self) -> None:
        await super().check_nothing_temporary()
        noncurrent = [name for name, _ in self._double.described[self.bucket].noncurrent if ".tmp/" in name]
        assert not noncurrent, f"noncurrent versions of temporary objects are left: {noncurrent}"

    async def _bucket_keys(self) -> AsyncGenerator[str]:
        for name in list(self._double.buckets[self.bucket]):
            yield name
