"""`ToyStorage`: content-addressed objects in the toy store."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.settings import keywords_of
from lakery_cloud.engine.transport import Transport
from lakery_cloud.http.client import HTTPClient
from tests.toy.requests import ToyRequests
from tests.toy.settings import ToySettings, ToyStorageData
from tests.toy.transport import ToyTransport


class ToyStorage(CloudStorage[ToyStorageData]):
    """Content-addressed objects in the toy store."""

    settings_class = ToySettings
    settings: ToySettings
    name = "tests.toy@v1"
    url_scheme = "toy"
    pickles_with = "endpoint_url"

    @keywords_of(ToySettings)
    def __init__(self, settings: ToySettings) -> None:
        super().__init__(settings.bucket, settings)

    def _credential_source(self) -> str:
        return "none"

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        http = HTTPClient(
            sockets=self._sockets(),
            tls=ssl.create_default_context,
            connect_timeout=self.settings.connect_timeout,
            read_timeout=self.settings.read_timeout,
        )
        async with aclosing(http):
            yield ToyTransport(ToyRequests(http, self.settings), self.settings)
