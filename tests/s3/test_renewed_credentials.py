"""Credentials that the store refuses before their expiry are loaded again from their source, once for each request."""

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from aiohttp import web

from lakery_cloud import AccessDenied, CredentialsError, LakeryCloudError, S3Storage
from lakery_cloud.providers.s3.settings import S3_LIMITS
from lakery_cloud.testing import StrictS3, content, digest_of
from tests.helpers import write, write_stream
from tests.rigs.s3 import aws_session
from tests.stores.stores import BUCKET, PART, operations

LARGE = content(3 * PART)
LATER = "2099-01-01T00:00:00Z"
NUMBERS = itertools.count()
ROLE = "role_arn = arn:aws:iam::123456789012:role/writer\n"


class Source:
    """Where credentials come from: files of the AWS configuration, and a service that issues credentials of roles.

    Attributes:
        loads: How often the service or the program was asked.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self.key, self.token = StrictS3.access_key_id, "first"
        self.issued = 0

    @property
    def loads(self) -> int:
        log = self.folder / "loads"
        return self.issued + (len(log.read_text()) if log.exists() else 0)

    def configure(self) -> None:
        """Write the files as they are now."""
        keys = f"aws_access_key_id = {self.key}\naws_secret_access_key = secret\naws_session_token = {self.token}\n"
        program, output = self.folder / "program.py", self.folder / "output"
        program.write_text(
            f"open({str(self.folder / 'loads')!r}, 'a').write('.')\nprint(open({str(output)!r}).read())\n"
        )
        output.write_text(
            json.dumps(
                {
                    "Version": 1,
                    "AccessKeyId": self.key,
                    "SecretAccessKey": "secret",
                    "SessionToken": self.token,
                    **({"Expiration": LATER} if self.kind == "program" else {}),
                }
            )
        )
        (self.folder / "identity").write_text("identity")
        command = f"credential_process = {sys.executable} {program}\n"
        config = {
            "program": command,
            "program without an expiry": command,
            "role": f"{ROLE}source_profile = b\n[profile b]\naws_access_key_id = b\naws_secret_access_key = b\n",
            "web identity": f"{ROLE}web_identity_token_file = {self.folder / 'identity'}\n",
        }
        (self.folder / "config").write_text(f"[profile a]\n{config.get(self.kind, '')}")
        (self.folder / "credentials").write_text(f"[a]\n{keys}" if self.kind == "file" else "")

    async def issue(self, request: web.Request) -> web.Response:
        """Answer a request for the credentials of a role."""
        self.issued += 1
        action = (await request.post())["Action"]
        return web.Response(
            text=f"<{action}Response><{action}Result><Credentials><AccessKeyId>{self.key}</AccessKeyId>"
            f"<SecretAccessKey>secret</SecretAccessKey><SessionToken>{self.token}</SessionToken>"
            f"<Expiration>{LATER}</Expiration></Credentials></{action}Result></{action}Response>",
            content_type="text/xml",
        )


@pytest.fixture
async def source(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Source]:
    source = Source(tmp_path, getattr(request, "param", "program"))
    source.configure()
    service = web.Application()
    service.router.add_post("/", source.issue)
    runner = web.AppRunner(service)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    yield source
    await runner.cleanup()


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[tuple[StrictS3, S3Storage]]:
    async with StrictS3() as server:
        server.make_bucket(BUCKET)
        server.min_part_size = PART
        given = {"region": server.region, "endpoint_url": server.url, "max_attempts": 1, "part_size": PART}
        limits = replace(S3_LIMITS, min_part_size=PART)
        async with S3Storage(BUCKET, **{**given, "limits": limits, **settings}) as storage:
            yield server, storage


def rotate(server: StrictS3, source: Source | None, *, key: str = "rotated") -> None:
    """Let the store accept other credentials, which a source has from now on."""
    server.access_key_id, server.session_token = key, f"token {next(NUMBERS)}"
    if source is not None:
        source.key, source.token = key, server.session_token
        source.configure()


async def read(storage: S3Storage) -> None:
    assert await storage.read_data(storage.storage_data_of(digest_of(b"before"))) == b"before"


async def exists(storage: S3Storage) -> None:
    assert await storage.exists(storage.storage_data_of(digest_of(b"before")))
    assert not await storage.exists(storage.storage_data_of(digest_of(b"missing")))


async def stat(storage: S3Storage) -> None:
    assert (await storage.stat(storage.storage_data_of(digest_of(b"before")))).tags


async def delete(storage: S3Storage) -> None:
    await storage.delete(storage.storage_data_of(digest_of(b"before")))


async def list_all(storage: S3Storage) -> None:
    assert [each async for each in storage.list()]


async def stream(storage: S3Storage) -> None:
    assert await storage.read_data(await write_stream(storage, LARGE)) == LARGE


ACTS: list[Callable[[S3Storage], Awaitable[Any]]] = [write, read, exists, stat, delete, list_all, stream]


@pytest.mark.case("60")
@pytest.mark.parametrize(
    ("source", "fast_lane"),
    [
        ("program", True),
        ("program", False),
        ("program without an expiry", True),
        ("file", True),
        ("role", True),
        ("role", False),
        ("web identity", True),
    ],
    indirect=["source"],
)
async def test_refused_credentials_are_loaded_again(source: Source, fast_lane: bool) -> None:
    async with opened(profile="a", fast_lane=fast_lane) as (server, storage):
        server.session_token = "first"
        await write(storage, b"before")
        for number, act in enumerate(ACTS):
            # InvalidAccessKeyId or ExpiredToken
            rotate(server, source, key=f"key{number}" if number % 2 else server.access_key_id)
            before = source.loads
            await act(storage)
            assert source.kind == "file" or source.loads == before + 1
            await write(storage, b"before")


@pytest.mark.case("60")
@pytest.mark.parametrize("source", ["program", "web identity"], indirect=True)
async def test_concurrent_refusals_load_the_credentials_once(source: Source) -> None:
    async with opened(profile="a") as (server, storage):
        server.session_token = "first"
        await write(storage, b"before")
        before = source.loads
        rotate(server, source)
        await asyncio.gather(*(write(storage, b"%d" % number) for number in range(16)))
        assert source.kind == "file" or source.loads == before + 1


@pytest.mark.case("60")
@pytest.mark.parametrize(("source", "fast_lane"), [("program", True), ("file", False)], indirect=["source"])
async def test_refusal_stands_if_the_source_has_nothing_else(source: Source, fast_lane: bool) -> None:
    async with opened(profile="a", fast_lane=fast_lane) as (server, storage):
        server.session_token = "first"
        await write(storage, b"before")
        rotate(server, None)
        for act in (write, read, exists, list_all):
            server.received.clear()
            with pytest.raises(CredentialsError, match="InvalidAccessKeyId"):
                await act(storage)
            assert operations(server).count(operations(server)[-1]) == 1


@pytest.mark.case("60")
@pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])
async def test_explicit_credentials_are_not_replaced_by_others(
    fast_lane: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a session or of a configuration, although the environment has credentials that would be accepted."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "rotated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    session = aws_session(StrictS3.access_key_id, StrictS3.secret_access_key)
    async with opened(session=session, fast_lane=fast_lane) as (server, storage):
        await write(storage, b"before")
        server.access_key_id = "rotated"
        for act in (write, list_all):
            with pytest.raises(CredentialsError, match="InvalidAccessKeyId"):
                await act(storage)


@pytest.mark.case("60")
@pytest.mark.parametrize(
    ("code", "error"), [("AccessDenied", AccessDenied), ("RequestTimeTooSkewed", CredentialsError)]
)
@pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])
async def test_refusal_for_another_reason_loads_nothing(
    source: Source, code: str, error: type[LakeryCloudError], fast_lane: bool
) -> None:
    async with opened(profile="a", fast_lane=fast_lane) as (server, storage):
        server.session_token = "first"
        await write(storage, b"before")
        before = source.loads
        server.refuse(403, code)
        for act in (write, read, exists, list_all):
            with pytest.raises(error):
                await act(storage)
        assert source.loads == before


@pytest.mark.case("60")
@pytest.mark.parametrize("source", ["program", "web identity"], indirect=True)
async def test_source_that_fails_leaves_the_refusal_as_the_error(source: Source) -> None:
    async with opened(profile="a") as (server, storage):
        server.session_token = "first"
        await write(storage, b"before")
        rotate(server, None)
        (source.folder / "program.py").write_text("raise SystemExit(3)")
        (source.folder / "credentials").write_text("")
        (source.folder / "identity").unlink()
        with pytest.raises(LakeryCloudError, match="InvalidAccessKeyId"):
            await write(storage)
        source.configure()
        rotate(server, source)
        await write(storage)


@pytest.mark.case("60")
async def test_provider_of_the_user_s_own_session_is_asked_again() -> None:
    class Vault:
        METHOD = CANONICAL_NAME = "vault"
        loads = 0

        async def load(self) -> Any:
            self.loads += 1
            return AioCredentials(StrictS3.access_key_id if self.loads == 1 else "rotated", "s", method="vault")

    session = AioSession()
    vault = Vault()
    session.get_component("credential_provider").insert_before("env", vault)
    async with opened(session=session) as (server, storage):
        await write(storage, b"before")
        server.access_key_id = "rotated"
        await list_all(storage)
        await write(storage)
        assert vault.loads == 2
