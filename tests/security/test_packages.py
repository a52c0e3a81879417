"""Wheel and source distribution contain the library and nothing else, and the same commit gives the same bytes."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import lakery_cloud

ROOT = Path(__file__).parents[2]
NAME = f"lakery_cloud-{lakery_cloud.__version__}"
EPOCH = "1700000000"
LEFTOVERS = (
    *("lakery-cloud.toml", ".env", "records.jsonl", "dist/old.whl", "site/index.html", "build/lib/old.py", ".coverage"),
    *("src/lakery_cloud/__pycache__/errors.cpython-311.pyc", "src/lakery_cloud/cli/.errors.py.swp"),
    *("src/lakery_cloud/key.pem", "src/lakery_cloud/lakery-cloud.toml", "src/lakery_cloud/emulators/server.log"),
    *("src/notes.txt", "src/other/__init__.py", "tests/__pycache__/a.pyc", ".hypothesis/examples/a"),
)
"""Files that lie around in a working tree, some of them with secrets."""


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """The paths of the files that git knows, as they are in the working tree."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def checkout(tracked: set[str], folder: Path) -> Path:
    """Copy the files of the repository, with other times than they have, into a folder with leftovers."""
    for name in tracked:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        target.chmod(0o600)
    for name in LEFTOVERS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("left over")
    return folder


def build(folder: Path, *, umask: int = 0o022) -> dict[str, bytes]:
    """Build both packages as `python -m build` does, the wheel from the source distribution; return them by name."""
    script = "import sys, hatchling.build as hatch; print(getattr(hatch, f'build_{sys.argv[1]}')(sys.argv[2]))"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "TZ": "Asia/Tokyo" if umask == 0o077 else "UTC"}

    def run(kind: str, source: Path) -> Path:
        command = (sys.executable, "-c", script, kind, str(folder / "dist"))
        done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, umask=umask)
        assert done.returncode == 0, done.stderr
        return folder / "dist" / done.stdout.split()[-1]

    archive = run("sdist", folder)
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    from_archive, from_tree = run("wheel", source).read_bytes(), run("wheel", folder).read_bytes()
    assert from_archive == from_tree
    return {"sdist": archive.read_bytes(), "wheel": from_tree}


@pytest.fixture(scope="module")
def packages(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    built = build(checkout(tracked, folder / "tree"))
    found = {"sdist": folder / f"{NAME}.tar.gz", "wheel": folder / f"{NAME}-py3-none-any.whl"}
    for kind, path in found.items():
        path.write_bytes(built[kind])
    return found


def library(tracked: set[str]) -> set[str]:
    return {name for name in tracked if name.startswith("src/lakery_cloud/")}


def test_wheel_has_the_library_alone(packages: dict[str, Path], tracked: set[str]) -> None:
    with zipfile.ZipFile(packages["wheel"]) as wheel:
        names = set(wheel.namelist())
        for name in library(tracked):
            assert wheel.read(name.removeprefix("src/")) == (ROOT / name).read_bytes(), name
        metadata = wheel.read(f"{NAME}.dist-info/METADATA").decode()
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert names == {name.removeprefix("src/") for name in library(tracked)} | {
        f"{NAME}.dist-info/{name}" for name in about
    }
    assert "lakery_cloud/py.typed" in names
    assert f"Version: {lakery_cloud.__version__}\n" in metadata


def test_source_distribution_has_what_builds_the_wheel(packages: dict[str, Path], tracked: set[str]) -> None:
    with tarfile.open(packages["sdist"]) as archive:
        names = {member.name for member in archive if not member.isdir()}
        assert all(member.isfile() and member.mode in (0o644, 0o755) for member in archive if not member.isdir())
    about = {"PKG-INFO", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"}
    assert names == {str(PurePosixPath(NAME, name)) for name in library(tracked) | about}


def test_same_commit_gives_the_same_bytes(
    packages: dict[str, Path], tracked: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another folder, at another time, by a user with another umask and time zone."""
    folder = checkout(tracked, tmp_path / "elsewhere" / "tree")
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 10_000_000,) * 2)
    again = build(folder, umask=0o077)
    assert again == {kind: path.read_bytes() for kind, path in packages.items()}


def test_make_sets_the_time_of_the_last_commit() -> None:
    done = subprocess.run(("make", "--dry-run", "build"), cwd=ROOT, capture_output=True, text=True, check=True)
    assert "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) " in done.stdout
