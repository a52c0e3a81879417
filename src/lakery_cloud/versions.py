"""The oldest releases of SDKs with all that storages need, checked when a storage imports its SDK."""

import re
import sys
from importlib.util import find_spec

from lakery_cloud.errors import MissingDependency

OLDEST = {
    "adlfs": "2024.7",
    "aiobotocore": "2.25.1",
    "aiohttp": "3.12",
    "botocore": "1.40.61",
    "gcsfs": "2025.3",
}
"""Name of a package -> its oldest release. The extras of pyproject.toml demand the same."""


def check_version(name: str, *, storage: str, extra: str) -> None:
    """Refuse an SDK that is too old, which would fail later in ways that nobody understands. It need not be imported.

    Args:
        name: Name of the package.
        storage: Name of the storage class.
        extra: The extra that installs the package.

    Raises:
        ImportError: The package is not installed.
        MissingDependency: The package is older.
    """
    version = _version(name)
    if () < _numbers(version) < _numbers(OLDEST[name]):  # a build of its own may have no version
        raise MissingDependency(
            f'{storage} needs {name} {OLDEST[name]} or newer, not {version}: pip install --upgrade "lakery-cloud[{extra}]"'
        )


def _version(name: str) -> str:
    """The version of an installed package; empty if it doesn't say."""
    if (module := sys.modules.get(name)) is not None:
        return str(module.__version__)
    if find_spec(name) is None:
        raise ImportError(f"{name} is not installed")
    from importlib import metadata  # slow, and not needed for a module that is imported already

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # such as in a program frozen to one file
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, such as (1, 40, 61); what follows them orders no releases here."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
