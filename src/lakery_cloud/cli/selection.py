"""The options of transfers: which files, by `--include`, `--exclude`, `--min-size`, `--max-size`; and `--limit-rate`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lakery_cloud.cli.common import Repeated
from lakery_cloud.cli.progress import RateLimit
from lakery_cloud.errors import ConfigError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which files a command works on."""

    include: Annotated[
        Repeated,
        Parameter(help="Only files that match this pattern, as .gitignore has them. Repeat it for more patterns."),
    ] = ()
    exclude: Annotated[Repeated, Parameter(help="No files that match this pattern. Repeat it for more patterns.")] = ()
    min_size: Annotated[str | None, Parameter(help="Only files of at least this size, such as 4MiB.")] = None
    max_size: Annotated[str | None, Parameter(help="Only files of at most this size.")] = None

    @property
    def needs_sizes(self) -> bool:
        """Whether the size of a file counts."""
        return self.min_size is not None or self.max_size is not None

    def rule(self) -> Callable[[str, int | None], bool]:
        """Return a function that tells whether a file is selected, by its name and its size, if that is known.

        A name with a / at its end is a folder that can't be read. It may have files that match `--include`.

        Raises:
            ConfigError: A pattern or a size can't be read, or can't match anything.
        """
        include, exclude = _spec("--include", self.include), _spec("--exclude", self.exclude)
        least = 0 if self.min_size is None else read_size("--min-size", self.min_size)
        most = None if self.max_size is None else read_size("--max-size", self.max_size)
        if most is not None and most < least:
            raise ConfigError(
                f"--min-size {self.min_size!r} is over --max-size {self.max_size!r}: no file matches both"
            )

        def is_selected(name: str, size: int | None) -> bool:
            return (
                (include is None or name.endswith("/") or include.match_file(name))
                and (exclude is None or not exclude.match_file(name))
                and (size is None or (size >= least and (most is None or size <= most)))
            )

        return is_selected


EVERYTHING = Selection()


LimitRate = Annotated[str | None, Parameter(help="Most bytes to transfer in a second, such as 10MiB.")]


def rate_limit(text: str | None) -> RateLimit | None:
    """Parse `--limit-rate`.

    Raises:
        ConfigError: It is no size, or 0.
    """
    if text is None:
        return None
    rate = read_size("--limit-rate", text)
    if rate < 1:
        raise ConfigError("--limit-rate must be at least 1 byte a second")
    return RateLimit(rate)


def read_size(option: str, text: str) -> int:
    """Parse a size such as `64MiB`.

    Raises:
        ConfigError: It is none.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise ConfigError(f"{option} {text!r}: a size is a number with a unit, such as 64MiB") from None


def _spec(option: str, patterns: Sequence[str]) -> "GitIgnoreSpec | None":
    if not patterns:
        return None
    for pattern in patterns:
        if not pattern.strip() or pattern.startswith("#"):
            raise ConfigError(f"{option} {pattern!r}: an empty line or a comment in .gitignore matches nothing")
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
