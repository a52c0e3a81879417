"""The rig of the conformance suite for `ToyStorage`."""

from typing import Any, ClassVar

from lakery_cloud.testing import RawObject, Rig
from tests.toy.server import ToyObject, ToyServer
from tests.toy.storage import ToyStorage


class ToyRig(Rig):
    """`ToyStorage` on a server of its own."""

    name = "ToyStorage"
    part_size = 1000
    cannot: ClassVar = dict.fromkeys(
        ("test_copy_past_the_limit_of_one_request_goes_in_parts", "test_cancelled_copy_in_parts_leaves_nothing"),
        "copies have no limit",
    )

    def __init__(self, server: ToyServer) -> None:
        self._server = server

    def storage(self, **options: Any) -> ToyStorage:
        return self._on(self._server.bucket, **options)

    def elsewhere(self) -> ToyStorage:
        return self._on("elsewhere")

    def _on(self, bucket: str, **options: Any) -> ToyStorage:
        given = {"endpoint_url": self._server.url, "part_size": self.part_size, **options}
        return ToyStorage(bucket, **given)

    async def put(self, key: str, data: bytes) -> None:
        plain = {"content_type": "application/octet-stream", "content_encoding": None, "tags": {}, "metadata": {}}
        self._server.objects[key] = ToyObject(data, plain, "put")

    async def get(self, key: str) -> RawObject | None:
        found = self._server.objects.get(key)
        return RawObject(found.data, **found.attributes) if found else None

    async def delete(self, key: str) -> None:
        self._server.objects.pop(key, None)

    async def keys(self) -> list[str]:
        return list(self._server.objects)

    async def uploads(self) -> list[str]:
        return [upload.key for upload in self._server.open_uploads.values()]
