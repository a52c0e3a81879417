"""What the hot requests need of the AWS configuration, found without the SDK's client, whose opening takes long.

This room knows only the simplest configurations: fixed keys, a region, an endpoint, a bucket with an ordinary name. For all
others, the SDK's client says where requests go and how they are signed. The rules for hosts are the SDK's here too.
"""

import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import botocore.loaders
from botocore.credentials import Credentials
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from lakery_cloud.http.exchange import Origin
from lakery_cloud.providers.s3.credentials import FixedCredentials, KeySession
from lakery_cloud.providers.s3.settings import BUCKET_NAMES
from lakery_cloud.providers.s3.signing import Route

if TYPE_CHECKING:
    from lakery_cloud.providers.s3.settings import S3Settings

# Everything else that a profile or the environment may say is for the SDK. The lists name what is known to be harmless, so
# that a setting of a later SDK is not overlooked (AWS SDKs and Tools Reference Guide, "Settings reference").
_PROFILE = frozenset(
    {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region", "output", "cli_pager"}
)
_VARIABLES = re.compile(
    r"AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|REGION|DEFAULT_REGION|DEFAULT_OUTPUT|PAGER|PROFILE|CONFIG_FILE"
    r"|SHARED_CREDENTIALS_FILE|CA_BUNDLE|ENDPOINT_URL|ENDPOINT_URL_S3|EC2_METADATA_DISABLED|EXECUTION_ENV"
    r"|LAMBDA_\w+|XRAY_\w+)|(?!AWS_|BOTO).*"
)
_STATIC = frozenset({"env", "shared-credentials-file", "config-file"})
"""The SDK's names of sources whose keys never change."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION = re.compile(r"(?!.*(?:fips|global))[a-z0-9]+(?:-[a-z0-9]+)*")
_ENDPOINT = re.compile(r"https?://(?![^/]*amazonaws)[A-Za-z0-9.-]+(?::[1-9]\d{0,4})?(?:/[A-Za-z0-9._/-]*)?")
"""Endpoints of Amazon have hosts with a meaning, such as those of accelerated transfers."""
_WITHOUT_REGION = "aws-global"
"""The SDK's region of a client without one."""


class Direct(NamedTuple):
    """What the hot requests need.

    Attributes:
        session: What has read the configuration.
        route: Where requests to the storage's own bucket go.
        endpoint: URL of the API, for messages.
        credentials: The keys.
    """

    session: Session
    route: Route
    endpoint: str
    credentials: FixedCredentials


def find_direct(settings: "S3Settings") -> Direct | None:
    """What the hot requests need; None if only the SDK's client can say that, or explain an error."""
    if not isinstance(settings.session, KeySession | None) or settings.client is not None or not settings.fast_lane:
        return None
    if not _BUCKET.fullmatch(settings.bucket) or not BUCKET_NAMES.is_trusted(settings.bucket):
        return None
    if not all(_VARIABLES.fullmatch(name) for name in os.environ):
        return None
    session = settings.session or Session(profile=settings.profile)
    try:
        # A description of the API that the user has changed.
        if os.path.isdir(botocore.loaders.Loader.CUSTOMER_DATA_PATH):
            return None
        profile = session.get_scoped_config()
        if not _PROFILE.issuperset(profile) or not all(isinstance(value, str) for value in profile.values()):
            return None
        credentials = _fixed_credentials(session, settings)
        place = _place(session, settings)
    except (BotoCoreError, OSError, ValueError):  # the SDK's client raises it again, and its owner explains it
        return None
    return Direct(session, *place, credentials) if credentials is not None and place is not None else None


def _fixed_credentials(session: Session, settings: "S3Settings") -> FixedCredentials | None:
    if isinstance(session, KeySession):
        return FixedCredentials(session.get_credentials())
    in_environment = settings.profile is None and os.environ.get("AWS_ACCESS_KEY_ID")
    if not in_environment and "aws_access_key_id" not in session.get_scoped_config():
        return None  # the SDK would look for the role of an instance
    found = session.get_credentials()
    return FixedCredentials(found) if type(found) is Credentials and found.method in _STATIC else None


def _place(session: Session, settings: "S3Settings") -> tuple[Route, str] | None:
    """Where requests to the own bucket go, and the URL of the API."""
    region = settings.region or session.get_config_variable("region")
    endpoint = settings.endpoint_url or endpoint_in_environment()
    if region is None and endpoint:
        region = _WITHOUT_REGION
    elif region is None or not _REGION.fullmatch(region):
        return None
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        return None
    style = addressing_style(settings)
    parameters: dict[str, Any] = {
        "Region": region,
        "UseFIPS": False,
        "UseDualStack": False,
        "Accelerate": False,
        "UseGlobalEndpoint": region == "us-east-1",
        "UseArnRegion": True,
        "DisableMultiRegionAccessPoints": False,
        # As the SDK does (botocore's args.py): at an endpoint of its own, the path names the bucket by default.
        "ForcePathStyle": style != "virtual" if endpoint else style == "path",
    }
    if endpoint:
        parameters["Endpoint"] = endpoint
    found = _rules().resolve_endpoint(Bucket=settings.bucket, **parameters)
    schemes = found.properties.get("authSchemes", [])
    if found.headers or len(schemes) != 1 or schemes[0].get("name") != "sigv4" or schemes[0].get("signingName") != "s3":
        return None
    url = urlsplit(found.url)
    route = Route(Origin.of(found.url), f"{url.path.rstrip('/')}/", schemes[0]["signingRegion"])
    return route, endpoint or _rules().resolve_endpoint(**parameters).url


@cache
def _rules() -> EndpointProvider:
    """The SDK's rules for the hosts of S3."""
    loader = botocore.loaders.create_loader()
    return EndpointProvider(
        loader.load_service_model("s3", "endpoint-rule-set-1"),
        loader.load_data("partitions"),
    )


def addressing_style(settings: "S3Settings") -> str:
    """Whether the bucket is part of the path or of the host name."""
    return settings.addressing_style or ("path" if settings.endpoint_url or endpoint_in_environment() else "auto")


def endpoint_in_environment() -> str | None:
    """The endpoint that environment variables name."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
