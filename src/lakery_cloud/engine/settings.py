"""Settings of storages. Each is one field; constructors, URLs, configuration files and docs/settings.md follow from it."""

import functools
import inspect
import types
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin

from lakery_cloud.engine.bucket_names import ANY_NAMES, BucketNames
from lakery_cloud.engine.model import Limits, without_none
from lakery_cloud.engine.urls import check_endpoint_url, nearest
from lakery_cloud.errors import ConfigError, brief

P = ParamSpec("P")
S = TypeVar("S")

MiB = 1024**2

PART_SIZE = 5 * MiB
"""Default size of a stream's first parts and of ranges. S3 accepts no smaller parts; larger ones leave memory for fewer."""
ORDERED_PART_SIZE = 8 * MiB
"""The same where each part waits for the response to the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting, as everything that accepts or documents settings needs it.

    Attributes:
        name: Keyword of the constructor, parameter in a URL's query, key of the configuration file and, in capitals, end of
            the environment variable.
        type: `int`, `float`, `bool`, `str`, a `Literal` or a collection of texts. Anything else is for programs alone.
        default: The default; `MISSING` if the setting is required.
        meaning: What the setting does, in sentences.
        unit: `bytes`, `seconds` or nothing. Configuration files also accept texts such as `64MiB` for bytes.
        least: The smallest whole number.
        in_files: Whether configuration files and the environment may hold it.
        is_secret: Whether it is a credential, or an object that has some. URLs and representations never hold it.
    """

    name: str
    meaning: str
    type: Any = str
    default: Any = None
    unit: Literal["", "bytes", "seconds"] = ""
    least: int = 1
    in_files: bool = True
    is_secret: bool = False

    @property
    def description(self) -> str:
        """Meaning and unit."""
        return f"{self.meaning} In {self.unit}." if self.unit else self.meaning

    @property
    def in_urls(self) -> bool:
        """Whether the query of a URL may hold it."""
        return self.in_files and not self.is_secret

    @property
    def choices(self) -> tuple[str, ...]:
        """The only valid values; none if any may be given."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def is_list(self) -> bool:
        """Whether it is a list of texts."""
        return get_origin(self.type) is Collection

    def read(self, text: str) -> Any:
        """The value in the query of a URL.

        Raises:
            ValueError: The text is of another type.
        """
        if self.is_list:
            return text.split(",") if text else []
        if self.type is bool:
            return read_flag(text)
        return self.type(text) if self.type in (int, float) else text

    def check(self, value: Any) -> None:
        """Refuse a value that is out of range.

        Raises:
            ConfigError: The message names the setting.
        """
        if value is None and self.default is None:
            return
        if self.choices and value not in self.choices:
            *others, last = (repr(choice) for choice in self.choices)
            raise ConfigError(f"{self.name} must be {', '.join(others)} or {last}, not {value!r}")
        if self.type is int and (not isinstance(value, int) or isinstance(value, bool) or value < self.least):
            raise ConfigError(f"{self.name} must be a whole number of at least {self.least}, not {value!r}")
        if self.type is float and not (isinstance(value, int | float) and value > 0):
            raise ConfigError(f"{self.name} must be a number of {self.unit} over 0, not {value!r}")


def setting(default: Any, meaning: str, **facts: Any) -> Any:
    """A field of a settings class.

    Args:
        default: The default.
        meaning: What the setting does, in sentences.
        facts: Other attributes of `Setting`.
    """
    return field(default=default, repr=not facts.get("is_secret"), metadata={"meaning": meaning, **facts})


def temporary_bucket_setting(word: str = "bucket") -> Any:
    """The field `temporary_bucket` of a settings class, or the same with the provider's word for a bucket."""
    return setting(
        None,
        f"Name of another {word} for temporary objects and unfinished uploads, which the store copies from there to the "
        f"content. Use one if the {word} of the content keeps versions, retains objects or locks them. It must exist, and "
        "the credentials must be allowed to delete in it. In the same region, copies are fastest.",
    )


def copy_threshold_setting(default: str = "the store's own limit") -> Any:
    """The field `copy_threshold` of a settings class whose store copies large objects in parts."""
    return setting(
        None,
        "Largest object that one request copies inside the store; larger ones are copied in parts at the same time. By "
        f"default {default}. Set less if the store copies slowly.",
        unit="bytes",
    )


def copy_part_size_setting() -> Any:
    """The field `copy_part_size` of such a settings class."""
    return setting(None, "Size of the parts of such a copy. By default 16 MiB.", unit="bytes")


def copy_timeout_setting() -> Any:
    """The field `copy_timeout` of such a settings class."""
    # Copies inside of Alibaba OSS and MinIO outlast 60 s from some gigabytes on (reports to milvus, rclone, iRODS).
    return setting(
        100.0,
        "Time to wait for the response to a copy inside the store, for each GiB that it copies, in addition to "
        "`read_timeout`.",
        unit="seconds",
    )


def limits_of_copies(limits: Limits, *, threshold: int | None, part_size: int | None) -> Limits:
    """Limits with the values of `copy_threshold` and `copy_part_size`.

    Raises:
        ConfigError: The store does not allow them.
    """
    if threshold is not None and limits.max_copy_size is not None and threshold > limits.max_copy_size:
        raise ConfigError(f"copy_threshold must be at most {limits.max_copy_size} bytes, not {threshold}")
    if part_size is not None and not limits.min_part_size <= part_size <= limits.max_part_size:
        smallest, largest = limits.min_part_size, limits.max_part_size
        raise ConfigError(f"copy_part_size must be {smallest} to {largest} bytes, not {part_size}")
    return replace(limits, **without_none(max_copy_size=threshold, copy_part_size=part_size))


def redefine(base: "type[EngineSettings]", name: str, default: Any) -> Any:
    """A field of a base class with another default."""
    return field(default=default, metadata=base.__dataclass_fields__[name].metadata)


def settings_of(settings_class: type) -> Mapping[str, Setting]:
    """The settings that a settings class defines, by name."""
    return _settings_of(cast("Hashable", settings_class))


@functools.cache
def _settings_of(settings_class: Any) -> Mapping[str, Setting]:
    return {
        field.name: Setting(name=field.name, type=_without_none(field.type), default=field.default, **field.metadata)
        for field in fields(settings_class)
    }


def keywords_of(
    settings_class: Callable[P, S],
) -> Callable[[Callable[[Any, S], None]], Callable[Concatenate[Any, P], None]]:
    """Give a constructor that receives settings the fields of their class as its arguments."""

    def decorate(construct: Callable[[Any, S], None]) -> Callable[Concatenate[Any, P], None]:
        assert isinstance(settings_class, type)
        known = settings_of(settings_class)

        def constructor(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
            unknown = sorted(kwargs.keys() - known.keys())
            if unknown:
                raise ConfigError(f"unknown setting {unknown[0]!r}{nearest(unknown[0], known)}")
            construct(self, settings_class(*args, **kwargs))

        signature = inspect.signature(settings_class)
        this, _ = inspect.signature(construct).parameters.values()
        parameters = [this, *signature.parameters.values()]
        shown: Any = functools.update_wrapper(constructor, construct)
        shown.__signature__ = signature.replace(parameters=parameters, return_annotation=None)
        shown.__doc__ = "\n".join(
            ["Args:", *(f"    {setting.name}: {setting.description}" for setting in known.values())]
        )
        return constructor

    return decorate


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Settings of every storage."""

    prefix: str = setting("", "Start of each key. A slash separates it from the content hash.", in_files=False)
    part_size: int = setting(
        None,
        "Size of a stream's first parts. By default 5 MiB, or 8 MiB where parts are sent one after the other, as on Cloud "
        "Storage without `composite_uploads`. A stream that fits into one part is sent in one request.",
        unit="bytes",
    )
    max_concurrent_parts: int = setting(
        16,
        "The most parts of one stream, or of one copy, that are sent at the same time. It begins with 4, sends more while "
        "the network is the limit, and fewer when the store throttles.",
    )
    max_concurrent_requests: int = setting(64, "Requests that the storage sends at the same time, not counting reads.")
    max_concurrent_reads: int = setting(
        64,
        "Response bodies that the storage has open at the same time. Each stream that you read has one open until it ends "
        "or you close it.",
    )
    max_buffered_bytes: int = setting(
        256 * MiB, "Memory for all streams being written, and the same amount again for reading ahead.", unit="bytes"
    )
    concurrent_ranges: int = setting(
        0,
        "Ranges of one object that are read at the same time, fewer when the store throttles. 1 reads each object in one "
        "GET, which is fastest unless one connection limits the rate. 0 starts with one GET and changes to ranges if that "
        "is slow: to 8 at a time, and to more while the network is the limit.",
        least=0,
    )
    range_size: int = setting(PART_SIZE, "Size of such a range.", unit="bytes")
    verify: bool = setting(True, "Whether reads compare content with its hash.")
    cleanup_timeout: float = setting(
        30.0,
        "Time limit of the clean-up after a write, while it waits for the store. Waits for a slot of "
        "`max_concurrent_requests` don't count.",
        unit="seconds",
    )
    allowed_buckets: Collection[str] | None = setting(
        None,
        "Buckets (containers) besides its own that records may point to. Records with any other bucket are refused before "
        "any request. An empty list allows only its own; by default, records may point to any bucket. In a URL or an "
        "environment variable: `a,b`.",
    )
    limits: Limits = field(
        metadata={
            "meaning": "Limits of the store, for stores that differ from their provider's documentation.",
            "in_files": False,
        }
    )

    bucket_names: ClassVar[BucketNames] = ANY_NAMES
    """The names that buckets can have."""
    file_credentials: ClassVar[tuple[Setting, ...]] = ()
    """Credentials that only configuration files may hold. `ObjectStorage.credentials_from` makes arguments of them."""

    @classmethod
    def url_readers(cls) -> Mapping[str, Callable[[str], Any]]:
        """Names of the settings that the query of a URL may hold, with the function that reads the text."""
        return {name: setting.read for name, setting in settings_of(cls).items() if setting.in_urls}

    @property
    def bucket_of_temporary_keys(self) -> str | None:
        """The bucket of temporary keys; None if it is the storage's own."""
        name: str | None = getattr(self, f"temporary_{self.bucket_names.setting}", None)
        return name

    @property
    def connections(self) -> int:
        """The most connections that requests and open reads need."""
        return self.max_concurrent_requests + self.max_concurrent_reads

    def share(self, connections: int) -> dict[str, int]:
        """How many requests and how many open reads fit a client with this many connections.

        Neither may use all of them: open reads would block writes whose end a reader may wait for.
        """
        requests = self.max_concurrent_requests
        reads = min(self.max_concurrent_reads, max(1, connections // 2, connections - requests))
        requests = min(requests, max(1, connections - reads))
        return {"max_concurrent_requests": requests, "max_concurrent_reads": reads}

    def __post_init__(self) -> None:
        for name, setting in settings_of(type(self)).items():
            setting.check(getattr(self, name))
        if self.part_size is None:
            self._replace(part_size=ORDERED_PART_SIZE if self.limits.ordered_parts else PART_SIZE)
        if self.allowed_buckets is not None:
            self._replace(allowed_buckets=_bucket_names(self.allowed_buckets, self.bucket_names))
        if self.part_size % self.limits.part_multiple:
            raise ConfigError(
                f"part_size must be a multiple of {self.limits.part_multiple} bytes, not {self.part_size}"
            )
        smallest, largest = self.limits.min_part_size, self.limits.max_part_size
        if not smallest <= self.part_size <= largest:
            raise ConfigError(f"part_size must be {smallest} to {largest} bytes, not {self.part_size}")

    def _replace(self, **values: Any) -> None:
        """Normalize settings while they are made; they are frozen afterwards."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings(EngineSettings):
    """Settings of every storage behind a network."""

    endpoint_url: str | None = setting(None, "URL of the API, if it is not the provider's own.")
    max_attempts: int = setting(3, "Attempts for one request.")
    connect_timeout: float = setting(2.0, "Time to wait for a connection.", unit="seconds")
    read_timeout: float = setting(
        60.0, "Time to wait for a response, then for the next bytes of its content.", unit="seconds"
    )
    min_rate: int = setting(
        0,
        "Content that must arrive in each second of a read, on average over `read_timeout`. A slower response counts as "
        "broken off, and the read resumes with another request. 0 allows any rate.",
        unit="bytes",
        least=0,
    )
    fast_lane: bool = setting(
        True,
        "Whether the most frequent requests are sent without the SDK. Their effect is the same; switch it off if other "
        "code needs to see each request in the SDK.",
    )

    @property
    def token_timeout(self) -> float:
        """Seconds in which access tokens must be renewed: as long as a request may take without a response."""
        return self.max_attempts * (self.connect_timeout + self.read_timeout)

    def secrets(self) -> dict[str, Any]:
        """The credentials, and the objects with credentials, that the program gave."""
        return {
            name: getattr(self, name)
            for name, setting in settings_of(type(self)).items()
            if setting.is_secret and getattr(self, name) is not None
        }

    def __post_init__(self) -> None:
        EngineSettings.__post_init__(self)  # a class with slots is made twice, and super() finds the other one
        names = self.bucket_names
        names.check(getattr(self, names.setting), setting=names.setting)
        if (temporary := self.bucket_of_temporary_keys) is not None:
            names.check(temporary, setting=f"temporary_{names.setting}")
        if self.endpoint_url:
            self._replace(endpoint_url=check_endpoint_url(self.endpoint_url))


def _without_none(annotation: Any) -> Any:
    """The type of a setting that may be None."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    given: Iterator[Any] = (part for part in get_args(annotation) if part is not types.NoneType)
    return next(given)


def _bucket_names(buckets: Collection[str], names: BucketNames) -> frozenset[str]:
    if isinstance(buckets, str | bytes) or not isinstance(buckets, Collection):
        raise ConfigError(f"allowed_buckets must be a list of names, not {brief(buckets)}")
    for name in buckets:
        if not isinstance(name, str) or not names.is_name(name):
            raise ConfigError(f"allowed_buckets has {brief(name)}, which can't be the name of a bucket")
    return frozenset(buckets)


def read_flag(text: str) -> bool:
    """`true` or `false`.

    Raises:
        ValueError: The text is neither.
    """
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("expected true or false")
    return text.lower() in ("true", "1")
