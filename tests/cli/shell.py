"""The command as a user runs it: in a process of its own, in a folder with a storage of files."""

import json
import os
import subprocess
from pathlib import Path

import pytest

import lakery_cloud
from tests.helpers import COMMAND, hash_of, run_command

SOURCES = str(Path(lakery_cloud.__file__).parents[1])
CONTENT = b"content of a file\n"
HASH = hash_of(CONTENT)
LARGE = os.urandom(3 * 1024**2 + 5)
MISSING = "0" * 64
"""The hash of no content."""


class Shell:
    """A folder to work in, a storage, and the command with their environment."""

    def __init__(self, folder):
        self.folder = folder
        self.objects = folder / "objects"
        self.env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder / "home"),
            "XDG_DATA_HOME": str(folder / "data"),
            "LAKERY_CLOUD_STORAGE": self.url(),
            "PYTHONPATH": SOURCES,
            "PYTHONIOENCODING": "utf-8:strict",
        }

    def url(self, query=""):
        return f"{self.objects.as_uri()}{query}"

    def run(self, *arguments, stdin=b"", **env):
        environment = {name: value for name, value in {**self.env, **env}.items() if value is not None}
        return run_command(*arguments, data=stdin, cwd=self.folder, env=environment)

    def start(self, *arguments, **options):
        return subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=self.folder, env=self.env, **options)

    def file(self, name="file.txt", data=CONTENT):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def put(self, data=CONTENT, *arguments):
        """The record of content that was saved."""
        done = self.run("put", "-", *arguments, stdin=data)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stored(self):
        return sorted(str(path.relative_to(self.objects)) for path in self.objects.rglob("*") if path.is_file())

    def damage(self, name=HASH):
        """Flip a bit of stored content, at its end."""
        path = self.objects / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


def lines_of(output):
    return output.decode().splitlines()


def assert_fails(done, code, error, *, saying=""):
    """The command printed one line, with this error and these words."""
    assert done.returncode == code, done.stderr.decode()
    (line,) = lines_of(done.stderr)
    assert line.startswith(error)
    assert saying in line
