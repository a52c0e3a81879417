"""Fixtures of the command's tests."""

from tests.cli.desk import desk

__all__ = ["desk"]
