"""What every local server has in common: install, start, address, buckets, stop."""

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
"""What all three clouds take: S3 User Guide, "General purpose bucket naming rules"; Cloud Storage, "Bucket names";
Microsoft Learn, "Naming and referencing containers"."""


class Emulator(abc.ABC):
    """A local server, started with `start` or a `with` block.

    Attributes:
        name: How the server is called in `EMULATORS`, and on the command line.
        api: What it stands for.
        url_scheme: What URLs of storages on it begin with.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str]
    api: ClassVar[str]
    url_scheme: ClassVar[str]

    def __init__(self, *, port: int | None = None) -> None:
        self._fixed_port = port
        self._endpoint_url: str | None = None

    @classmethod
    def at(cls, endpoint_url: str) -> Self:
        """A server that runs already and that somebody else stops, to make buckets on it or to point to it."""
        emulator = cls()
        emulator._endpoint_url = endpoint_url
        return emulator

    @property
    def endpoint_url(self) -> str:
        """Where the server listens.

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
        """Whether it was started here, and has not ended."""

    @abc.abstractmethod
    def install(self, report: Callable[[str], None] | None = None) -> None:
        """Do what is needed once on this machine; nothing when it is done already.

        Args:
            report: Is told in one sentence what takes its time.

        Raises:
            EmulatorError: The installation failed; the message ends with its output.
            MissingDependency: A package is missing from our own environment.
        """

    @abc.abstractmethod
    def start(self) -> Self:
        """Install if needed, start the server and wait until it answers; nothing when it is started.

        Raises:
            EmulatorError: The server ended or did not answer in time; the message ends with its log.
            MissingDependency: A package is missing from our own environment.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """End the server and forget its data; nothing when it is stopped."""

    @abc.abstractmethod
    def environment(self) -> dict[str, str]:
        """The environment variables that point the cloud's own SDK to this server.

        Raises:
            EmulatorError: The server is not started.
        """

    @abc.abstractmethod
    def make_bucket(self, bucket: str) -> None:
        """Make a bucket (on Azure a container); nothing when it is there already.

        Raises:
            ConfigError: The clouds take no such name.
            EmulatorError: The server is not started, or refused.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket with all that is in it; nothing when it is not there.

        Raises:
            EmulatorError: The server is not started, or refused.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def storage(self, bucket: str, **options: Any) -> ObjectStorage[Any]:
        """A storage on one of the server's buckets, which has all credentials that it needs.

        Raises:
            EmulatorError: The server is not started.
            MissingDependency: The cloud's SDK is not installed.
        """

    @abc.abstractmethod
    def settings(self, bucket: str) -> Mapping[str, str]:
        """The table of `lakery-cloud.toml` for a storage on one of the server's buckets, credentials included.

        Raises:
            EmulatorError: The server is not started.
        """

    def url(self, bucket: str) -> str:
        """The URL of a storage on one of the server's buckets. It needs the `environment` for its credentials.

        Raises:
            EmulatorError: The server is not started.
        """
        settings = {name: value for name, value in self.settings(bucket).items() if name in self.url_settings}
        return f"{self.url_scheme}://{bucket}{'?' if settings else ''}{urlencode(settings, safe=':/')}"

    url_settings: ClassVar[frozenset[str]] = frozenset({"endpoint_url", "region"})
    """Those of the settings that a URL holds; the others are secret, or stand in the environment."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def check_bucket_name(bucket: str) -> str:
    """The name of a bucket, if all clouds take it.

    Raises:
        ConfigError: They don't.
    """
    if not BUCKET_NAME.fullmatch(bucket):
        raise ConfigError(
            f"a bucket can't be called {bucket!r}: take 3 to 63 lower-case letters, digits, single dashes"
        )
    return bucket
