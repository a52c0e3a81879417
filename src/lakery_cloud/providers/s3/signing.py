"""Where requests to a bucket of S3 go, and their signature: AWS Signature Version 4.

The SDK is asked where they go, and sends no request for that. In the simplest configurations (fixed keys, a region, an
endpoint, a bucket with an ordinary name) `find_direct` asks its rules alone, since opening its client takes long. A bucket
that only a record names must be at the endpoint of the storage's own bucket.

The signature is a pure function of a request, a time and credentials (AWS documentation, "Authenticating Requests: Using
the Authorization Header (AWS Signature Version 4)").
"""

import hashlib
import hmac
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

import botocore.loaders
from botocore.credentials import Credentials
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.secret_key import SecretKey
from lakery_cloud.errors import InvalidRecord, LakeryCloudError, brief
from lakery_cloud.http.exchange import Origin
from lakery_cloud.http.headers import quoted
from lakery_cloud.providers.s3.credentials import FixedCredentials, KeySession
from lakery_cloud.providers.s3.errors import sdk_errors, translate
from lakery_cloud.providers.s3.settings import BUCKET_NAMES

if TYPE_CHECKING:
    from aiobotocore.awsrequest import AioAWSResponse
    from types_aiobotocore_s3 import S3Client

    from lakery_cloud.providers.s3.settings import S3Settings
    from lakery_cloud.providers.s3.storage import SDKClient

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
"""The payload hash of a body that the signature doesn't cover; a checksum among the signed headers does."""


class Key(NamedTuple):
    """What requests of one day to one region are signed with.

    Attributes:
        credential: Access key id and scope.
        scope: Day, region and service.
        secret: The signing key, derived from the secret access key.
    """

    credential: str
    scope: str
    secret: SecretKey


def signing_key(access_key: str, secret_key: str, *, date: str, region: str, service: str = "s3") -> Key:
    """The key of a day.

    Args:
        access_key: Access key id.
        secret_key: Secret access key.
        date: `YYYYMMDD` in UTC.
        region: Such as `us-east-1`.
        service: Such as `s3`.
    """
    secret = f"AWS4{secret_key}".encode()
    for word in (date, region, service, "aws4_request"):
        secret = hmac.digest(secret, word.encode(), "sha256")
    scope = f"{date}/{region}/{service}/aws4_request"
    return Key(f"{access_key}/{scope}", scope, SecretKey(secret))


def encode_path(key: str) -> str:
    """A key as it stands in a path, on the wire and in what is signed: encoded once."""
    return quoted(key, safe="/~")


def encode_query(parameters: Mapping[str, str]) -> str:
    """Query parameters in the order and the encoding in which they are signed."""
    return "&".join(f"{quote(name, safe='~')}={quote(parameters[name], safe='~')}" for name in sorted(parameters))


def authorization(
    key: Key, method: str, path: str, *, query: str, headers: Mapping[str, str], time: str, payload_hash: str
) -> str:
    """The header `Authorization` of a request.

    Args:
        key: What to sign with.
        method: Such as `PUT`.
        path: See `encode_path`.
        query: See `encode_query`.
        headers: Those to sign: names in lower case, in alphabetical order; values without space around them. `host` and
            all that begin with `x-amz-` must be among them.
        time: `YYYYMMDDTHHMMSSZ` in UTC, as in the header `x-amz-date`.
        payload_hash: As in the header `x-amz-content-sha256`.
    """
    names = ";".join(headers)
    lines = "".join([f"{name}:{value}\n" for name, value in headers.items()])
    if " " in lines and ("  " in lines or " \n" in lines or ": " in lines):
        lines = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in headers.items()])
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload_hash}"
    to_sign = f"{ALGORITHM}\n{time}\n{key.scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return f"{ALGORITHM} Credential={key.credential},SignedHeaders={names},Signature={key.secret.sign(to_sign).hex()}"


def header_names(client: "S3Client", operation: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """The headers that carry the parameters of an operation."""
    shape = client.meta.service_model.operation_model(_API_NAMES[operation]).input_shape
    assert shape is not None
    headers: dict[str, str] = {}
    for name, value in parameters.items():
        serialization = shape.members[name].serialization
        if serialization.get("location") == "header":
            headers[serialization["name"]] = value
        elif serialization.get("location") == "headers":
            headers |= {f"{serialization['name']}{key}": text for key, text in value.items()}
    return headers


_API_NAMES = {"get_object": "GetObject", "put_object": "PutObject"}


PROBE = "lakery-cloud-route"
"""A key that is never requested: the SDK is asked where it would send a request for it."""

_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/ ]+/\d{8}/(?P<region>[^/ ]+)/s3/aws4_request, ?SignedHeaders=(?P<names>[a-z0-9;-]+),"
)
# The headers that our requests sign too; others come from the user's hooks.
_OURS = frozenset({"host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})


class Route(NamedTuple):
    """Where requests to a bucket go.

    Attributes:
        origin: The host.
        root: The path before the key.
        region: The region that signatures name.
    """

    origin: Origin
    root: str
    region: str


def answer_probe(request: Any, **_: Any) -> "AioAWSResponse | None":
    """A handler for the SDK's event `before-send`: answers the probe, unsent, with the request's own URL and signature."""
    if not request.url.endswith(f"/{PROBE}"):
        return None
    from aiobotocore.awsrequest import AioAWSResponse

    signature = request.headers.get("Authorization", "")
    signature = signature.decode() if isinstance(signature, bytes) else signature
    return AioAWSResponse(request.url, 200, {"url": request.url, "authorization": signature}, _NoBody())


class _NoBody:
    async def read(self) -> bytes:
        return b""


async def find_route(client: "S3Client", bucket: str) -> Route | None:
    """Where the SDK would send a request for an object of a bucket; None if it signs in a way that we can't."""
    with _translated(client, bucket):
        answer = await client.head_object(Bucket=bucket, Key=PROBE)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    signed = _SIGNED.match(headers["authorization"])
    if signed is None or not set(signed["names"].split(";")) <= _OURS:
        return None
    root = urlsplit(headers["url"]).path.removesuffix(PROBE)  # without the credentials that a URL may have
    return Route(Origin.of(headers["url"]), root, signed["region"])


@contextmanager
def _translated(client: "S3Client", bucket: str) -> Iterator[None]:
    try:
        yield
    except LakeryCloudError:  # some are errors of the SDK's kinds too, such as ValueError
        raise
    except (ClientError, *sdk_errors()) as error:
        raise translate(error, "signing", Address(bucket, ""), endpoint=client.meta.endpoint_url) from error


class Endpoint(NamedTuple):
    """What may not differ between the storage's own bucket and one that a record names.

    Attributes:
        host: Host and port, without the label of the bucket.
        is_tls: Whether connections use TLS.
        region: The region that signatures name.
        service: The service that signatures name.
    """

    host: str
    is_tls: bool
    region: str
    service: str


class _Found(Exception):
    """The endpoint of a bucket, on the way out of a call of the SDK that neither signs nor sends anything."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.endpoint = endpoint


_asked: ContextVar[tuple[str, str] | None] = ContextVar("asked", default=None)
"""The bucket whose endpoint is looked for, and the client's region."""


class Endpoints:
    """Compares the endpoints of buckets. The SDK gives some names a meaning: a host of their own, another service.

    Args:
        client: The SDK's client.
        own: The storage's own bucket.
        trusted: Other buckets that the configuration names. They are not compared.
    """

    def __init__(self, client: "SDKClient", own: str, trusted: Collection[str]) -> None:
        self._client = client
        self._own = own
        self._expected: Endpoint | None = None
        self._trusted = {own, *trusted}

    async def check(self, bucket: str) -> None:
        """Refuse a bucket at another endpoint than the storage's own, before its first request.

        Redirects are the store's choice; they don't count.

        Raises:
            InvalidRecord: The bucket has another host, region or service.
        """
        if bucket in self._trusted:
            return
        if self._expected is None:
            self._expected = await self._find(self._own)
        if await self._find(bucket) != self._expected:
            raise InvalidRecord(
                f"the bucket {brief(bucket)} has another endpoint than {self._own!r}, and only a record names it; add it "
                "to allowed_buckets if you trust it"
            )
        self._trusted.add(bucket)

    async def _find(self, bucket: str) -> Endpoint:
        client = await self._client.get()
        asked = _asked.set((bucket, client.meta.region_name))
        client.meta.events.register_last("before-endpoint-resolution.s3", _forget_redirect)
        # First: a handler of the SDK fetches the credentials of a session from the bucket's host.
        client.meta.events.register_first("before-sign.s3.HeadObject", _stop)
        try:
            with _translated(client, bucket):
                await client.head_object(Bucket=bucket, Key=PROBE)
        except _Found as found:
            return found.endpoint
        finally:
            client.meta.events.unregister("before-endpoint-resolution.s3", _forget_redirect)
            client.meta.events.unregister("before-sign.s3.HeadObject", _stop)
            _asked.reset(asked)
        raise AssertionError("the SDK sends a request without the event before its signature")


def _forget_redirect(builtins: dict[str, Any], **_: Any) -> None:
    """A handler for the SDK's event `before-endpoint-resolution`: resolves the name in the configured region."""
    if (asked := _asked.get()) is not None:
        builtins["AWS::Region"] = asked[1]


def _stop(request: Any, signing_name: str, region_name: str, **_: Any) -> None:
    """A handler for the SDK's event `before-sign`."""
    if (asked := _asked.get()) is None:
        return
    bucket = asked[0]
    url, signing = urlsplit(request.url), request.context.get("signing", {})
    origin = Origin.of(request.url)
    host = f"{origin.host}:{origin.port}"
    if not url.path.removesuffix(f"/{PROBE}").endswith(f"/{bucket}"):
        host = host.removeprefix(f"{bucket.lower()}.")
    raise _Found(
        Endpoint(host, origin.is_tls, signing.get("region") or region_name, signing.get("signing_name") or signing_name)
    )


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
    # It reads the configuration alone, and needs none of the handlers of requests, which take longest to make.
    session = settings.session or Session(profile=settings.profile, include_builtin_handlers=False)
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
