"""`Secret`: a text that is never shown, or a reference that is resolved when storages are built."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from lakery_cloud.errors import ConfigError

ENVIRONMENT, FILE = "env:", "file:"


class Secret(SecretStr):
    """`env:NAME`, `file:PATH`, or the secret itself.

    Its repr and its text show stars or the reference. Only a reference can be pickled.
    """

    @property
    def is_reference(self) -> bool:
        """Whether it names the place of the secret instead of holding it."""
        return self.get_secret_value().startswith((ENVIRONMENT, FILE))

    def resolve(self, folder: Path) -> str:
        """The secret.

        Args:
            folder: Folder to which the path of a file is relative.

        Raises:
            ConfigError: The reference leads to nothing, or to an empty text. The message shows the reference alone.
        """
        text = self.get_secret_value()
        if text.startswith(ENVIRONMENT):
            secret = os.environ.get(text.removeprefix(ENVIRONMENT), "")
        elif text.startswith(FILE):
            secret = _read(folder / Path(text.removeprefix(FILE)).expanduser(), text)
        else:
            return text
        if not secret:
            raise ConfigError(
                f"{text!r} is not set, or empty" if text.startswith(ENVIRONMENT) else f"{text!r} is empty"
            )
        return secret

    def __str__(self) -> str:
        return self.get_secret_value() if self.is_reference else super().__str__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self.is_reference:
            raise ConfigError(
                "a configuration with a secret can't be pickled; replace the secret by a reference, env:NAME or "
                "file:PATH"
            )
        return type(self), (self.get_secret_value(),)


def _read(path: Path, reference: str) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{reference!r} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        pass
    # Outside the handler, so that it isn't chained to an error with the bytes.
    raise ConfigError(f"{reference!r} is no text in UTF-8")
