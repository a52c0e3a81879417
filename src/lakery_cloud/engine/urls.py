"""Storages from URLs: `<scheme>://<bucket>/<prefix>?<setting>=<value>`. A URL never holds credentials."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from lakery_cloud.errors import ConfigError

_NAME = re.compile(r"[\w.+-]{1,8}|[A-Za-z]{1,20}([_-][A-Za-z]{1,20}){0,5}")


def parse_url(url: str, *, scheme: str, readers: Mapping[str, Callable[[str], Any]]) -> tuple[str, str, dict[str, Any]]:
    """Bucket, prefix and settings of a URL. Bucket and prefix are percent-decoded, as in any URL.

    Args:
        url: The URL.
        scheme: The scheme that it must have.
        readers: Name of a setting that the query may hold -> function that reads its value.

    Raises:
        ConfigError: The scheme is another, the bucket is missing, a setting is unknown or unreadable, or there are
            credentials in the URL. The message never repeats the URL's user or password.
    """
    parts = _split(url, f"the URL of the {scheme}:// storage")
    # A secret may contain "/", "?" or "#", so that the parser doesn't always see credentials as such.
    if "@" in unquote(parts.netloc) or ":" in parts.netloc:
        raise ConfigError(
            f"a {scheme}:// URL must not contain credentials or a port; set credentials in the environment or a profile, "
            "and the address of the API as endpoint_url. Write the colon in a name as %3A"
        )
    if parts.scheme != scheme:
        raise ConfigError(f"expected a URL that starts with {scheme}://, not with {quoted(parts.scheme)}")
    if parts.fragment:
        raise ConfigError("the URL has a fragment; write a # of the prefix as %23")
    settings: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in readers:
            raise ConfigError(f"unknown setting {quoted(name)} in the URL{nearest(name, readers)}")
        if name in settings:
            raise ConfigError(f"the URL has the setting {name!r} twice")
        try:
            settings[name] = readers[name](text)
        except ValueError as error:
            raise ConfigError(f"the setting {name!r} in the URL can't be {text!r}: {error}") from None
    return _decoded(parts.netloc, "bucket"), _decoded(parts.path.removeprefix("/"), "prefix"), settings


def _decoded(text: str, what: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        pass  # the error repeats the text
    raise ConfigError(f"the {what} in the URL is not UTF-8")


def merged(in_url: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a URL, and those given as arguments or in a configuration.

    Raises:
        ConfigError: A setting has two different values.
    """
    for name in in_url:
        if name in beside and beside[name] != in_url[name]:
            raise ConfigError(
                f"{name} is {in_url[name]!r} in the URL and {beside[name]!r} beside it; remove one of them"
            )
    return {**in_url, **beside}


def quoted(name: str) -> str:
    """A name for a message; stars if it looks like a secret in the wrong place."""
    return repr(name) if _NAME.fullmatch(name) else "'***'"


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the most similar of the known names, or all of them; nothing if there is none."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1)
    if matches or not known:
        return f"; did you mean {matches[0]!r}?" if matches else ""
    return f"; known are {', '.join(known)}"


def check_lifetime(expires: timedelta, *, longest: timedelta | None, storage: str) -> None:
    """Refuse the lifetime of a presigned URL before anything is requested for it.

    Args:
        expires: The lifetime.
        longest: The longest one of the storage; None if it has no URLs.
        storage: Permanent name of the storage.

    Raises:
        ConfigError: The storage can't sign a URL with this lifetime.
    """
    if longest is None:
        raise ConfigError(f"{storage} has no URLs, since its content is not served by HTTP")
    if not timedelta(seconds=1) <= expires <= longest:
        given = str(expires).removesuffix(", 0:00:00")
        raise ConfigError(f"a URL lasts from a second to {longest.days} days, not {given}")


def check_endpoint_url(url: str) -> str:
    """The URL of an endpoint, without a slash at its end.

    Raises:
        ConfigError: It is no such URL, or contains credentials. The message does not repeat it: any part may be a secret.
    """
    if "@" in unquote(url):
        raise ConfigError("endpoint_url must not contain credentials; set them in the environment or a profile")
    parts = _split(url, "endpoint_url")
    try:
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number, or too large
        is_valid = False
    if not is_valid:
        raise ConfigError("endpoint_url must be a URL such as https://storage.example.com")
    if parts.query or parts.fragment:
        raise ConfigError("endpoint_url must have no query; if it holds a signature, set that as a credential instead")
    return url.rstrip("/")


def _split(url: str, what: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        failure = ConfigError(f"{what} can't be read; it may have a bracket or a character that no host has")
    raise failure  # outside the handler, so that it isn't chained to an error that repeats the URL
