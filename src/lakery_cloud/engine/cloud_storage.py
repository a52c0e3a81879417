"""`CloudStorage`: what the storages of all clouds have beyond the algorithm: endpoint, attempts, time-outs, pickling."""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, Unpack

from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.settings import CONNECT_TIMEOUT, MAX_ATTEMPTS, READ_TIMEOUT, EngineOptions, read_flag
from lakery_cloud.engine.urls import check_endpoint_url
from lakery_cloud.errors import ConfigError
from lakery_cloud.http.pool import Sockets

D = TypeVar("D")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Redacted(Generic[T]):
    """Credentials that a storage holds, so that nothing that shows its attributes shows them.

    Attributes:
        value: The credentials.
    """

    value: T = field(repr=False)


class CloudStorage(ObjectStorage[D]):
    """A storage that a network lies in front of.

    Args:
        bucket: Name of the bucket.
        prefix: What stands before each key.
        endpoint_url: Where the API is, if not at the provider.
        max_attempts: Attempts for one request. By default 3.
        connect_timeout: Seconds to wait for a connection. By default 2.
        read_timeout: Seconds to wait for the next bytes of an answer. By default 60.
        fast_lane: Whether the requests that come most often are sent without the SDK's call around them. What they mean is
            the same; switch it off where something of yours must see each request of the SDK.
        options: See `EngineSettings`.

    Raises:
        ConfigError: A setting is wrong.
    """

    cloud_url_options: ClassVar[Mapping[str, Callable[[str], Any]]] = {
        "endpoint_url": str,
        "max_attempts": int,
        "connect_timeout": float,
        "read_timeout": float,
        "fast_lane": read_flag,
    }
    """The part of `url_options` that all clouds have."""
    credential_origin: str = ""
    """What `credential_source` says of credentials that were given, where whoever gave them knows more than we do."""
    pickles_with: ClassVar[str]
    """What to give instead of clients and credentials, so that the storage pickles."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint_url: str | None = None,
        max_attempts: int = MAX_ATTEMPTS,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        fast_lane: bool = True,
        **options: Unpack[EngineOptions],
    ) -> None:
        super().__init__(bucket, prefix=prefix, **options)
        if max_attempts < 1:
            raise ConfigError(f"max_attempts must be at least 1, not {max_attempts}")
        for name, seconds in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
            if not seconds > 0:
                raise ConfigError(f"{name} must be a number of seconds over 0, not {seconds}")
        self.endpoint_url = check_endpoint_url(endpoint_url) if endpoint_url else None
        self.max_attempts = max_attempts
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.fast_lane = fast_lane

    @abc.abstractmethod
    def _has_secrets(self) -> bool:
        """Whether it holds a client or credentials that the user gave; neither goes into a pickle."""

    def credential_source(self) -> str:
        """Where the storage takes its credentials from, found in its settings, the environment and local files alone.

        It says where the SDK will look first and find something; never what that is, and not whether it is accepted.
        """
        if self._has_secrets():
            return self.credential_origin or "given by the program"
        return self._credential_source()

    @abc.abstractmethod
    def _credential_source(self) -> str:
        """The same where neither a client nor credentials were given."""

    def _sockets(self) -> Sockets:
        """What makes the sockets of one client."""
        return Sockets(limit=self.settings.connections, seconds=self.read_timeout)

    def _shown(self) -> dict[str, Any]:
        """The settings that a repr shows."""
        return without_none(endpoint_url=self.endpoint_url)

    def __repr__(self) -> str:
        shown = "".join(f", {name}={value!r}" for name, value in self._shown().items())
        return f"{type(self).__name__}({self.keys.bucket!r}, prefix={self.keys.prefix!r}{shown})"

    def __getstate__(self) -> dict[str, Any]:
        if self._has_secrets():
            raise ConfigError(
                f"{type(self).__name__} with a client or credentials of your own can't be pickled; give "
                f"{self.pickles_with} instead, and it takes credentials from the environment wherever it is unpickled"
            )
        return super().__getstate__()
