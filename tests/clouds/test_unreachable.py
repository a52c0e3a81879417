"""An address at which no server is."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from lakery_cloud import StorageUnavailable
from lakery_cloud.testing import content
from tests.helpers import closed_port, write, write_stream
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig
from tests.rigs.gcs import GCSRig
from tests.rigs.s3 import S3Rig


@contextmanager
def silent_port() -> Iterator[str]:
    """URL of a port with a full queue, which neither accepts nor refuses connections."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for client in waiting:
            client.close()


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("rig_class", [S3Rig, GCSRig, AzureRig])
@pytest.mark.parametrize("port", [closed_port, silent_port])
async def test_endpoint_that_is_not_there_is_unavailable(
    rig_class: type[CloudRig], port: Callable[[], AbstractContextManager[str]]
) -> None:
    with port() as url:
        async with rig_class.storage_at(url, part_size=rig_class.part_size, connect_timeout=0.3) as storage:
            for attempt in (write(storage), write_stream(storage, content(rig_class.part_size * 2))):
                with pytest.raises(StorageUnavailable, match="no connection to .*; check .*endpoint_url") as raised:
                    await attempt
                assert url in str(raised.value)
