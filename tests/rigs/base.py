"""The base of our rigs. It extends `lakery_cloud.testing.Rig` so that shared tests need not know the cloud."""

import abc
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlencode
from uuid import uuid4

from lakery_cloud import ObjectStorage
from lakery_cloud.testing import Rig

MiB = 1024**2
BY_THE_SDK_ALONE = {"fast_lane": False} if os.environ.get("LAKERY_CLOUD_TEST_FAST_LANE") == "0" else {}
"""Options that leave all requests to the SDK. The variable sets them for all pairs; one local pair always has them."""

CONNECT_TIMEOUT = 60.0
"""Seconds to wait for a connection. The event loop of a busy machine stops for longer than the default, such as while it loads
the description of an API."""


class PairRig(Rig):
    """A storage on a server.

    Attributes:
        storage_class: The storage.
        bucket: The bucket of the rig's objects.
        root: A prefix of all keys in the bucket, which the rig's keys omit. Only a live rig has one, since its bucket is
            shared.
        environment: Variables with the credentials.
        shows_uploads: Whether the store lists unfinished uploads; else they expire.
    """

    storage_class: ClassVar[type[ObjectStorage[Any]]]
    bucket: str
    root: str = ""
    environment: Mapping[str, str] = {}
    shows_uploads: ClassVar[bool] = True

    def in_bucket(self, key: str) -> str:
        """Return the key or prefix in the bucket for a key or prefix of the rig."""
        return f"{self.root}/{key}" if self.root and key else self.root or key

    @abc.abstractmethod
    async def stored_metadata(self, key: str) -> Mapping[str, str]:
        """Return the metadata that we stored with an object, unchanged."""


class CloudRig(PairRig):
    """A storage in a bucket of a cloud or of a local server, and a client that inspects the bucket without the storage.

    A local rig creates a bucket. A live rig uses a given one, below a random root.

    Attributes:
        server_url: URL of the local server.
        endpoint_url: The setting of new storages; None leaves it to the environment.
        settings: Further settings of all storages on this server, also in URLs.
    """

    server_url: str
    endpoint_url: str | None
    settings: Mapping[str, Any] = {}

    def __init__(self, server_name: str, *, bucket: str | None) -> None:
        self.name = f"{self.storage_class.__name__} on {server_name}"
        self.is_live = bucket is not None
        self.bucket = bucket or f"rig-{uuid4()}"
        self.root = f"lakery-cloud-tests/{uuid4()}" if self.is_live else ""

    @abc.abstractmethod
    async def __aenter__(self) -> Self:
        """Open the client, and make the bucket if it is the rig's own."""

    @abc.abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Remove all that is the rig's, and close the client."""

    @classmethod
    @abc.abstractmethod
    def storage_at(cls, endpoint_url: str, **options: Any) -> ObjectStorage[Any]:
        """A storage that has credentials, at an address where no server need be."""

    def point_to(self, url: str) -> None:
        """Point storages made from now on, and URLs, to a proxy in front of the local server. The rig goes around it."""
        self.endpoint_url = url

    def storage(self, *, prefix: str = "", **options: Any) -> Any:
        if self.root:
            self.storage_class(self.bucket, prefix=prefix)  # a root makes prefixes valid that are refused alone
        return self._storage(self.bucket, prefix=self.in_bucket(prefix), **options)

    def elsewhere(self) -> Any:
        return self._storage(f"nowhere-{uuid4()}")

    def _storage(self, bucket: str, **options: Any) -> Any:
        # Credentials from the environment, where the fixture put them: so that storages can be pickled.
        given = {"part_size": self.part_size, "connect_timeout": CONNECT_TIMEOUT, **self._settings(), **options}
        return self.storage_class(bucket, **given)

    def url(self, prefix: str = "", *, bucket: str | None = None, **settings: Any) -> str:
        """The URL of a storage on the rig's bucket, or on another one."""
        query = urlencode({**self._settings(), **settings})
        path = quote(self.in_bucket(prefix))
        return f"{self.storage_class.url_scheme}://{bucket or self.bucket}/{path}{'?' if query else ''}{query}"

    def _settings(self) -> dict[str, Any]:
        own = {"endpoint_url": self.endpoint_url} if self.endpoint_url else {}
        return {**BY_THE_SDK_ALONE, **self.settings, **own}

    def own_key(self, key: str) -> str:
        return key.removeprefix(self._below)

    async def keys(self) -> list[str]:
        return [self.own_key(key) async for key in self._bucket_keys()]

    async def uploads(self) -> list[str]:
        return [self.own_key(key) async for key in self._bucket_uploads()]

    @property
    def _below(self) -> str:
        """What all keys of the rig start with."""
        return f"{self.root}/" if self.root else ""

    @abc.abstractmethod
    def _bucket_keys(self) -> AsyncGenerator[str]:
        """Keys of the bucket that start with `_below`."""

    @abc.abstractmethod
    def _bucket_uploads(self) -> AsyncGenerator[str]:
        """Keys of incomplete uploads that start with `_below`."""
