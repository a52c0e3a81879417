"""The conformance suite on a provider that CONTRIBUTING's steps make."""

from collections.abc import Iterator

import pytest

from lakery_cloud import CredentialsError
from lakery_cloud.testing import Rig, StorageConformance
from tests.helpers import write
from tests.servers import in_a_thread
from tests.toy.rig import ToyRig
from tests.toy.server import TOKEN, ToyServer
from tests.toy.storage import ToyStorage


class TestToyStorage(StorageConformance):
    @pytest.fixture
    def rig(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
        monkeypatch.setenv("TOY_TOKEN", TOKEN)
        with in_a_thread(lambda: ToyServer("toys")) as server:  # some tests bring their own event loops
            yield ToyRig(server)


async def test_wrong_token_is_a_credentials_error() -> None:
    async with ToyServer("toys") as server, ToyStorage("toys", endpoint_url=server.url, token="wrong") as storage:
        with pytest.raises(CredentialsError, match="WrongToken"):
            await write(storage)
