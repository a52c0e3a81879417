"""docs/settings.md: all settings, from the models and settings classes."""

import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lakery_cloud.config.configuration import Configuration, RouteSection
from lakery_cloud.config.environment import DELIMITER
from lakery_cloud.config.layers import PREFIX
from lakery_cloud.config.secrets import Secret
from lakery_cloud.config.sections import SECTIONS, StorageSection
from lakery_cloud.config.urls import class_of_url
from lakery_cloud.engine.settings import CloudSettings, EngineSettings, settings_of
from tools.tables import code, table

HEAD = """\
# Settings

Every key of `lakery-cloud.toml`. [Configuration](configuration.md) says how the file is found and used. This page is
generated from the code by `make pages`.

If a default is `-`, the provider, its SDK or the bucket decides. A size is a number of bytes or a text such as `64MiB`.
Settings of `[storages.hot]` have variables with `HOT` instead of `<KEY>`.
"""
UNITS = (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024), ("B", 1))
HUGE = 10_000
LIMITS = {
    "max_put_size": "largest blob of one request",
    "min_part_size": "smallest part, and `part_size`",
    "max_part_size": "largest part",
    "part_multiple": "parts are multiples of",
    "max_parts": "most parts of a stream",
    "max_object_size": "largest content",
    "max_copy_size": "largest copy in one request",
}
OF_ALL = StorageSection.model_fields.keys() | settings_of(EngineSettings).keys()
OF_CLOUDS = settings_of(CloudSettings).keys()
STORAGES = f"{PREFIX}STORAGES{DELIMITER}<KEY>{DELIMITER}"


def settings_page() -> str:
    """The page."""
    return "\n".join(_page())


def settings_of_provider(section: type[StorageSection]) -> Iterator[str]:
    """The lines of a table with the settings of one provider; none if it has no settings of its own."""
    own = section.model_fields.keys() - OF_ALL - (OF_CLOUDS if _is_cloud(section) else set())
    if own:
        yield from _table(_fields(section, own), prefix=STORAGES, defaults=_defaults(section.settings_class))


def _page() -> Iterator[str]:
    yield HEAD
    yield "## The file\n"
    # Each table has its own section.
    top = {name: field for name, field in Configuration.model_fields.items() if name in ("default", "routes")}
    yield from _table(top, prefix=PREFIX, defaults={})
    yield "## `[storages.<key>]`: every storage\n"
    some_cloud = next(section for section in SECTIONS if _is_cloud(section))
    yield from _table(_fields(some_cloud, OF_ALL), prefix=STORAGES, defaults=_defaults(EngineSettings))
    yield "## `[storages.<key>]`: every cloud\n"
    yield from _table(_fields(some_cloud, OF_CLOUDS - OF_ALL), prefix=STORAGES, defaults=_defaults(CloudSettings))
    for section in SECTIONS:
        storage_class = class_of_url(f"{section.scheme}://")
        yield f"## `[storages.<key>]`: {section.title}\n"
        yield f"Class `{storage_class.__name__}`, permanent name `{storage_class.name}`, URLs `{section.scheme}://`.\n"
        yield from settings_of_provider(section)
    yield "## `[[routes]]`\n"
    yield f"In the environment, all routes are one variable, `{PREFIX}ROUTES`, as JSON.\n"
    yield from _table(RouteSection.model_fields, prefix=None, defaults={})
    yield "## `[retired]`\n"
    retired = Configuration.model_fields["retired"].annotation
    assert isinstance(retired, type)
    assert issubclass(retired, BaseModel)
    yield from _table(retired.model_fields, prefix=f"{PREFIX}RETIRED{DELIMITER}", defaults={})
    yield "## Limits of the providers\n"
    yield "Settings that would exceed these limits are refused. The code names the source of each limit.\n"
    yield from _limits()


def _table(found: Mapping[str, FieldInfo], *, prefix: str | None, defaults: Mapping[str, Any]) -> Iterator[str]:
    header = ("setting", "type", "default", *(() if prefix is None else ("variable",)), "meaning")
    rows = (
        (
            code(name),
            _type(field),
            "required" if field.is_required() else _default(name, field, defaults),
            *(() if prefix is None else (code(prefix + name.upper()),)),
            str(field.description),
        )
        for name, field in found.items()
    )
    yield from table(header, rows)


def _is_cloud(section: type[StorageSection]) -> bool:
    return issubclass(section.settings_class, CloudSettings)


def _fields(section: type[StorageSection], names: Collection[str]) -> dict[str, FieldInfo]:
    return {name: field for name, field in section.model_fields.items() if name in names}


def _defaults(settings_class: type[EngineSettings]) -> dict[str, Any]:
    return {name: setting.default for name, setting in settings_of(settings_class).items()}


def _default(name: str, field: FieldInfo, defaults: Mapping[str, Any]) -> str:
    value = defaults.get(name)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{_size(value)}`" if _type(field) == "size" and value else f"`{value}`"


def _type(field: FieldInfo) -> str:
    kinds = [kind for kind in _parts(field.annotation) if kind is not types.NoneType]
    (kind,) = kinds
    if get_origin(kind) is Literal:
        return code(*get_args(kind))
    origin = get_origin(kind) or kind
    names = {Secret: "secret", str: "text", bool: "true or false", int: "whole number", float: "seconds"}
    if origin in names:
        return names[origin]
    if origin in (list, tuple):
        return "list of tables" if get_args(kind)[0] is RouteSection else "list of texts"
    return "table" if issubclass(origin, Mapping | dict) else "size"


def _parts(annotation: Any) -> Iterable[Any]:
    """The types of a union, without pydantic's metadata."""
    if hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    if get_origin(annotation) is types.UnionType or str(get_origin(annotation)) == "typing.Union":
        return [part for inner in get_args(annotation) for part in _parts(inner)]
    return [annotation]


def _limits() -> Iterator[str]:
    clouds = [section for section in SECTIONS if _is_cloud(section)]
    limits = [settings_of(section.settings_class)["limits"].default for section in clouds]
    rows = ((meaning, *(_limit(name, getattr(limit, name)) for limit in limits)) for name, meaning in LIMITS.items())
    yield from table(("limit", *(section.title for section in clouds)), rows)


def _limit(name: str, value: int | None) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if name == "max_parts" else _size(value)


def _size(value: int) -> str:
    """A size as a whole number of the largest possible unit; a huge number as a decimal of TiB."""
    for unit, factor in UNITS:
        if value % factor == 0 and value // factor < HUGE:
            return f"{value // factor} {unit}"
    largest, factor = UNITS[0]
    return f"{value / factor:.1f} {largest}"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
