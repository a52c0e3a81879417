"""A Griffe extension for docs/reference: fields of settings classes show their meanings, constructors their keywords."""

import dataclasses
import importlib
import inspect
from typing import Any

import griffe

from lakery_cloud.engine.settings import EngineSettings, settings_of


class SettingsExtension(griffe.Extension):
    """Reads what `setting` and `keywords_of` know at run time, which static analysis can't see."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Document a settings class, or the constructor of a storage class."""
        constructor = cls.members.get("__init__")
        if constructor and any(str(found.value).startswith("keywords_of(") for found in constructor.decorators):
            name = str(constructor.decorators[0].value).removeprefix("keywords_of(").removesuffix(")")
            constructor.parameters = _parameters(_settings_class(cls.module.resolve(name)))
        elif cls.name.endswith("Settings"):
            settings_class = _settings_class(cls.path)
            # Griffe would show the calls of `setting` as defaults.
            cls.set_member("__init__", griffe.Function("__init__", parameters=_parameters(settings_class)))
            for name, setting in settings_of(settings_class).items():
                if name in cls.members:
                    cls.members[name].docstring = griffe.Docstring(setting.description, parent=cls.members[name])
                    cls.members[name].value = _default(setting.default)


def _settings_class(path: str) -> type[EngineSettings]:
    module, _, name = path.rpartition(".")
    found: type[EngineSettings] = getattr(importlib.import_module(module), name)
    return found


def _parameters(settings_class: type[EngineSettings]) -> griffe.Parameters:
    positional = griffe.ParameterKind.positional_or_keyword
    keyword = griffe.ParameterKind.keyword_only
    found = inspect.signature(settings_class).parameters.values()
    return griffe.Parameters(
        griffe.Parameter("self", kind=positional),
        *(
            griffe.Parameter(
                parameter.name,
                annotation=inspect.formatannotation(parameter.annotation).strip("'"),
                kind=keyword if parameter.kind is parameter.KEYWORD_ONLY else positional,
                default=_default(parameter.default),
            )
            for parameter in found
        ),
    )


def _default(value: Any) -> str | None:
    if value in (inspect.Parameter.empty, dataclasses.MISSING):
        return None
    return repr(value) if isinstance(value, str | int | float | None) else "..."
