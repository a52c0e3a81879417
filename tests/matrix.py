"""Tries the wheel with the lowest and the newest dependencies: `python -m tests.matrix [--python python3.12] [names]`.

Each extra has an environment of its own, where `tests/extras/check_extra.py` runs; in one with all extras, the tests of
`tests/unit`, `tests/cli` and the conformance suite run, on one server a cloud. A name is `<extra>-lowest` or `<extra>-newest`.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FOLDER = ROOT / ".venv" / "matrix"
EXTRAS = ("none", "s3", "aiobotocore", "gcs", "azure", "all")
RESOLUTIONS = ("lowest", "newest")
WITH_ALL = ("all", "otel", "speed", "dask", "fsspec", "parquet", "sql", "testing")
"""The extras of the environment `all`."""
TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout")
TOOLS_WITH_ALL = (
    *("azure-storage-extensions", "cryptography", "h11", "hypothesis", "opentelemetry-sdk", "psutil", "pytest-xdist"),
    *("cheroot", "moto"),
)
"""What tests need beside the package, as `constraints/dev.txt` pins it."""
TESTS = (
    (("tests/unit", "tests/cli"), "not (localstack or seaweedfs or live)"),
    (("tests/conformance/test_conformance.py",), "memory or file or s3-aws or gcs-strict or azurite"),
)
"""Tests, and which of them: one server a cloud."""
NOT_OURS = ("-W", "ignore:You are using a Python version:FutureWarning")
"""Options that ignore warnings of old releases: google-api-core warns of a Python years before it ends."""


def requirements(extras: Iterable[str]) -> list[str]:
    """The requirements of the package and of extras, those of extras in extras too."""
    found = list(PROJECT["dependencies"])
    pending = list(extras)
    while pending:
        for requirement in PROJECT["optional-dependencies"][pending.pop()]:
            if match := re.fullmatch(r"lakery-cloud\[(.*)\]", requirement):
                pending += match[1].split(",")
            else:
                found.append(requirement)
    return found


def lowest(found: Iterable[str]) -> dict[str, str]:
    """The lower bound of each requirement."""
    bounds = {}
    for requirement in found:
        name, bound = re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)", requirement).groups()
        bounds[name] = bound
    return bounds


def pins(names: Iterable[str]) -> dict[str, str]:
    """The versions of tools in our own environment."""
    lines = (ROOT / "constraints" / "dev.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name: pinned[name] for name in names}


def run(*command: object, **variables: str) -> int:
    print("+", *command, flush=True)
    # Nothing is imported but what the environment has.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([*map(str, command)], cwd=ROOT, env={**environment, **variables}).returncode


def build_wheel() -> Path:
    """Build the wheel."""
    folder = FOLDER / "wheel"
    for old in folder.glob("*.whl"):
        old.unlink()
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    if run(*command):
        sys.exit("the wheel can't be built")
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(name: str, wheel: Path, python: str) -> Path | None:
    """Make a new environment and return its Python; None if pip finds no set of packages."""
    extra, _, resolution = name.rpartition("-")
    chosen = () if extra == "none" else WITH_ALL if extra == "all" else (extra,)
    tools = (*TOOLS, *(TOOLS_WITH_ALL if extra == "all" else ()))
    constraints = pins(tools)
    if resolution == "lowest":
        constraints |= lowest(requirements(each for each in chosen if each != "testing"))
        if "opentelemetry-sdk" in constraints:  # it demands the API of its own release
            constraints["opentelemetry-sdk"] = constraints["opentelemetry-api"]
    folder = FOLDER / name
    if run(python, "-m", "venv", "--clear", folder):
        return None
    file = folder / "constraints.txt"
    file.write_text("".join(f"{package}=={version}\n" for package, version in constraints.items()))
    what = f"lakery-cloud[{','.join(chosen)}] @ {wheel.as_uri()}" if chosen else str(wheel)
    found = folder / "bin" / "python"
    pip = (found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", file)
    return None if run(*pip, what, *tools) else found


def test(name: str, python: Path, options: list[str]) -> int:
    """Run the tests of an environment."""
    pytest = (python, "-m", "pytest", "-p", "no:cacheprovider", "-q", *NOT_OURS, *options)
    extra = name.rpartition("-")[0]
    if extra == "all":
        return max(run(*pytest, "-n", "2", "--dist", "worksteal", *tests, "-k", which) for tests, which in TESTS)
    file = ROOT / "tests" / "extras" / "check_extra.py"
    return run(*pytest, "--confcutdir", file.parent, file, LAKERY_CLOUD_EXTRA=extra)


def main() -> int:
    """Try the environments, and list the ones that failed."""
    names = [f"{extra}-{resolution}" for resolution in RESOLUTIONS for extra in EXTRAS]
    parser = argparse.ArgumentParser(prog="python -m tests.matrix")
    parser.add_argument("names", nargs="*", default=names, choices=names, metavar="name", help=", ".join(names))
    parser.add_argument("--python", default=sys.executable, help="the Python of the environments")
    given, options = parser.parse_known_args()
    wheel = build_wheel()
    failed = []
    for name in given.names:
        python = make_environment(name, wheel, given.python)
        if python is None or test(name, python, options):
            failed.append(name)
    print("failed: " + ", ".join(failed) if failed else f"{len(given.names)} environments: all passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
