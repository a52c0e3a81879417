"""The sentences of errors, the same for every provider: what was tried, on which key, what the store said, what to do."""

from dataclasses import dataclass

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.transport import Signal, Unreachable
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    LakeryCloudError,
    StorageUnavailable,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not succeed. A provider decides what happened; each method makes the error that says so.

    Attributes:
        operation: What was tried, by the name that the provider gives it.
        address: On which bucket and key.
        endpoint: Where.
        said: What was answered, such as `S3 answered SlowDown: ...`, or what the library said where nothing was.
    """

    operation: str
    address: Address
    endpoint: str
    said: str

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
