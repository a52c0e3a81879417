"""Messages of errors, the same for every provider.

A message says what failed, where, what the store said, and what to do.
"""

import re
from dataclasses import dataclass

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Archived, Full, Signal, Uncertain, Unreachable, Unsupported
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidTags,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.redaction import MAX_QUOTE, redact

LATER = "Try again later"
RENEW = "Renew them, or check that they belong to this endpoint"
_HEADER = re.compile(r"\b(?:x-[a-z0-9]+-[a-z0-9-]+|if-(?:none-)?match|content-md5)\b")


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed. A provider decides why; each method makes the error for one reason.

    Attributes:
        operation: The API's name of the request.
        address: Bucket and key.
        endpoint: URL of the API.
        said: The store's answer, such as `S3 answered SlowDown: ...`, or the library's message without one. It is
            shortened, and credentials are removed, whatever the store repeats.
    """

    operation: str
    address: Address
    endpoint: str
    said: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", redact(self.endpoint))
        object.__setattr__(self, "said", redact(self.said)[:MAX_QUOTE].removesuffix("."))

    @property
    def request(self) -> str:
        """Operation and address, for sentences."""
        return f"{self.operation} of {self.address}"

    def signal(self, kind: type[Signal]) -> Signal:
        """An answer to which the algorithm reacts."""
        return kind(f"{self.request}: {self.said}")

    def no_bucket(self, remedy: str) -> BucketNotFound:
        """The bucket does not exist."""
        return BucketNotFound(
            f"{self.operation} failed, because the bucket {self.address.bucket!r} does not exist at {self.endpoint}: "
            f"{self.said}. {remedy}"
        )

    def no_credentials(self, remedy: str) -> CredentialsError:
        """There are no usable credentials."""
        return CredentialsError(f"no credentials for {self.request} at {self.endpoint}: {self.said}. {remedy}")

    def credentials_refused(self, remedy: str) -> CredentialsError:
        """The credentials are expired, unknown or wrong."""
        return CredentialsError(
            f"the credentials were not accepted for {self.request} at {self.endpoint}: {self.said}. {remedy}"
        )

    def denied(self, grant: str) -> AccessDenied:
        """The credentials lack a permission."""
        return AccessDenied(f"{self.request} is not allowed: {self.said}. {grant}")

    def damaged(self, remedy: str) -> IntegrityError:
        """The store received other bytes than their checksum says."""
        return IntegrityError(
            f"the store refused {self.request}, because the bytes don't match their checksum: {self.said}. {remedy}"
        )

    def wrong_tags(self, remedy: str) -> InvalidTags:
        """The store refuses the tags."""
        return InvalidTags(f"the store refused the tags of {self.request}: {self.said}. {remedy}")

    def misconfigured(self, remedy: str) -> ConfigError:
        """A setting is wrong."""
        return ConfigError(f"{self.request} failed: {self.said}. {remedy}")

    def archived(self, remedy: str) -> Archived:
        """The content must be restored before it can be read."""
        return Archived(f"{self.address} is archived: {self.said}. {remedy}")

    def full(self, remedy: str) -> Full:
        """A quota or the space of the store is used up."""
        return Full(f"{self.request} failed for lack of space: {self.said}. {remedy}")

    def unavailable(self, remedy: str = LATER) -> StorageUnavailable:
        """The store is overloaded or failing."""
        return StorageUnavailable(f"{self.request} failed after all retries: {self.said}. {remedy}")

    def unsupported(self, remedy: str) -> Unsupported:
        """The store does not support something in the request."""
        error = Unsupported(
            f"{self.request} was refused, because {self.endpoint} does not support something in it: {self.said}. {remedy}"
        )
        error.headers = frozenset(_HEADER.findall(self.said.lower()))
        return error

    def refused(self, remedy: str) -> LakeryCloudError:
        """The store refused the request for any other reason."""
        return LakeryCloudError(f"{self.request} was refused: {self.said}. {remedy}")

    def unreachable(self, remedy: str = "check endpoint_url and the network") -> Unreachable:
        """No connection was established."""
        return Unreachable(f"{self.request} failed: no connection to {self.endpoint}; {remedy}")

    def no_proxy(self) -> Unreachable:
        """The proxy in between can't be reached, or refuses the request."""
        return Unreachable(f"{self.request} failed: {self.said}. Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY")

    def no_tls(self) -> Unreachable:
        """The connection could not be encrypted."""
        return Unreachable(f"{self.request} failed: no TLS connection to {self.endpoint}: {self.said}")

    def no_answer(self) -> Uncertain:
        """The connection broke, or no response arrived in time."""
        return Uncertain(f"{self.request} at {self.endpoint} got no response after all retries: {self.said}. {LATER}")

    def unusable(self) -> Uncertain:
        """The response does not say what the API promises."""
        return Uncertain(
            f"{self.request} at {self.endpoint} got no usable response: {self.said}. Check that "
            "endpoint_url is this store's API, and that no proxy answers in its place"
        )
