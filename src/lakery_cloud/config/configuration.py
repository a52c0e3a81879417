"""`Configuration`: the settings of all storages, and the routes to them. No SDK is imported here."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lakery_cloud.config.environment import environment_layer
from lakery_cloud.config.layers import Layer, file_layer, find_file, merge
from lakery_cloud.config.problems import place_of, refusal
from lakery_cloud.config.sections import Section

_KEY = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_RETIRED = re.compile(r"\s*(?:(?P<name>[^\s=]+)\s*=\s*)?(?P<key>[^\s=]+)\s*")

RouteSize = Annotated[ByteSize, Field(ge=0), AfterValidator(int)]


class RouteSection(BaseModel):
    """A table `[[routes]]`: content that meets all conditions is saved to its storage."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    storage: str = Field(description="Key of the storage, as in `[storages.<key>]`.")
    content_type: str | None = Field(default=None, description="Pattern of the media type, such as `image/*`.")
    content_encoding: str | None = Field(
        default=None, description="Pattern of the content encoding; `identity` matches content without one."
    )
    tag: Mapping[str, str] = Field(
        default={}, description="Tags that the content must have, with patterns of their values."
    )
    min_size: RouteSize | None = Field(
        default=None, description="Smallest size of the content. Content of unknown size never matches."
    )
    max_size: RouteSize | None = Field(
        default=None, description="Largest size of the content. Content of unknown size never matches."
    )


class RetiredSection(BaseModel):
    """The table `[retired]`: names that stay readable and are never written."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    storages: tuple[str, ...] = Field(
        default=(),
        description="`<permanent name> = <key>`: the storage with that key reads records with that name. `<key>` alone: "
        "the storage itself is retired.",
    )

    @field_validator("storages")
    @classmethod
    def _readable(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if not _RETIRED.fullmatch(entry):
                raise ValueError(
                    'an entry must be "<permanent name> = <key of a storage>", or the key of a storage alone'
                )
        return entries

    def entries(self) -> Iterator[tuple[str | None, str]]:
        """Permanent name and key of each entry. The name is None if the storage itself is retired."""
        for entry in self.storages:
            if found := _RETIRED.fullmatch(entry):
                yield found["name"], found["key"]


class Configuration(BaseSettings):
    """Storages, routes and retired names. The constructor takes only its arguments; `load` reads files and variables too.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type. The message names the key, and the most similar one.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    default: str | None = Field(
        default=None,
        description="Key of the storage for content without a matching route. Required if there are several storages.",
    )
    storages: Mapping[str, Section] = Field(
        default={}, description="The storages. Their keys have lower-case letters, digits and single underscores."
    )
    routes: tuple[RouteSection, ...] = Field(default=(), description="Rules; the first match wins.")
    retired: RetiredSection = Field(default=RetiredSection(), description="Names that are only read.")

    _layers: Sequence[Layer] = PrivateAttr(())
    _folder: Path = PrivateAttr(default_factory=Path)

    def __init__(self, layers: Sequence[Layer] = (), /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            problem = refusal(error, type(self), layers)
        else:
            self._layers = [Layer(_hollow(layer.values), layer.default_place, layer.places) for layer in layers]
            return
        raise problem  # outside the handler, so that it isn't chained to an error with the values

    @classmethod
    def load(cls, file: str | Path | None = None, **settings: Any) -> Self:
        """The settings of the program, the environment and the file, in this order of precedence.

        Args:
            file: The file. By default `LAKERY_CLOUD_CONFIG`, else a `lakery-cloud.toml` in the working directory or the
                nearest folder above it, else the one in the user's configuration folder, else none.
            settings: Settings of the program, nested as in the file.

        Raises:
            ConfigError: The file can't be read, or a setting is wrong. The message names the place.
        """
        path = Path(file) if file is not None else find_file()
        layers = [Layer(settings, "the program"), environment_layer(cls)]
        layers += [file_layer(path)] if path is not None else []
        loaded = cls(layers, **merge(layers))
        loaded._folder = path.parent if path is not None else Path()
        return loaded

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load` merges the others itself, to know the place of each setting

    @field_validator("storages")
    @classmethod
    def _keys(cls, storages: Mapping[str, Any]) -> Mapping[str, Any]:
        for key in storages:
            if not _KEY.fullmatch(key):
                raise ValueError(f"{key!r} must be of lower-case letters, digits and single underscores")
        return storages

    @property
    def folder(self) -> Path:
        """The folder to which paths of secrets are relative: the file's, else the working directory."""
        return self._folder

    @property
    def default_key(self) -> str | None:
        """The key of the default storage: the configured one, or that of the only storage that is not retired."""
        if self.default is not None:
            return self.default
        retired = {key for name, key in self.retired.entries() if key in self.storages and self._is_own(name, key)}
        writable = [key for key in self.storages if key not in retired]
        return writable[0] if len(writable) == 1 else None

    def _is_own(self, name: str | None, key: str) -> bool:
        return name in (None, self.storages[key].name)

    def place(self, *path: str | int) -> str:
        """The place of a setting, such as `lakery-cloud.toml:7` or the name of a variable."""
        return place_of(path, self._layers)


def _hollow(value: Any) -> Any:
    """The keys without the values: some are secrets."""
    if isinstance(value, Mapping):
        return {key: _hollow(inner) for key, inner in value.items()}
    return [_hollow(inner) for inner in value] if isinstance(value, list) else None
