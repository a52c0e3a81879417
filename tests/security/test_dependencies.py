"""The environment has exactly the pinned packages, so an audit of the pins covers it."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

PINS = Path(__file__).parents[2] / "constraints" / "dev.txt"
TOOLS = {"pip", "setuptools", "wheel"}
"""What makes an environment, and is pinned nowhere."""


def normal(name: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    lines = [line for line in PINS.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines)}


def installed() -> dict[str, str]:
    return {normal(found.name): found.version for found in metadata.distributions()}


pytestmark = pytest.mark.skipif(Path(sys.prefix).parent != PINS.parents[1], reason="not the environment that make made")


def test_each_pin_is_exact() -> None:
    assert len(pinned()) > 100
    assert all(re.fullmatch(r"[\w.!+]+", version) for version in pinned().values())


def test_installed_packages_are_the_pinned_ones() -> None:
    pins = pinned()
    found = {name: version for name, version in installed().items() if name not in TOOLS | {"lakery-cloud"}}
    assert found == {name: pins.get(name, "not pinned") for name in found}


def test_requirements_of_all_that_is_installed_are_met() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
