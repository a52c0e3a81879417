"""The interface of every local server: install, start, address, buckets, stop."""

import abc
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from lakery_cloud.emulators.system import EmulatorError
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError

BUCKET_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
"""Names that all three clouds accept: S3 User Guide, "General purpose bucket naming rules"; Cloud Storage, "Bucket names";
Microsoft Learn, "Naming and referencing containers"."""


class Emulator(abc.ABC):
    """A local server. Start it with `start` or a `with` block.

    Attributes:
        name: Name in `EMULATORS` and on the command line.
        api: The cloud API that it serves.
        url_scheme: Scheme of the URLs of its storages.
        url_settings: Settings that a URL includes; the others are secret or come from the environment.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str]
    api: ClassVar[str]
    url_scheme: ClassVar[str]
    url_settings: ClassVar[frozenset[str]] = frozenset({"endpoint_url", "region"})

    def __init__(self, *, port: int | None = None) -> None:
        self._fixed_port = port
        self._endpoint_url: str | None = None

    @classmethod
    def at(cls, endpoint_url: str) -> Self:
        """Return an emulator for a running server that another process stops, to make buckets or get settings."""
        emulator = cls()
        emulator._endpoint_url = endpoint_url
        return emulator

    @property
    def endpoint_url(self) -> str:
        """The URL that the server listens on.

        Raises:
            EmulatorError: The server is not started.
        """
        if self._endpoint_url is None:
            raise EmulatorError(f"{self.name} is not started: call start() or use it in a with block")
        return self._endpoint_url

    @property
    @abc.abstractmethod
    def release(self) -> str:
        """The version of the server."""

    @property
    @abc.abstractmethod
    def is_installed(self) -> bool:
        """Whether `install` has nothing left to do."""

    @property
    @abc.abstractmethod
    def is_running(self) -> bool:
        """Whether this object started the server and the server has not ended."""

    @abc.abstractmethod
    def install(self, report: Callable[[str], None] | None = None) -> None:
        """Install the server on this machine unless it is installed.

        Args:
            report: Gets a sentence before and after a slow step.

        Raises:
            EmulatorError: The installation failed; the message has the end of its output.
            MissingDependency: A package is missing from the running Python's environment.
        """

    @abc.abstractmethod
    def start(self) -> Self:
        """Install the server if needed, start it and wait until it is ready. Does nothing if it is started.

        Raises:
            EmulatorError: The server ended, or was not ready in time; the message has the end of its log.
            MissingDependency: A package is missing from the running Python's environment.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """End the server and delete its data. Does nothing if it is stopped."""

    @abc.abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the environment variables that point the cloud's own SDK to this server.

        Raises:
            EmulatorError: The server is not started.
        """

    @abc.abstractmethod
    def make_bucket(self, bucket: str) -> None:
        """Create a bucket (on Azure a container) unless it exists.

        Raises:
            ConfigError: Some cloud does not accept the name.
            EmulatorError: The server is not started, or refused the request.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def remove_bucket(self, bucket: str) -> None:
        """Delete a bucket and its content, if the bucket exists.

        Raises:
            EmulatorError: The server is not started, or refused the request.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def storage(self, bucket: str, **options: Any) -> ObjectStorage[Any]:
        """Return a storage on one of the server's buckets, with the server's credentials.

        Raises:
            EmulatorError: The server is not started.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def settings(self, bucket: str) -> Mapping[str, str]:
        """Return the settings of a storage on one of the server's buckets, as in `lakery-cloud.toml`, with credentials.

        Raises:
            EmulatorError: The server is not started.
        """

    def url(self, bucket: str) -> str:
        """Return the URL of a storage on one of the server's buckets, without the credentials, which `environment` has.

        Raises:
            EmulatorError: The server is not started.
        """
        settings = {name: value for name, value in self.settings(bucket).items() if name in self.url_settings}
        return f"{self.url_scheme}://{bucket}{'?' if settings else ''}{urlencode(settings, safe=':/')}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def check_bucket_name(bucket: str) -> str:
    """Return a bucket name that all clouds accept.

    Raises:
        ConfigError: Some cloud does not accept the name.
    """
    if not BUCKET_NAME.fullmatch(bucket):
        raise ConfigError(
            f"the bucket name {bucket!r} is invalid: use 3 to 63 lower-case letters, digits and single dashes"
        )
    return bucket
