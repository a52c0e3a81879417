"""Removes credentials from texts of stores, proxies and libraries: those of the client, and what looks like some."""

import base64
import html
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, unquote, urlsplit

MAX_QUOTE = 500
"""Most characters that an error quotes from a store or a library."""

MAX_TEXT = 64 * 1024
"""Most characters of a text that are looked at, and kept: a message of a store may have a million."""

_MASK = "***"
_SHORTEST = 6
"""Characters of the shortest secret that is masked wherever it appears; a shorter one is part of many words."""
_PREFIX = 16
"""Characters by which a long secret is found, even if a server cuts it off."""

_IN_HOST = re.compile(r"(?<=//)[^/?#\s'\"]*@")
_IN_QUERY = re.compile(
    r"\b((?:x-(?:amz|goog)-)?(?:sig|signature|credential|security-token)|awsaccesskeyid|access_token|upload_id|accountkey"
    r"|sharedaccesssignature)=[^&;\s'\"<>)]*",
    re.IGNORECASE,
)
"""Signatures, tokens, and the URLs of Cloud Storage's upload sessions, which are credentials too."""
# Headers and fields of our requests, and of those that SDKs send for credentials.
_NAMES = "|".join(
    (
        *("(?:proxy-)?authorization", "(?:set-)?cookie", "x-amz-security-token", "x-guploader-uploadid"),
        *("x-amz-(?:copy-source-)?server-side-encryption-customer-key", "x-goog-(?:copy-source-)?encryption-key"),
        *("x-ms-copy-source(?:-authorization)?", "x-ms-encryption-key", "x-aws-ec2-metadata-token"),
        *("(?:access|refresh|id|session|security|subject)_?token", "client_?secret", "private_?key", "password"),
        *("(?:aws_)?secret_?(?:access_?)?key", "account_?key", "sas_?token", "signatureprovided", "stringtosign"),
    )
)
_NAMED = re.compile(
    rf"""\b({_NAMES})
    # Between name and value: JSON, XML, HTTP, Python. Bounded, since the work for n spaces would be n squared.
    (\\?['"]?\s{{0,9}}(?:=>|[:=>]|(?<=['"])\s{{0,9}},|&gt;)\s{{0,9}}\[?\s{{0,9}}b?\\?['"]?)
    [^"'<>\\\r\n]+""",
    re.IGNORECASE | re.VERBOSE,
)
_SCHEME = re.compile(r"\b(Bearer|Basic|SharedKey(?:Lite)?)(\s{1,9})[\w.~+/=:-]{8,}", re.IGNORECASE)

_lock = threading.Lock()
_known: dict[object, re.Pattern[str]] = {}


class Secrets:
    """The secrets of one client, masked in all texts while the client is open."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}

    def add(self, *values: Any) -> None:
        """Mask values from now on; anything but texts is ignored."""
        new = [value for value in values if isinstance(value, str) and len(value) >= _SHORTEST]
        if all(value in self._values for value in new):
            return
        self._values.update(dict.fromkeys(new))
        for old in [*self._values][:-MAX_SECRETS]:
            del self._values[old]
        forms = sorted({form for value in self._values for form in _forms(value)}, key=len, reverse=True)
        with _lock:
            if self in _known:
                _known[self] = re.compile("|".join(map(_pattern, forms)))


MAX_SECRETS = 20
"""Most secrets of one client: its keys, and the tokens that it had last."""


@contextmanager
def masked_secrets(*values: Any) -> Iterator[Secrets]:
    """Secrets that no error and no log line shows during the block."""
    secrets = Secrets()
    with _lock:
        _known[secrets] = re.compile(r"(?!)")
    try:
        secrets.add(*values)
        yield secrets
    finally:
        with _lock:
            del _known[secrets]


def redact(text: str) -> str:
    """A text without credentials. Of a long one, only the beginning is kept."""
    with _lock:
        patterns = [*_known.values()]
    if len(text) > MAX_TEXT:
        # Between words: half of a secret would not be found.
        end = max(text.rfind(mark, 0, MAX_TEXT) for mark in " \t\r\n\"'<>,;&")
        text = f"{text[: end + 1]}... ({len(text):,} characters)"
    for pattern in patterns:
        text = pattern.sub(_MASK, text)
    text = _IN_QUERY.sub(lambda found: f"{found[1]}={_MASK}", _IN_HOST.sub(f"{_MASK}@", text))
    return _SCHEME.sub(rf"\1\2{_MASK}", _NAMED.sub(rf"\1\2{_MASK}", text))


def redact_error(error: BaseException) -> str:
    """Remove credentials from a library's exception and from its causes, which a traceback shows; return its text."""
    for each in _chain(error):
        each.args = tuple(map(_without_credentials, each.args))
        vars(each).update({name: _without_credentials(value) for name, value in vars(each).items()})
    return redact(str(error))[:MAX_QUOTE] or type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and not any(each is known for known in found):
            found.append(each)
            waiting += (each.__cause__, each.__context__, *each.args, *vars(each).values())
    return found


def _without_credentials(value: Any, depth: int = 8) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        text = value.decode(errors="replace")
        shown = redact(text)
        return value if shown == text else shown.encode()
    if hasattr(value, "real_url") and hasattr(value, "_replace"):  # aiohttp's description of a request
        url = value.real_url.with_query(None).with_user(None)
        return value._replace(url=url, headers={}, real_url=url)
    if hasattr(value, "proxy_headers_hash"):  # aiohttp's description of a connection
        return value._replace(proxy=None, proxy_auth=None)
    if depth and type(value) is dict:  # such as a response in an error of botocore
        return {name: _without_credentials(inner, depth - 1) for name, inner in value.items()}
    if depth and type(value) in (list, tuple):
        return type(value)(_without_credentials(inner, depth - 1) for inner in value)
    if isinstance(value, BaseException):  # in the chain
        return value
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001, of any library; a traceback can't show it either
        return value
    redacted = redact(shown)
    return value if redacted == shown else redacted


def secrets_in(value: Any) -> Iterator[str]:
    """The secrets in a credential: a key, a connection string, a signature, a URL, or a mapping of a file."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, Mapping) or re.search("secret|token$|key$|password", str(name)):
                yield from secrets_in(inner)
    elif isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            yield from secrets_in(json.loads(value))
    elif isinstance(value, str):
        found = re.findall(r"(?:^|[?&;=])(?:sig|AccountKey)=([^&;\s]+)", value)
        for inner in found:
            yield from (inner, unquote(inner))
        if "://" in value:
            user = urlsplit(value).netloc.rpartition("@")[0]
            password = unquote(user.partition(":")[2])
            yield from (password, base64.b64encode(unquote(user).encode()).decode()) if user else ()
        elif not found:
            yield value


def _forms(value: str) -> Iterator[str]:
    """How a secret is written: as it is, or encoded for URLs, HTML, JSON or headers; a key of many lines by its lines."""
    if "\n" in value:
        yield from (line for line in value.splitlines() if len(line) > _PREFIX and not line.startswith("-----"))
        return
    encoded = base64.b64encode(value.encode())
    yield from (value, quote(value), quote(value, safe=""), html.escape(value), json.dumps(value)[1:-1])
    yield from (encoded.decode(), base64.urlsafe_b64encode(value.encode()).decode())


def _pattern(form: str) -> str:
    return re.escape(form) if len(form) <= _PREFIX else rf"{re.escape(form[:_PREFIX])}[^\s\"'<>,;&]*"
