"""gcsfs' file system, which finds the credentials."""

from typing import TYPE_CHECKING

from gcsfs.core import GCSFileSystem
from google.auth import exceptions as auth_errors

from lakery_cloud.engine.model import without_none
from lakery_cloud.errors import CredentialsError
from lakery_cloud.http.exchange import Origin
from lakery_cloud.providers.gcs.credentials import credentials_of
from lakery_cloud.providers.gcs.refusals import LOG_IN
from lakery_cloud.redaction import redact_error

if TYPE_CHECKING:
    from lakery_cloud.providers.gcs.settings import GCSSettings


def new_file_system(settings: "GCSSettings", *, is_plain: bool) -> GCSFileSystem:
    """A file system with the credentials of the settings, or with those that gcsfs finds.

    Args:
        settings: The storage's settings.
        is_plain: Whether the endpoint has no TLS. Found credentials are not sent to it.

    Raises:
        CredentialsError: There are none, or they could not be loaded.
    """
    endpoint = settings.endpoint_url
    token = "anon" if settings.token is None and is_plain else credentials_of(settings.token, endpoint=endpoint)
    try:
        return GCSFileSystem(
            token=token,
            endpoint_url=endpoint,
            requester_pays=settings.user_project or False,
            asynchronous=True,
            skip_instance_cache=True,
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


def no_proxy(origin: Origin) -> None:
    """The proxy of a file system of the user's own, which has a session of its own."""
