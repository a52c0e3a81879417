"""Messages of errors, the same for every provider, and the rules that turn a store's refusals into errors.

A message says what failed, where, what the store said, and what to do.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

MAX_QUOTE = 500
"""Most characters that an error quotes from a store or a library."""

_MASK = "***"
_IN_HOST = re.compile(r"(?<=//)[^/?#\s'\"]*@")
_IN_QUERY = re.compile(
    r"\b((?:x-(?:amz|goog)-)?(?:sig|signature|credential|security-token)|awsaccesskeyid|access_token|upload_id|accountkey"
    r"|sharedaccesssignature)=[^&;\s'\"<>)]*",
    re.IGNORECASE,
)
"""Signatures, tokens, and the URLs of Cloud Storage's upload sessions, which are credentials too."""


def redact(text: str) -> str:
    """A text without the credentials in its URLs or connection strings."""
    return _IN_QUERY.sub(lambda found: f"{found[1]}={_MASK}", _IN_HOST.sub(f"{_MASK}@", text))


def redact_error(error: BaseException) -> str:
    """Remove credentials from a library's exception and from its causes, which a traceback shows; return its text."""
    for each in _chain(error):
        each.args = tuple(map(_without_credentials, each.args))
        vars(each).update({name: _without_credentials(value) for name, value in vars(each).items()})
    return redact(str(error))[:MAX_QUOTE] or type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and not any(each is known for known in found):
            found.append(each)
            waiting += (each.__cause__, each.__context__, *each.args, *vars(each).values())
    return found


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if hasattr(value, "real_url") and hasattr(value, "_replace"):  # aiohttp's description of a request
        url = value.real_url.with_query(None).with_user(None)
        return value._replace(url=url, headers={}, real_url=url)
    return value


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
    def tried(self) -> str:
        """The request, for sentences."""
        return f"{self.operation} of {self.address}"

    def signal(self, kind: type[Signal]) -> Signal:
        """An answer to which the algorithm reacts."""
        return kind(f"{self.tried}: {self.said}")

    def no_bucket(self) -> BucketNotFound:
        """The bucket does not exist."""
        return BucketNotFound(
            f"{self.operation} failed, because the bucket {self.address.bucket!r} does not exist at {self.endpoint}: "
            f"{self.said}. Create it, or check its name, region and endpoint"
        )

    def no_credentials(self, remedy: str) -> CredentialsError:
        """There are no usable credentials."""
        return CredentialsError(f"no credentials for {self.tried} at {self.endpoint}: {self.said}. {remedy}")

    def credentials_refused(self, remedy: str) -> CredentialsError:
        """The credentials are expired, unknown or wrong."""
        return CredentialsError(
            f"the credentials were not accepted for {self.tried} at {self.endpoint}: {self.said}. Renew them, or check "
            f"that they belong to this endpoint. {remedy}"
        )

    def denied(self, grant: str) -> AccessDenied:
        """The credentials lack a permission."""
        return AccessDenied(f"{self.tried} is not allowed: {self.said}. {grant}")

    def damaged(self) -> IntegrityError:
        """The store received other bytes than their checksum says."""
        return IntegrityError(
            f"the store refused {self.tried}, because the bytes don't match their checksum: {self.said}"
        )

    def misconfigured(self, remedy: str) -> ConfigError:
        """A setting is wrong."""
        return ConfigError(f"{self.tried} failed: {self.said}. {remedy}")

    def archived(self, remedy: str) -> StorageUnavailable:
        """The content must be restored before it can be read."""
        return StorageUnavailable(f"{self.address} is archived: {self.said}; {remedy}, then read it again")

    def unavailable(self) -> StorageUnavailable:
        """The store is overloaded or failing."""
        return StorageUnavailable(f"{self.tried} failed after all retries: {self.said}. Try again later")

    def refused(self) -> LakeryCloudError:
        """The store refused the request for any other reason."""
        return LakeryCloudError(f"{self.tried} was refused: {self.said}")

    def unreachable(self, remedy: str = "check endpoint_url and the network") -> Unreachable:
        """No connection was established."""
        return Unreachable(f"{self.tried} failed: no connection to {self.endpoint}; {remedy}")

    def no_tls(self) -> Unreachable:
        """The connection could not be encrypted."""
        return Unreachable(f"{self.tried} failed: no TLS connection to {self.endpoint}: {self.said}")

    def no_answer(self) -> StorageUnavailable:
        """The connection broke, or no response arrived in time."""
        return StorageUnavailable(
            f"{self.tried} at {self.endpoint} got no response after all retries: {self.said}. Try again later"
        )

    def unusable(self) -> StorageUnavailable:
        """The response does not say what the API promises."""
        return StorageUnavailable(
            f"{self.tried} at {self.endpoint} got {self.said}, after all retries. Check that endpoint_url is this store's "
            "API, and that no proxy answers in its place"
        )


Outcome = Callable[[Failure], Exception]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalRules:
    """What the refusals of one provider's API mean. The store's own code counts first, its status only without one.

    Attributes:
        signals: (operation, code) -> signal; the operation is empty for any.
        outcomes: Code -> error.
        grants: Operation -> the sentence that says which permission it needs.
        grant: The same for every other operation.
        set_credentials: The sentence that says how to configure credentials.
    """

    signals: Mapping[tuple[str, str], type[Signal]]
    outcomes: Mapping[str, Outcome]
    grants: Mapping[str, str] = field(default_factory=dict)
    grant: str
    set_credentials: str

    def error(self, failure: Failure, *, code: str, status: int) -> Exception:
        """The signal or error for a refusal.

        Args:
            failure: The failed request.
            code: The store's code; empty without one.
            status: HTTP status.
        """
        signal = self.signals.get((failure.operation, code)) or self.signals.get(("", code))
        if signal is not None:
            return failure.signal(signal)
        if outcome := self.outcomes.get(code):
            return outcome(failure)
        if status == 401:
            return failure.credentials_refused(self.set_credentials)
        if status == 403:
            return failure.denied(self.grants.get(failure.operation, self.grant))
        if status >= 500 or status in (408, 429):
            return failure.unavailable()
        return failure.refused()
