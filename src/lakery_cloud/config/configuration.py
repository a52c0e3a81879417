"""`Configuration`: the settings of all storages and of the routes between them. Nothing here imports an SDK."""

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

from lakery_cloud.config.layers import (
    Layer,
    environment_layer,
    file_layer,
    find_file,
    merge,
)
from lakery_cloud.config.problems import place_of, refusal
from lakery_cloud.config.sections import Section

_KEY = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_RETIRED = re.compile(r"\s*(?:(?P<name>[^\s=]+)\s*=\s*)?(?P<key>[^\s=]+)\s*")

RouteSize = Annotated[ByteSize, Field(ge=0), AfterValidator(int)]


class RouteSection(BaseModel):
    """One `[[routes]]`: content that meets all conditions is saved to a storage."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    storage: str = Field(description="Key of the storage, as in `[storages.<key>]`.")
    content_type: str | None = Field(default=None, description="Pattern of the media type, such as `image/*`.")
    content_encoding: str | None = Field(default=None, description="Pattern of the content coding; `identity` is none.")
    tag: Mapping[str, str] = Field(default={}, description="Tags that must be there, with patterns of their values.")
    min_size: RouteSize | None = Field(
        default=None, description="Bytes that it has at least; unknown sizes never match."
    )
    max_size: RouteSize | None = Field(
        default=None, description="Bytes that it has at most; unknown sizes never match."
    )


class RetiredSection(BaseModel):
    """`[retired]`: names that are still read, and never written."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    storages: tuple[str, ...] = Field(
        default=(),
        description="`<permanent name> = <key>`: the storage of that key reads records of that name. `<key>` alone: that "
        "storage itself is retired.",
    )

    @field_validator("storages")
    @classmethod
    def _readable(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if not _RETIRED.fullmatch(entry):
                raise ValueError('an entry is "<permanent name> = <key of a storage>", or the key of a storage alone')
        return entries

    def entries(self) -> Iterator[tuple[str | None, str]]:
        """Permanent name, or None for the storage's own, and key of each entry."""
        for entry in self.storages:
            if found := _RETIRED.fullmatch(entry):
                yield found["name"], found["key"]


class Configuration(BaseSettings):
    """Storages, routes and retired names. Made directly, it is what is given and nothing else; `load` looks around.

    Raises:
        ConfigError: A key is unknown or a value is of the wrong type. The message names the key and the nearest right one.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    default: str | None = Field(
        default=None, description="Key of the storage that saves what no route takes. Needed where there are several."
    )
    storages: Mapping[str, Section] = Field(
        default={}, description="The storages, by keys of lower-case letters, digits and single underscores."
    )
    routes: tuple[RouteSection, ...] = Field(default=(), description="Rules, of which the first that matches wins.")
    retired: RetiredSection = Field(default=RetiredSection(), description="Names that are read only.")

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
        raise problem  # here, so that it isn't chained to what holds the values

    @classmethod
    def load(cls, file: str | Path | None = None, **settings: Any) -> Self:
        """The settings given here, over those of the environment, over those of the file.

        Args:
            file: The file. By default `LAKERY_CLOUD_CONFIG`, else a `lakery-cloud.toml` in the working directory or the
                nearest folder above it, else the one in the user's configuration folder, else none.
            settings: Settings of the program, nested as in the file.

        Raises:
            ConfigError: The file can't be read, or a setting is wrong; the message says where it stands.
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
        return (init_settings,)  # `load` has merged the others, to know the place of each setting

    @field_validator("storages")
    @classmethod
    def _keys(cls, storages: Mapping[str, Any]) -> Mapping[str, Any]:
        for key in storages:
            if not _KEY.fullmatch(key):
                raise ValueError(f"{key!r} must be of lower-case letters, digits and single underscores")
        return storages

    @property
    def folder(self) -> Path:
        """What paths of secrets are relative to: the file's folder, else the working directory."""
        return self._folder

    @property
    def default_key(self) -> str | None:
        """The key of the default: the one that is given, or that of the only storage that is not retired."""
        if self.default is not None:
            return self.default
        retired = {key for name, key in self.retired.entries() if key in self.storages and self._is_own(name, key)}
        writable = [key for key in self.storages if key not in retired]
        return writable[0] if len(writable) == 1 else None

    def _is_own(self, name: str | None, key: str) -> bool:
        return name in (None, self.storages[key].name)

    def place(self, *path: str | int) -> str:
        """Where a setting was given, such as `lakery-cloud.toml:7` or the name of a variable."""
        return place_of(path, self._layers)


def _hollow(value: Any) -> Any:
    """The keys without the values, of which some are secrets."""
    if isinstance(value, Mapping):
        return {key: _hollow(inner) for key, inner in value.items()}
    return [_hollow(inner) for inner in value] if isinstance(value, list) else None
