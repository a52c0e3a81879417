"""The errors of every storage: one small tree, the same for each provider.

A message says what was tried, on which bucket and key, and what to do about it. The SDK's own error is the cause
(`__cause__`). No message, log line or repr ever holds a secret.
"""

LONGEST_QUOTE = 200
"""Most characters that a message repeats of what it was given: records are untrusted, and may be of any length."""


def brief(value: object) -> str:
    """The repr of a value that a message quotes, cut where it is long."""
    if isinstance(value, str | bytes):
        value = value[: LONGEST_QUOTE + 1]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or what is nested too deeply
        text = f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."


class LakeryCloudError(Exception):
    """Base of every error that lakery-cloud raises on its own account."""


class NoStorageData(LakeryCloudError, LookupError):
    """The object that the storage data points to is not there."""


class BucketNotFound(LakeryCloudError, LookupError):
    """The bucket (or container, or root folder) is not there."""


class AccessDenied(LakeryCloudError, PermissionError):
    """The credentials are valid, but may not do this."""


class CredentialsError(LakeryCloudError):
    """There are no credentials, or the provider does not accept them."""


class IntegrityError(LakeryCloudError):
    """Content is not what its hash, its size or its digest says."""


class StorageUnavailable(LakeryCloudError, ConnectionError):
    """The provider could not be reached or kept failing; the retries are used up."""


class InvalidTags(LakeryCloudError, ValueError):
    """Tags break the rule that holds for all providers."""


class InvalidRecord(LakeryCloudError, ValueError):
    """A digest, a content record or storage data is malformed."""


class ConfigError(LakeryCloudError, ValueError):
    """A setting, a URL or a storage class is wrong."""


class NotRegistered(LakeryCloudError, LookupError):
    """No storage of that name is in the registry."""


class NameConflict(LakeryCloudError, ValueError):
    """A permanent name is already taken."""


class ReadOnlyStorage(LakeryCloudError):
    """The storage serves reads only."""


class MissingDependency(LakeryCloudError, ImportError):
    """An optional library is not installed; the message holds the command that installs it."""


HOPELESS: tuple[type[LakeryCloudError], ...] = (BucketNotFound, CredentialsError, ConfigError, MissingDependency)
"""Errors that the next object would meet as well: work on many objects ends with them."""
