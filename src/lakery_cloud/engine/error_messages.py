"""The sentences of errors, the same for every provider: what was tried, on which key, what the store said, what to do."""

import re
from dataclasses import dataclass
from typing import Any

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Signal, Unreachable
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    LakeryCloudError,
    StorageUnavailable,
)

MAX_SAID = 500
"""Most characters that an error repeats of what a store or a library said."""

_MASK = "***"
_IN_HOST = re.compile(r"(?<=//)[^/?#\s'\"]*@")
_IN_QUERY = re.compile(
    r"\b((?:x-(?:amz|goog)-)?(?:sig|signature|credential|security-token)|awsaccesskeyid|access_token|upload_id|accountkey"
    r"|sharedaccesssignature)=[^&;\s'\"<>)]*",
    re.IGNORECASE,
)
"""Signatures, tokens, and the addresses of Cloud Storage's uploads, which are credentials of their own."""


def redacted(text: str) -> str:
    """A text without the credentials that its URLs or connection strings hold."""
    return _IN_QUERY.sub(lambda found: f"{found[1]}={_MASK}", _IN_HOST.sub(f"{_MASK}@", text))


def redact_error(error: BaseException) -> str:
    """What a library's exception says. Credentials are taken out of it and of those behind it, which a traceback shows."""
    for behind in _chain(error):
        behind.args = tuple(map(_without_credentials, behind.args))
        vars(behind).update({name: _without_credentials(value) for name, value in vars(behind).items()})
    return redacted(str(error))[:MAX_SAID] or type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        behind = waiting.pop()
        if isinstance(behind, BaseException) and not any(behind is known for known in found):
            found.append(behind)
            waiting += (behind.__cause__, behind.__context__, *behind.args, *vars(behind).values())
    return found


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if hasattr(value, "real_url") and hasattr(value, "_replace"):  # aiohttp's description of a request
        url = value.real_url.with_query(None).with_user(None)
        return value._replace(url=url, headers={}, real_url=url)
    return value


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not succeed. A provider decides what happened; each method makes the error that says so.

    Attributes:
        operation: What was tried, by the name that the provider gives it.
        address: On which bucket and key.
        endpoint: Where.
        said: What was answered, such as `S3 answered SlowDown: ...`, or what the library said where nothing was. It is
            cut where it is long, and holds no credentials, whatever the store repeats.
    """

    operation: str
    address: Address
    endpoint: str
    said: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", redacted(self.endpoint))
        object.__setattr__(self, "said", redacted(self.said)[:MAX_SAID])

    @property
    def tried(self) -> str:
        """The request, for sentences."""
        return f"{self.operation} of {self.address}"

    def signal(self, kind: type[Signal]) -> Signal:
        """An answer that the algorithm goes on from."""
        return kind(f"{self.tried}: {self.said}")

    def no_bucket(self) -> BucketNotFound:
        """The bucket is not there."""
        return BucketNotFound(
            f"the bucket {self.address.bucket!r} is not there ({self.operation}); create it, or check its name, region "
            f"and endpoint {self.endpoint}"
        )

    def no_credentials(self, remedy: str) -> CredentialsError:
        """There are none, or none that could be sent."""
        return CredentialsError(f"no credentials for {self.tried} at {self.endpoint}: {self.said}. {remedy}")

    def credentials_refused(self, remedy: str) -> CredentialsError:
        """They are expired, unknown or wrong."""
        return CredentialsError(
            f"the credentials were not accepted ({self.tried}): {self.said}. Renew them, or check that they belong to "
            f"{self.endpoint}. {remedy}"
        )

    def denied(self, grant: str) -> AccessDenied:
        """The credentials don't allow it."""
        return AccessDenied(f"{self.tried} is not allowed: {self.said}. {grant}")

    def damaged(self) -> IntegrityError:
        """The store got other bytes than their checksum says."""
        return IntegrityError(
            f"the store refused {self.tried}, because the bytes are not what their checksum says: {self.said}"
        )

    def misconfigured(self, remedy: str) -> ConfigError:
        """A setting is wrong."""
        return ConfigError(f"{self.tried}: {self.said}. {remedy}")

    def archived(self, remedy: str) -> StorageUnavailable:
        """The content lies where it can't be read at once."""
        return StorageUnavailable(f"{self.address} is archived ({self.said}); {remedy}, then read it again")

    def unavailable(self) -> StorageUnavailable:
        """The store can't at the moment."""
        return StorageUnavailable(f"{self.tried} failed after all retries: {self.said}. Try again later")

    def refused(self) -> LakeryCloudError:
        """Anything else."""
        return LakeryCloudError(f"{self.tried} was refused: {self.said}")

    def unreachable(self, remedy: str = "check endpoint_url and the network") -> Unreachable:
        """No connection came about."""
        return Unreachable(f"{self.tried} at {self.endpoint}: no connection; {remedy}")

    def no_tls(self) -> Unreachable:
        """The connection could not be encrypted."""
        return Unreachable(f"{self.tried} at {self.endpoint}: no TLS connection: {self.said}")

    def no_answer(self) -> StorageUnavailable:
        """The connection broke, or nothing came in time."""
        return StorageUnavailable(
            f"{self.tried} at {self.endpoint} got no answer after all retries: {self.said}. Try again later"
        )
