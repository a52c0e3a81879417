"""Environment variables as a source of settings."""

import os
import re
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from lakery_cloud.config.layers import PREFIX, Layer
from lakery_cloud.errors import ConfigError

DELIMITER = "__"


def environment_layer(model: type[BaseSettings]) -> Layer:
    """The settings of the variables `LAKERY_CLOUD_<KEY>` and `LAKERY_CLOUD_STORAGES__<KEY>__<SETTING>`.

    Raises:
        ConfigError: The variable of a list or a table is not JSON.
    """
    try:
        values = _Environment(model)()
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
    else:
        return Layer(values, "the environment", _variables())
    raise ConfigError(f"{PREFIX}{field[1].upper() if field else ''}: a list or a table must be given as JSON")


class _Environment(EnvSettingsSource):
    """Pydantic's source, but texts stay texts, even a key of digits alone."""

    def __init__(self, model: type[BaseSettings]) -> None:
        super().__init__(model, env_prefix=PREFIX, env_nested_delimiter=DELIMITER, env_ignore_empty=True)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        if isinstance(value, str) and not value.lstrip().startswith(("{", "[")):
            raise ValueError("no JSON")
        return super().decode_complex_value(field_name, field, value)


def _variables() -> dict[tuple[str | int, ...], str]:
    names = [name for name in os.environ if name.upper().startswith(PREFIX)]
    return {tuple(name.upper().removeprefix(PREFIX).lower().split(DELIMITER)): name for name in names}
