"""Python environments of the clients, in the cache folder. Each is made on first use from its own constraint file."""

import sys
from pathlib import Path

from lakery_cloud.emulators.install import Environment

CONSTRAINTS = Path(__file__).with_name("constraints")


class PeerEnvironment(Environment):
    """An environment made from a file of `benchmarks/constraints`."""

    def __init__(self, title: str) -> None:
        super().__init__(title, constraints=CONSTRAINTS, group="benchmarks")


def python_of(environment: str | None) -> str:
    """Return the Python of an environment, and make the environment if needed. None is the running one."""
    if environment is None:
        return sys.executable
    made = PeerEnvironment(environment)
    made.install(lambda text: print(text, file=sys.stderr))
    return str(made.executable("python"))
