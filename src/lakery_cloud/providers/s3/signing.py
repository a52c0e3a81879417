"""Where requests to a bucket of S3 go, and their signature: AWS Signature Version 4.

The SDK is asked where they go, and sends no request for that. A bucket that only a record names must be at the endpoint of
the storage's own bucket. The signature is a pure function of a request, a time and credentials (AWS documentation,
"Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)").
"""

import hashlib
import hmac
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from botocore.exceptions import ClientError

from lakery_cloud.engine.keys import Address
from lakery_cloud.errors import InvalidRecord, LakeryCloudError, brief
from lakery_cloud.http.exchange import Origin
from lakery_cloud.providers.s3.errors import sdk_errors, translate

if TYPE_CHECKING:
    from aiobotocore.awsrequest import AioAWSResponse
    from types_aiobotocore_s3 import S3Client

    from lakery_cloud.providers.s3.client import SDKClient

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
"""The payload hash of a body that the signature doesn't cover; a checksum among the signed headers does."""


@dataclass(frozen=True, slots=True)
class Key:
    """What requests of one day to one region are signed with.

    Attributes:
        credential: Access key id and scope.
        secret: The signing key, derived from the secret access key.
    """

    credential: str
    secret: bytes = field(repr=False)


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
    return Key(f"{access_key}/{date}/{region}/{service}/aws4_request", secret)


def encode_path(key: str) -> str:
    """A key as it stands in a path, on the wire and in what is signed: encoded once."""
    return quote(key, safe="/~")


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
    if "  " in lines or " \n" in lines or ": " in lines:
        lines = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in headers.items()])
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload_hash}"
    scope = key.credential.partition("/")[2]
    to_sign = f"{ALGORITHM}\n{time}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(key.secret, to_sign.encode(), "sha256").hex()
    return f"{ALGORITHM} Credential={key.credential},SignedHeaders={names},Signature={signature}"


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
