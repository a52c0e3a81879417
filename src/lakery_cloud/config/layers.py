"""Sources of settings, and the TOML file among them. Each layer knows the place of each setting."""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from lakery_cloud.errors import ConfigError

FILE_NAME = "lakery-cloud.toml"
PREFIX = "LAKERY_CLOUD_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
STORAGE_VARIABLE = f"{PREFIX}STORAGE"
"""The variable of the option `--storage`."""
NO_SETTINGS = frozenset({STORAGE_VARIABLE, f"{PREFIX}CACHE", f"{PREFIX}STATE"})
"""Variables of the command and of local servers, which say nothing of storages."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings from one source.

    Attributes:
        values: The settings, nested as in the file.
        default_place: Place of settings that have none in `places`.
        places: Place of each setting, such as a file and a line, by the setting's path.
    """

    values: Mapping[str, Any] = field(repr=False)  # may contain secrets
    default_place: str
    places: Mapping[tuple[str | int, ...], str] = field(default_factory=dict)

    def place(self, path: Sequence[str | int]) -> str | None:
        """The place of a setting, or of the nearest table around it; None if the layer doesn't have the setting."""
        value: Any = self.values
        for step in path:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        for length in range(len(path), 0, -1):
            if tuple(path[:length]) in self.places:
                return self.places[tuple(path[:length])]
        return self.default_place


def find_file() -> Path | None:
    """The configuration file: from `LAKERY_CLOUD_CONFIG`, the working directory or a folder above it, or the user's own.

    Raises:
        ConfigError: The variable names a missing file, or the file belongs to another user.
    """
    if named := os.environ.get(FILE_VARIABLE):
        if not Path(named).is_file():
            raise ConfigError(f"{FILE_VARIABLE} is {named!r}, and there is no such file")
        return Path(named)
    folder = Path.cwd()
    candidates = [parent / FILE_NAME for parent in (folder, *folder.parents)]
    found = next((path for path in [*candidates, user_file()] if path.is_file()), None)
    # Its endpoints and references decide where content and secrets go: another user could put one into a shared folder.
    if found is not None and found.stat().st_uid not in (0, os.getuid()):
        raise ConfigError(f"{str(found)!r} belongs to another user; if you trust it, set {FILE_VARIABLE} to its path")
    return found


def is_configured() -> bool:
    """Whether there is a configuration file, or a variable that may be part of the configuration.

    Raises:
        ConfigError: As `find_file`.
    """
    variables = {name.upper() for name in os.environ} - NO_SETTINGS
    return any(name.startswith(PREFIX) for name in variables) or find_file() is not None


def user_file() -> Path:
    """The configuration file of the user."""
    return platformdirs.user_config_path("lakery-cloud") / FILE_NAME


def file_layer(path: Path) -> Layer:
    """The settings of a file.

    Raises:
        ConfigError: It can't be read or is not TOML. The message has the line.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"the configuration {str(path)!r} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"the configuration {str(path)!r} is not in UTF-8") from None
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problem = _problem(error)
    else:
        places = {found: f"{path}:{line}" for found, line in _lines(text)}
        return Layer(values, str(path), places)
    raise ConfigError(f"{path}: {problem}")


def _problem(error: Exception) -> str:
    """The reason why a text is not TOML, with its line. It quotes no key: a key can be a secret in the wrong place."""
    text = str(error)
    if not isinstance(error, tomllib.TOMLDecodeError):
        return "a number has too many digits, or tables are nested too deeply"
    if text.startswith(("Cannot declare", "Cannot mutate", "Cannot redefine", "Duplicate")):  # only these quote keys
        return f"a key or a table is defined twice ({text.rpartition('(')[2]}"
    return text


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """The settings of all layers; the first layer with a setting wins. Tables are merged, lists are replaced."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _over(merged, layer.values)
    return merged


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _lines(text: str) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Path and line of the tables and keys of a TOML text. Each line is parsed alone, which is enough to name a place."""
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("["):
            table = _keys(line)
            if line.lstrip().startswith("[[") and table:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield table, number
        elif keys := _keys(f"{line.partition('=')[0]} = 0"):
            yield (*table, *keys), number


def _keys(line: str) -> tuple[str | int, ...]:
    """The keys of one line of TOML, outermost first; none if the line alone is no TOML."""
    try:
        found: Any = tomllib.loads(line)
    except (ValueError, RecursionError):
        return ()
    keys: list[str | int] = []
    while found and isinstance(found, Mapping | list):
        key, found = (None, found[0]) if isinstance(found, list) else next(iter(found.items()))
        keys += [key] if key is not None else []
    return tuple(keys)
