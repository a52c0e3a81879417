"""The errors of every storage: one small tree, the same for each provider.

A message says what failed, on which bucket and key, what the store said, and what to do. The SDK's error is the cause
(`__cause__`). No message, log line or repr contains a secret.
"""

LONGEST_QUOTE = 200
"""Most characters of a value that a message quotes: records are untrusted and may have any length."""


def brief(value: object) -> str:
    """Return the repr of a value for a message, shortened if it is long."""
    if isinstance(value, str | bytes):
        value = value[: LONGEST_QUOTE + 1]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or deep nesting
        text = f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."


class LakeryCloudError(Exception):
    """The base of all errors that lakery-cloud defines."""


class NoStorageData(LakeryCloudError, LookupError):
    """The object of the storage data does not exist."""


class BucketNotFound(LakeryCloudError, LookupError):
    """The bucket (or container, or root folder) does not exist."""


class AccessDenied(LakeryCloudError, PermissionError):
    """The credentials are valid but lack a permission."""


class CredentialsError(LakeryCloudError):
    """There are no credentials, or the provider refuses them."""


class IntegrityError(LakeryCloudError):
    """Content does not match its hash, size or digest."""


class StorageUnavailable(LakeryCloudError, ConnectionError):
    """The provider was unreachable or failed, and all retries failed too."""


class InvalidTags(LakeryCloudError, ValueError):
    """Tags break the rule that all providers share."""


class InvalidRecord(LakeryCloudError, ValueError):
    """A digest, a content record or storage data is malformed."""


class ConfigError(LakeryCloudError, ValueError):
    """A setting, a URL or a storage class is invalid."""


class NotRegistered(LakeryCloudError, LookupError):
    """The registry has no storage of that name."""


class NameConflict(LakeryCloudError, ValueError):
    """A permanent name is already taken."""


class ReadOnlyStorage(LakeryCloudError):
    """The storage is read-only."""


class MissingDependency(LakeryCloudError, ImportError):
    """An optional library is not installed; the message has the command that installs it."""


PERMANENT_ERRORS: tuple[type[LakeryCloudError], ...] = (
    BucketNotFound,
    CredentialsError,
    ConfigError,
    MissingDependency,
)
"""Errors that would occur for every other object too, so that work on many objects stops at the first one."""
