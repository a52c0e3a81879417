"""`FileStorage`: no storage data lets it read, change or delete anything outside of the root."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakery_cloud import (
    AccessDenied,
    FileStorage,
    InvalidRecord,
    LakeryCloudError,
    NoStorageData,
)
from lakery_cloud.providers.file.attributes import ATTRIBUTES
from lakery_cloud.testing import digest_of
from tests.security.audit import watched
from tests.security.hostile import uses

SECRET = b"what nobody may read"
DIGEST = digest_of(SECRET)


class House:
    """A root, and beside it a folder with a secret; in the root are links that lead there."""

    def __init__(self, folder: Path) -> None:
        self.root, self.outside = folder / "root", folder / "outside"
        self.secret = self.outside / "secret"
        self.outside.mkdir()
        self.secret.write_bytes(SECRET)
        (self.root / "inner" / ".tmp").mkdir(parents=True)
        self.links = {
            "folder-link": self.outside,
            "inner/up": "../../outside",
            "link": self.secret,
            "inner/link": "../../outside/secret",
            "circle": "circle",
            "dangling": folder / "nothing",
            "device": "/dev/zero",
        }
        self.mend()
        self.storage = FileStorage(self.root)
        self.before = self.state()

    def mend(self) -> None:
        """Make the links again that were deleted, and the pipe."""
        for name, target in self.links.items():
            if not (self.root / name).is_symlink():
                (self.root / name).symlink_to(target)
        if not (self.root / "pipe").exists():
            os.mkfifo(self.root / "pipe")

    def state(self) -> list[tuple[str, int, bytes]]:
        return [
            (str(path), path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in sorted([self.outside, *self.outside.rglob("*")])
        ]

    async def attempt(self, storage_data: Any) -> dict[str, LakeryCloudError | None]:
        """Use of storage data -> its error; after each of them, nothing has happened outside."""
        self.mend()
        errors: dict[str, LakeryCloudError | None] = {}
        for name, use in uses(self.storage, DIGEST).items():
            with watched() as deeds:
                try:
                    found = await use(storage_data)
                    assert found not in (SECRET, [SECRET])
                    errors[name] = None
                except LakeryCloudError as error:
                    errors[name] = error
            real = {os.path.realpath(os.path.dirname(path)) for path in deeds.paths}
            assert not any(Path(folder).is_relative_to(self.outside) for folder in real), f"{name}: {deeds.paths}"
            assert self.state() == self.before, name
        return errors


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    asyncio.run(house.storage.aclose())


def paths_out(house: House) -> list[str]:
    up = "../" * 20
    return [
        *(
            "../outside/secret",
            "inner/../../outside/secret",
            f"{up}{house.secret}",
            str(house.secret),
            f"/{house.secret}",
        ),
        *(
            "./../outside/secret",
            "inner/./../../outside/secret",
            "..",
            "../",
            ".",
            "",
            "/",
            "//",
            "inner/",
            "inner//link",
        ),
        *("..\\outside\\secret", "inner\\..\\..\\outside\\secret", "~/secret", "~root/.profile", "$HOME/x", "${HOME}"),
        *("link\0.txt", "../outside/secret\0", "inner/..\0/secret", "\udc2e\udc2e/outside/secret", "x\udcff"),
        *("a" * 256, "é" * 128, "a/" * 511 + "a", "a" * 5000, ("é" * 100 + "/") * 9 + "x"),
        *(
            "%2e%2e/outside/secret",
            "..%2foutside%2fsecret",
            "\uff0e\uff0e/outside/secret",
            "..\u2215outside",
            "\u2024\u2024/outside",
        ),
        *("file:///etc/passwd", "C:\\Windows", "\\\\server\\share", "CON", "nul", "aux.txt", "inner:stream"),
        *(
            "/dev/zero",
            "/proc/self/environ",
            os.path.join("/proc/self", "root", "etc/passwd"),
            ".tmp/20240102T030405Z-x",
        ),
        *(
            "folder-link/secret",
            "inner/up/secret",
            "link",
            "inner/link",
            "circle",
            "circle/x",
            "dangling",
            "dangling/x",
        ),
        *(
            "device",
            "pipe",
            "pipe/x",
            "inner",
            ".tmp",
            "inner/.tmp",
            "folder-link",
            "inner/up",
            "link/x",
            "folder-link/../secret",
        ),
    ]


async def test_no_path_leads_out(house: House) -> None:
    tried = paths_out(house)
    for key in tried:
        for extra in ({}, {"hash": f"sha256:{DIGEST['content_hash']}", "size": len(SECRET)}):
            errors = await house.attempt({"key": key, **extra})
            for name in ("read_data", "read_data_stream", "stat"):
                assert errors[name] is not None, f"{name} of {key!r}"
    assert (house.root / "inner" / ".tmp").is_dir()


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        *(("..", InvalidRecord), ("/etc/passwd", InvalidRecord), ("a\0", InvalidRecord), ("\ud800", InvalidRecord)),
        *(("folder-link/secret", AccessDenied), ("inner/up/secret", AccessDenied), ("link", NoStorageData)),
        *(("device", NoStorageData), ("dangling", NoStorageData), ("inner", NoStorageData), ("circle", NoStorageData)),
    ],
)
async def test_errors_name_the_kind_of_escape(house: House, key: str, kind: type[Exception]) -> None:
    errors = await house.attempt({"key": key})
    for name in ("read_data", "read_data_stream", "stat"):
        assert isinstance(errors[name], kind), f"{name}: {errors[name]!r}"


async def test_deleting_a_link_deletes_the_link_alone(house: House) -> None:
    await house.storage.delete({"key": "link"})
    assert not (house.root / "link").is_symlink()
    assert house.secret.read_bytes() == SECRET


segments = st.one_of(
    st.sampled_from(
        ["..", ".", "", "...", "outside", "secret", "folder-link", "inner", "up", "link", "circle", "pipe", ".tmp"]
    ),
    st.text("./\\~\0é\u0301\udc80a", max_size=5),
)
keys = st.one_of(
    st.lists(segments, max_size=6).map("/".join), st.text(max_size=40), st.text(min_size=200, max_size=1100)
)


@given(key=keys)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_generated_path_leads_out(house: House, key: str) -> None:
    asyncio.run(house.attempt({"key": key}))


@pytest.mark.parametrize(
    "attributes",
    [b"[]", b"null", b'"x"', b"5", b"{", b"[" * 3000, b"\xff", b'{"tags": 5, "metadata": [], "content_type": {}}'],
)
async def test_attributes_that_others_wrote_are_left_out(tmp_path: Path, attributes: bytes) -> None:
    storage = FileStorage(tmp_path)
    storage_data = await storage.write_data(SECRET, DIGEST, {"a": "b"})
    try:
        os.setxattr(tmp_path / storage_data["key"], ATTRIBUTES, attributes)
    except (OSError, AttributeError):
        pytest.skip("the file system has no extended attributes")
    found = await storage.stat(storage_data)
    assert (found.info.content_type, found.info.content_encoding, found.tags) == (None, None, {})
    assert await storage.read_data(storage_data) == SECRET
