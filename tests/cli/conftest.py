"""Fixtures of the command's tests."""

from tests.cli.desk import desk
from tests.cli.shell import shell

__all__ = ["desk", "shell"]
