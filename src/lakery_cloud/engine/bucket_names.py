"""The names of buckets: one table of rules for each cloud, which every name in a setting or a URL must pass.

A rule accepts all names that a store of its kind may have, also older and laxer ones. It refuses what a URL parser or an
SDK would read as something else: a path, a host, a query.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lakery_cloud.errors import ConfigError, brief

IS_IP_ADDRESS = r"\d{1,3}(?:\.\d{1,3}){3}"

_MISTAKES = {
    r"\w+://.*": "Give the name alone, or the URL to `storage_from_url`",
    r".*/.*": "Give what follows the slash as `prefix`",
    r"\s.*|.*\s": "Remove the white space around it",
}
_MAY_HOLD_SECRETS = re.compile(r"[@?=&%#:+]")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketNames:
    """The names that buckets of one cloud can have.

    Attributes:
        setting: The setting with the name, which is also the provider's word for a bucket.
        forms: The forms of names.
        rule: The usual form in words.
        special: Names that an SDK sends to another host, or signs in another way, than those of buckets. A user can
            choose them, storage data can't.
        mistakes: Other texts that users give -> the sentence that says what to do.
    """

    setting: Literal["bucket", "container"] = "bucket"
    forms: tuple[str, ...]
    rule: str
    special: tuple[str, ...] = ()
    mistakes: Mapping[str, str] = field(default_factory=dict)

    def is_name(self, text: str) -> bool:
        """Whether a text can be the name of a bucket."""
        return any(re.fullmatch(form, text) for form in self.forms)

    def is_trusted(self, text: str) -> bool:
        """Whether a text from outside can be the name of a bucket that is reached as the storage's own."""
        return self.is_name(text) and not any(re.fullmatch(form, text) for form in self.special)

    def check(self, name: object, *, setting: str) -> None:
        """Refuse what can't be the name of a bucket.

        Args:
            name: The name.
            setting: The setting that holds it.

        Raises:
            ConfigError: The message does not repeat a text that may hold credentials.
        """
        if isinstance(name, str) and self.is_name(name):
            return
        if name == "":
            raise ConfigError(f"the name of the {setting} is empty")
        text = name if isinstance(name, str) else ""
        mistakes = {**self.mistakes, **_MISTAKES}
        advice = next((f". {mistakes[form]}" for form in mistakes if re.fullmatch(form, text, re.DOTALL)), "")
        shown = f"{setting} {brief(name)}" if not _MAY_HOLD_SECRETS.search(text) else f"the value of {setting}"
        raise ConfigError(f"{shown} is no name of a {self.setting}: a name has {self.rule}{advice}")


ANY_NAMES = BucketNames(
    forms=(r"(?!\.{1,2}$)[A-Za-z0-9$._-]{1,255}",),
    rule="1 to 255 letters, digits, dots, dashes and underscores",
    special=(r"[^A-Za-z0-9$].*",),
)
"""The names of a store without rules of its own."""
