"""`CloudStorage`: what the storages of all clouds have beyond the algorithm: credentials, sockets, pickling."""

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar
from urllib.request import getproxies

from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.settings import CloudSettings
from lakery_cloud.errors import ConfigError
from lakery_cloud.http.pool import Sockets
from lakery_cloud.redaction import Secrets, masked_secrets, secrets_in

D = TypeVar("D")


class CloudStorage(ObjectStorage[D]):
    """A storage behind a network. Its settings derive from `CloudSettings`."""

    settings: CloudSettings
    credential_origin: str = ""
    """What `credential_source` says about given credentials, if their giver knows more than this class."""
    pickles_with: ClassVar[str]
    """What to give instead of clients and credentials, so that the storage pickles."""

    def credential_source(self) -> str:
        """Where the storage takes its credentials from, found in its settings, the environment and local files alone.

        This is the first place where the SDK will find something. It never says what the credentials are, nor whether
        the store accepts them.
        """
        if given := self.settings.secrets():
            return self.credential_origin or f"{' and '.join(given)}, given by the program"
        return self._credential_source()

    @abc.abstractmethod
    def _credential_source(self) -> str:
        """The same, if neither a client nor credentials were given."""

    @contextmanager
    def _masked_secrets(self) -> Iterator[Secrets]:
        """Mask the secrets of the settings and of proxies in all texts; a client adds those that it finds."""
        proxies = getproxies()
        sources = (*self.settings.secrets().values(), proxies.get("http"), proxies.get("https"))
        with masked_secrets(*(secret for source in sources for secret in secrets_in(source))) as secrets:
            yield secrets

    def _sockets(self) -> Sockets:
        """The factory for the sockets of one client."""
        return Sockets(limit=self.settings.connections, seconds=self.settings.read_timeout)

    def _shown(self) -> dict[str, Any]:
        """The settings that a repr shows."""
        return without_none(endpoint_url=self.settings.endpoint_url)

    def __repr__(self) -> str:
        shown = "".join(f", {name}={value!r}" for name, value in self._shown().items())
        return f"{type(self).__name__}({self.keys.bucket!r}, prefix={self.keys.prefix!r}{shown})"

    def __getstate__(self) -> dict[str, Any]:
        if self.settings.secrets():
            raise ConfigError(
                f"{type(self).__name__} with a client or credentials of your own can't be pickled; give "
                f"{self.pickles_with} instead, so that it takes credentials from the environment wherever it is unpickled"
            )
        return super().__getstate__()
