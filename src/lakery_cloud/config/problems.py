"""Pydantic's errors as a `ConfigError` that names the key, its place and the most similar valid key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lakery_cloud.config.layers import Layer
from lakery_cloud.config.sections import SECTIONS, StorageSection
from lakery_cloud.engine.urls import nearest, quoted
from lakery_cloud.errors import ConfigError

_BY_SCHEME: Mapping[str, type[StorageSection]] = {section.scheme: section for section in SECTIONS}


def refusal(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer]) -> ConfigError:
    """The error to raise, with one line for each problem. It never repeats a value, which may be a secret."""
    lines = [_line(details, model, layers) for details in error.errors(include_input=False, include_url=False)]
    return ConfigError("\n".join(dict.fromkeys(lines)))


def name_of(path: Iterable[str | int]) -> str:
    """A path in readable form: `storages.hot.region`; `routes 1.storage` is in the first route."""
    text = ""
    for step in path:
        text += f" {step + 1}" if isinstance(step, int) else f".{step}" if text else step
    return text


def place_of(path: Sequence[str | int], layers: Sequence[Layer]) -> str:
    """The place of a setting, or of the table that would contain it; empty if there is neither."""
    for length in range(len(path), 0, -1):
        for layer in layers:
            if place := layer.place(path[:length]):
                return place
    return ""


def _line(details: ErrorDetails, model: type[BaseModel], layers: Sequence[Layer]) -> str:
    path, section = _without_tags(details["loc"]), _model_at(details["loc"], model)
    if details["type"].startswith("union_tag"):  # the scheme of its URL determines the provider's model
        path = (*path, "url")
    place = place_of(path, layers)
    return f"{place}: {_sentence(details, path, section)}" if place else _sentence(details, path, section)


def _sentence(details: ErrorDetails, path: Sequence[str | int], section: type[BaseModel]) -> str:
    name = name_of(_shown(path))
    match details["type"]:
        case "extra_forbidden":
            return f"unknown key {name!r}{nearest(str(path[-1]), section.model_fields)}"
        case "byte_size_unit":  # pydantic's message quotes the unit
            return f"{name!r}: a size has a unit such as MiB"
        case "missing":
            return f"{name!r} is missing"
        case "union_tag_not_found" | "union_tag_invalid":
            return f"{name!r} must be a URL that starts with {', '.join(f'{scheme}://' for scheme in _BY_SCHEME)}"
        case _:
            return f"{name!r}: {details['msg'].removeprefix('Value error, ')}"


def _shown(path: Sequence[str | int]) -> Iterator[str | int]:
    """The path with stars for keys that look like a secret in the wrong place, but for the name of a storage."""
    for depth, step in enumerate(path):
        is_storage = depth == 1 and path[0] == "storages"
        yield step if is_storage or isinstance(step, int) or quoted(step) == repr(step) else "***"


def _without_tags(location: Sequence[str | int]) -> tuple[str | int, ...]:
    """The path of the setting, without pydantic's tag of the provider's model."""
    is_tagged = len(location) > 2 and location[0] == "storages" and location[2] in _BY_SCHEME
    return (*location[:2], *location[3:]) if is_tagged else tuple(location)


def _model_at(location: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    """The model of the table with the last key."""
    if len(location) > 2 and location[0] == "storages":
        return _BY_SCHEME.get(str(location[2]), model)
    for step in location[:-1]:
        if isinstance(step, str):
            model = _inner(model.model_fields[step].annotation)
    return model


def _inner(annotation: Any) -> type[BaseModel]:
    """The model in an annotation: `tuple[Model, ...]` or the model itself."""
    inner: type[BaseModel] = annotation.__args__[0] if hasattr(annotation, "__args__") else annotation
    return inner
