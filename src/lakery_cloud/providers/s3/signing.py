"""AWS Signature Version 4 for S3, as a pure function of a request, a time and credentials.

AWS documentation, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

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
