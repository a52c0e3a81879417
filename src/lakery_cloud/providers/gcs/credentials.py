"""Google's credentials, loaded by google-auth from files and texts of every type that it knows; and their tokens."""

import asyncio
import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import google.auth
from google.auth import exceptions as auth_errors
from google.auth.credentials import with_scopes_if_required
from google.auth.exceptions import GoogleAuthError

from lakery_cloud.engine.tokens import RenewedToken
from lakery_cloud.errors import CredentialsError, LakeryCloudError, StorageUnavailable, brief
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.providers.gcs.refusals import LOG_IN
from lakery_cloud.redaction import Secrets, redact, redact_error

SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"

# A path; no access token of Google's looks like this.
_PATH = re.compile(r"^\s*(/|~|\.\.?/|[A-Za-z]:\\)|\.json$")

# What google-auth needs in a file of each type (its `from_info` functions, google-auth 2.62).
_FIELDS: Mapping[str, Mapping[str, type]] = {
    "authorized_user": {"client_id": str, "client_secret": str, "refresh_token": str},
    "service_account": {"client_email": str, "private_key": str, "token_uri": str},
    "external_account_authorized_user": dict.fromkeys(
        ("client_id", "client_secret", "refresh_token", "token_url"), str
    ),
    "external_account": {"audience": str, "subject_token_type": str, "token_url": str, "credential_source": dict},
    "impersonated_service_account": {"source_credentials": dict, "service_account_impersonation_url": str},
    "gdch_service_account": {
        "project": str,
        "name": str,
        "token_uri": str,
        "format_version": str,
        "private_key": str,
        "private_key_id": str,
    },
}


class DefaultFile(NamedTuple):
    """A file with application default credentials.

    Attributes:
        path: Its path. It may not exist, if the environment names it.
        origin: Where the path comes from, for messages.
    """

    path: str
    origin: str


def default_file() -> DefaultFile | None:
    """The file with application default credentials (Google Cloud, "How Application Default Credentials works")."""
    if path := os.environ.get(VARIABLE):
        return DefaultFile(path, f"{VARIABLE} in the environment")
    folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
    path = os.path.join(folder, "application_default_credentials.json")
    return DefaultFile(path, f"application default credentials in {path}") if os.path.isfile(path) else None


def credentials_of(token: Any, *, endpoint: str | None) -> Any:
    """The credentials in a file, a text or a mapping; anything else is returned as it is.

    Args:
        token: The setting `token`.
        endpoint: URL of the API, if it is not Google's own.

    Raises:
        CredentialsError: The file or text is broken, or google-auth can't use it.
    """
    if token in (None, "google_default"):
        found = default_file()
        if found is None:
            return token
        return _loaded(_read_file(found.path, found.origin), f"{found.path!r} ({found.origin})", endpoint)
    if isinstance(token, os.PathLike):
        token = os.fspath(token)
    if isinstance(token, str) and (os.path.exists(token) or _PATH.search(token)):
        return _loaded(_read_file(token, "token"), repr(token), endpoint)
    if isinstance(token, str) and token.lstrip().startswith("{"):
        return _loaded(_parsed(token, "the JSON text of token"), "the JSON text of token", endpoint)
    if isinstance(token, Mapping):
        return _loaded(dict(token), "the token", endpoint)
    if isinstance(token, str | google.auth.credentials.Credentials):
        return token
    raise CredentialsError(
        f"token can't be a {type(token).__name__}; give the path or the content of a file with credentials, a token, "
        "credentials of google-auth, or the name of a method"
    )


def _read_file(path: str, origin: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise CredentialsError(
            f"the file {path!r} ({origin}) can't be read: {error.strerror}. Correct the path, or: {LOG_IN}"
        ) from error
    return _parsed(text, f"the file {path!r} ({origin})")


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    # Outside the handler, whose error has the text.
    if not isinstance(found, dict):
        raise CredentialsError(
            f"{place} is no JSON object, as files with credentials are. Download it again, or: {LOG_IN}"
        )
    return found


def _loaded(info: dict[str, Any], place: str, endpoint: str | None) -> Any:
    kind = info.get("type")
    if not isinstance(kind, str):
        raise CredentialsError(
            f"the credentials in {place} have no type; it must be one of {', '.join(_FIELDS)}. {LOG_IN}"
        )
    fields = _FIELDS.get(kind, {})
    for name, wanted in fields.items():
        if not info.get(name) or not isinstance(info[name], wanted):
            what = "an object" if wanted is dict else "a text"
            raise CredentialsError(
                f"the credentials in {place} are of the type {kind!r}, and their field {name!r} is missing or not {what}. "
                f"Download the file again, or: {LOG_IN}"
            )
    try:
        with warnings.catch_warnings():
            # The user gives this file. google-auth warns of files that others give.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Without scopes, with which google-auth would send a request for the project.
            credentials, _ = google.auth.load_credentials_from_dict(info)  # type: ignore[no-untyped-call]
        credentials = with_scopes_if_required(credentials, [SCOPE])  # type: ignore[no-untyped-call]
        if hasattr(credentials, "with_gdch_audience"):
            credentials = credentials.with_gdch_audience(endpoint or "https://storage.googleapis.com")
    except Exception as error:  # noqa: BLE001, wrong types of fields lead to errors of any type
        said = _said(error)
    else:
        return credentials
    # Outside the handler, whose error may have a field.
    raise CredentialsError(
        f"the credentials in {place} are of the type {brief(kind)}, and google-auth can't use them: {said}. Download the "
        f"file again, or: {LOG_IN}"
    )


def _said(error: Exception) -> str:
    """What google-auth says. It may add the error of a library, which may have a field."""
    if isinstance(error, GoogleAuthError):
        said = redact(str(error.args[0])) if error.args else type(error).__name__
        inner = error.args[1] if len(error.args) > 1 else None
        said = f"{said} ({type(inner).__name__})" if isinstance(inner, Exception) else said
        return said.replace("The file dict object does not", "it does not").rstrip(".")
    return type(error).__name__


class Tokens(RenewedToken):
    """Authenticates requests. It renews tokens in a thread, since google-auth blocks.

    Args:
        credentials: Credentials of google-auth; None for anonymous requests.
        secrets: Their secrets and tokens are added to these.
        http: Sends the requests for tokens.
        seconds: Time limit of a renewal.
    """

    def __init__(self, credentials: Any, secrets: Secrets, *, http: HTTPClient, seconds: float) -> None:
        super().__init__(secrets, seconds=seconds)
        self._http = http
        secrets.add(*(getattr(credentials, name, None) for name in ("token", "refresh_token", "client_secret")))
        self.credentials = credentials

    async def headers(self) -> dict[str, str]:
        """The headers of an authenticated request.

        Raises:
            CredentialsError: The token has expired and can't be renewed.
            StorageUnavailable: The issuer of tokens can't be reached.
        """
        headers: dict[str, str] = {}
        if self.credentials is not None:
            await self.ensure()
            self.credentials.apply(headers)
        return headers

    async def renew(self) -> bool:
        """Replace a token that the store has refused; return whether there is another one."""
        return self.credentials is not None and await self.replace(self._token_now())

    def credential_kind(self) -> str | None:
        """The kind of the credentials; None without any."""
        found = self.credentials
        return f"{type(found).__module__.rpartition('.')[2]}.{type(found).__name__}" if found else None

    def _token_now(self) -> str | None:
        token: str | None = self.credentials.token
        return token

    def _seconds_left(self) -> float:
        credentials = self.credentials
        if credentials.expiry is None:
            return math.inf if credentials.valid else 0.0
        if not credentials.token:
            return 0.0
        expiry: datetime = credentials.expiry
        if expiry.tzinfo is None:  # google-auth's own are in UTC
            expiry = expiry.replace(tzinfo=UTC)
        return (expiry - datetime.now(UTC)).total_seconds()

    async def _refresh(self) -> None:
        # In a thread, since requests, which google-auth demands, takes long to import.
        requests = await asyncio.to_thread(import_module, "lakery_cloud.providers.gcs.sdk_requests")
        request = requests.TokenRequest(self._http)
        with request.session:
            await asyncio.to_thread(self.credentials.refresh, request)

    def _failed(self, error: Exception) -> LakeryCloudError:
        said = redact_error(error)
        if isinstance(error, auth_errors.TransportError):
            return StorageUnavailable(f"the token could not be renewed: {said}. Try again later")
        return CredentialsError(f"the token could not be renewed: {said}. {LOG_IN}")
