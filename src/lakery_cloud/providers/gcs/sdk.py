"""Where requests to Cloud Storage go, who pays for them, and what authenticates them: as gcsfs finds it.

Importing gcsfs takes longer than a first request, so it is asked only for what nothing else finds.
"""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from google.auth import exceptions as auth_errors
from google.auth.credentials import Credentials

from lakery_cloud.engine.model import without_none
from lakery_cloud.errors import CredentialsError
from lakery_cloud.providers.gcs.credentials import credentials_of
from lakery_cloud.providers.gcs.refusals import LOG_IN
from lakery_cloud.redaction import redact_error

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem

    from lakery_cloud.providers.gcs.settings import GCSSettings

ANONYMOUS: Any = "anon"
"""The token of requests without credentials."""


class Access(NamedTuple):
    """How a storage reaches Cloud Storage.

    Attributes:
        endpoint: URL of the API.
        credentials: Credentials of google-auth; None for anonymous requests.
        payer: The project to bill for all requests; it counts before the one in storage data.
        fs: The file system whose session sends all requests; None for connections of our own.
    """

    endpoint: str
    credentials: Any
    payer: str | None
    fs: "GCSFileSystem | None" = None


def find_access(settings: "GCSSettings") -> Access:
    """Look for credentials in the settings, in files, and then wherever gcsfs looks. It may block for seconds.

    Found credentials are not sent to an endpoint without TLS.

    Args:
        settings: The storage's settings.

    Raises:
        CredentialsError: There are none, or they could not be loaded.
    """
    fs: Any = settings.fs
    if fs is not None:
        payer = fs._get_params({}).get("userProject")  # gcsfs has no public function for it
        return Access(fs._location, fs.credentials.credentials, payer, fs)  # nor for these
    endpoint, token = endpoint_of(settings), ANONYMOUS
    has_tls = endpoint.startswith("https:")
    if settings.token is not None or has_tls:
        token = credentials_of(settings.token, endpoint=settings.endpoint_url)
    wants_certificate = has_tls and _wants_certificate()
    if not wants_certificate and (token == ANONYMOUS or isinstance(token, Credentials)):
        return Access(endpoint, None if token == ANONYMOUS else token, settings.user_project)
    fs = _new_file_system(settings, token)
    credentials = fs.credentials.credentials
    if wants_certificate and getattr(fs, "_use_client_cert", False):  # older releases use none
        return Access(fs._location, credentials, settings.user_project, fs)
    return Access(endpoint, credentials, settings.user_project)


def endpoint_of(settings: "GCSSettings") -> str:
    """The URL of the API: that of the settings, or as gcsfs and google-cloud-storage find it in the environment."""
    if settings.endpoint_url:
        return settings.endpoint_url
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if emulator in ("", "default"):
        return f"https://storage.{os.environ.get('GOOGLE_CLOUD_UNIVERSE_DOMAIN', 'googleapis.com')}"
    return emulator if emulator.startswith(("http://", "https://")) else f"http://{emulator}"


def _wants_certificate() -> bool:
    """Whether google-auth is configured to use a client certificate."""
    from google.auth.transport import mtls  # slow, and not needed for plain HTTP

    should_use = getattr(mtls, "should_use_client_cert", None)  # older releases have none
    return should_use is not None and bool(should_use())


def _new_file_system(settings: "GCSSettings", token: Any) -> Any:
    """A file system of gcsfs with a token, or with credentials that it finds.

    Raises:
        CredentialsError: There are none, or they could not be loaded.
    """
    from gcsfs.core import GCSFileSystem  # both are slow

    from lakery_cloud.http.session import CheckedRequest, CheckedResponse

    try:
        return GCSFileSystem(
            token=token,
            endpoint_url=settings.endpoint_url,
            asynchronous=True,
            skip_instance_cache=True,
            session_kwargs={"request_class": CheckedRequest, "response_class": CheckedResponse},
            **without_none(project=settings.project),
        )
    except auth_errors.DefaultCredentialsError as error:
        raise CredentialsError(f"no credentials for {settings.bucket!r}: {redact_error(error)}. {LOG_IN}") from error
    except Exception as error:  # noqa: BLE001, gcsfs raises errors of any type
        kind = type(error).__name__
    # Not within the handler: the text of the error, or of its cause, may hold the token.
    raise CredentialsError(
        f"the credentials for bucket {settings.bucket!r} could not be loaded ({kind}). Check token and project, or: "
        f"{LOG_IN}"
    )
