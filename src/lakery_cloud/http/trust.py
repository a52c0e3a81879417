"""The certificates that requests trust: a bundle that the environment or the user's configuration names, or the default."""

import os
import ssl
from functools import cached_property
from typing import NamedTuple

from lakery_cloud.errors import ConfigError


class Bundle(NamedTuple):
    """A file or folder of certificates.

    Attributes:
        path: Its path.
        origin: The variable or setting that names it.
    """

    path: str
    origin: str


def bundle_in(*variables: str) -> Bundle | None:
    """The bundle that the first of some environment variables names; None if none does."""
    return next((Bundle(path, name) for name in variables if (path := os.environ.get(name))), None)


def trusted_file() -> str | None:
    """The file that `SSL_CERT_FILE` names, for libraries that know `REQUESTS_CA_BUNDLE` alone."""
    added = bundle_in("SSL_CERT_FILE")
    return added.path if added else None


class Trust:
    """The trust settings of one client. They are read once, on first use, since that takes milliseconds.

    Args:
        bundle: Certificates that replace the default ones, such as those of a company's own authority.
        default: File with the default certificates, if not the system's.
    """

    def __init__(self, bundle: Bundle | None = None, *, default: str | None = None) -> None:
        self._bundle = bundle or bundle_in("REQUESTS_CA_BUNDLE")
        self._default = default

    @cached_property
    def _context(self) -> ssl.SSLContext:
        if self._bundle is None:
            context = ssl.create_default_context(cafile=self._default)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _load(context, self._bundle)
        # Without this OpenSSL ignores a missing file, and then knows no certificate at all.
        if (added := bundle_in("SSL_CERT_FILE")) is not None:
            _load(context, added)
        return context

    def context(self) -> ssl.SSLContext:
        """The settings for connections with TLS.

        Raises:
            ConfigError: A bundle is missing, or has no certificates.
        """
        return self._context


def _load(context: ssl.SSLContext, bundle: Bundle) -> None:
    what = f"{bundle.origin} names {bundle.path!r}"
    try:
        if os.path.isdir(bundle.path):
            context.load_verify_locations(capath=bundle.path)
        else:
            context.load_verify_locations(cafile=bundle.path)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{what}, which has no certificates in PEM format; correct or remove {bundle.origin}"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{what}, which can't be read: {error.strerror}; correct or remove {bundle.origin}"
        ) from error
