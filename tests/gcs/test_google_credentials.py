"""Google's credentials of every type that google-auth knows, as path, mapping and text; and broken ones."""

import json
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lakery_cloud import AccessDenied, CredentialsError, GCSStorage, LakeryCloudError
from tests.forward_proxy import ForwardProxy
from tests.helpers import write
from tests.tls import tls_before

SECRET = "hunter2-SECRET"
IAM, OAUTH = "iamcredentials.googleapis.com", "oauth2.googleapis.com"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
AWS_TYPE = "urn:ietf:params:aws:token-type:aws4_request"


class Google:
    """Token servers, a source of tokens to exchange, and a store that denies everything.

    Attributes:
        url: Its URL.
        asked: Paths of the requests for tokens.
        authorizations: Headers of the requests to the store.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []

    async def answer(self, request: web.Request) -> web.Response:
        if request.path.startswith("/upload"):
            self.authorizations.append(request.headers.get("Authorization"))
            return web.Response(status=403)
        self.asked.append(request.path)
        if request.path == "/subject":
            return web.Response(text="subject")
        expires = datetime.now(UTC) + timedelta(hours=1)
        return web.json_response(
            {
                "access_token": "given",
                "token_type": "Bearer",
                "expires_in": 3600,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "accessToken": "given",
                "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    google = Google()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", google.answer)
    runner = web.AppRunner(application, shutdown_timeout=1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    google.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield google
    await runner.cleanup()


@pytest.fixture(scope="module")
def private_key() -> str:
    return pem(rsa.generate_private_key(65537, 2048))


def pem(key: Any) -> str:
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode()


Maker = Callable[[str, str, Path], dict[str, Any]]
"""Makes credentials: URL of the servers, a private key, a folder."""


def user(url: str, key: str, folder: Path) -> dict[str, Any]:
    names = {"client_id": "id", "client_secret": SECRET, "refresh_token": SECRET, "token_uri": f"{url}/token"}
    return {"type": "authorized_user", **names}


def service_account(url: str, key: str, folder: Path) -> dict[str, Any]:
    names = {"client_email": "me@project.iam", "private_key": key, "private_key_id": "1", "token_uri": f"{url}/token"}
    return {"type": "service_account", "project_id": "project", **names}


def external(url: str, source: dict[str, Any], kind: str = JWT_TYPE) -> dict[str, Any]:
    # With the number of a project, whose name google-auth would ask for.
    audience = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/provider"
    names = {"audience": audience, "subject_token_type": kind, "token_url": f"{url}/token"}
    return {"type": "external_account", **names, "credential_source": source}


def external_file(url: str, key: str, folder: Path) -> dict[str, Any]:
    (folder / "subject").write_text("subject")
    return external(url, {"file": str(folder / "subject")})


def external_url(url: str, key: str, folder: Path) -> dict[str, Any]:
    return external(url, {"url": f"{url}/subject"})


def external_executable(url: str, key: str, folder: Path) -> dict[str, Any]:
    given = {"version": 1, "success": True, "token_type": JWT_TYPE, "id_token": "subject", "expiration_time": 4e9}
    (folder / "print.py").write_text(f"print({json.dumps(json.dumps(given))})")
    return external(
        url, {"executable": {"command": f"{sys.executable} {folder / 'print.py'}", "timeout_millis": 30000}}
    )


def external_aws(url: str, key: str, folder: Path) -> dict[str, Any]:
    verify = "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
    return external(url, {"environment_id": "aws1", "regional_cred_verification_url": verify}, AWS_TYPE)


def external_user(url: str, key: str, folder: Path) -> dict[str, Any]:
    names = {"client_id": "id", "client_secret": SECRET, "refresh_token": SECRET, "token_url": f"{url}/token"}
    return {"type": "external_account_authorized_user", "audience": "//iam.googleapis.com/x", **names}


def impersonated(url: str, key: str, folder: Path) -> dict[str, Any]:
    target = f"https://{IAM}/v1/projects/-/serviceAccounts/other@project.iam:generateAccessToken"
    names = {"service_account_impersonation_url": target, "source_credentials": user(url, key, folder), "delegates": []}
    return {"type": "impersonated_service_account", **names}


def gdch(url: str, key: str, folder: Path) -> dict[str, Any]:
    key = pem(ec.generate_private_key(ec.SECP256R1()))
    names = {"project": "project", "name": "me", "token_uri": f"{url}/token", "private_key_id": "1", "private_key": key}
    return {"type": "gdch_service_account", "format_version": "1", **names}


MAKERS: tuple[Maker, ...] = (
    *(user, service_account, external_file, external_url, external_executable, external_aws, external_user),
    *(impersonated, gdch),
)


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def info(request: pytest.FixtureRequest, google: Google, private_key: str, tmp_path: Path) -> dict[str, Any]:
    made: dict[str, Any] = request.param(google.url, private_key, tmp_path)
    return made


@pytest.fixture(autouse=True)
async def _environment(google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ForwardProxy]:
    """Variables that some types need, and a proxy that passes Google's own host on to the token server."""
    for name in (
        "HTTP_PROXY",
        "NO_PROXY",
        "http_proxy",
        "no_proxy",
        "https_proxy",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    for name, value in (("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with tls_before(google.url, tmp_path, name="*.googleapis.com") as url, ForwardProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        proxy.routes.update({f"{host}:443": url.removeprefix("https://") for host in (IAM, OAUTH)})
        yield proxy


async def authorization(google: Google, token: Any) -> str | None:
    """The header that a store sees from a storage with these credentials."""
    async with GCSStorage("bucket", token=token, endpoint_url=google.url, max_attempts=1) as storage:
        with pytest.raises(AccessDenied):
            await write(storage, b"data")
    (seen,) = google.authorizations
    google.authorizations.clear()
    return seen


@pytest.mark.case("61")
async def test_every_type_as_path_mapping_and_text(google: Google, info: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(json.dumps(info))
    for token in (str(path), path, info, json.dumps(info), f"\n {json.dumps(info, indent=2)}\n"):
        assert await authorization(google, token) == "Bearer given"
    assert google.asked.count("/token") == 5


@pytest.mark.case("61")
async def test_every_type_of_application_default_credentials(
    google: Google, info: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "application_default_credentials.json"
    path.write_text(json.dumps(info))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    storage = GCSStorage("bucket", token="google_default", endpoint_url=google.url)
    assert await authorization(google, "google_default") == "Bearer given"
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    assert await authorization(google, "google_default") == "Bearer given"
    await storage.aclose()


def without(maker: Maker, field: str) -> Maker:
    def made(url: str, key: str, folder: Path) -> dict[str, Any]:
        info = maker(url, key, folder)
        del info[field]
        return info

    return made


def changed(maker: Maker, **fields: Any) -> Maker:
    return lambda url, key, folder: {**maker(url, key, folder), **fields}


BROKEN: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "unknown type": (changed(user, type="moon"), ("moon", "authorized_user")),
    "no type": (without(user, "type"), ("no type", "authorized_user")),
    "type that is no text": (changed(user, type=[SECRET]), ("authorized_user",)),
    **{
        f"{maker.__name__} without {field}": (without(maker, field), (f"'{maker(*'xy', Path()).get('type')}'", field))
        for maker, fields in (
            (user, ("client_id", "client_secret", "refresh_token")),
            (service_account, ("client_email", "private_key", "token_uri")),
            (external_url, ("audience", "subject_token_type", "token_url", "credential_source")),
            (external_user, ("client_id", "client_secret", "refresh_token", "token_url")),
            (impersonated, ("source_credentials", "service_account_impersonation_url")),
            (gdch, ("project", "name", "token_uri", "private_key", "private_key_id", "format_version")),
        )
        for field in fields
    },
    "private key that is none": (changed(service_account, private_key=SECRET), ("service_account",)),
    "private key of another type": (changed(service_account, private_key=5), ("service_account", "private_key")),
    "source that is a text": (
        changed(external_url, credential_source=SECRET),
        ("external_account", "credential_source"),
    ),
    "source of no kind": (changed(external_url, credential_source={"moon": 1}), ("external_account",)),
    "source that is a file and a URL": (
        changed(external_url, credential_source={"file": "/x", "url": "http://x"}),
        ("external_account",),
    ),
    "AWS without a verification URL": (
        changed(external_aws, credential_source={"environment_id": "aws1"}),
        ("external_account",),
    ),
    "AWS of another version": (
        changed(external_aws, credential_source={"environment_id": "aws9", "regional_cred_verification_url": "x"}),
        ("external_account",),
    ),
    "executable that is a text": (changed(external_url, credential_source={"executable": "x"}), ("external_account",)),
    "impersonation by an unknown type": (
        changed(impersonated, source_credentials={"type": "moon", "x": SECRET}),
        ("impersonated_service_account", "moon"),
    ),
    "impersonation of nobody": (
        changed(impersonated, service_account_impersonation_url="https://x"),
        ("impersonated_service_account",),
    ),
    "another format": (changed(gdch, format_version="9"), ("gdch_service_account",)),
}


def refuse_secret(error: BaseException | None) -> None:
    while error is not None:
        assert SECRET not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


@pytest.mark.case("61")
@pytest.mark.parametrize("name", BROKEN)
async def test_broken_credentials_are_named(
    google: Google, name: str, private_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, words = BROKEN[name]
    info = maker(google.url, private_key, tmp_path)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(info))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for token in (str(path), info, json.dumps(info), "google_default"):
        async with GCSStorage("bucket", token=token, endpoint_url=google.url) as storage:
            with pytest.raises(CredentialsError) as raised:
                await write(storage, b"data")
        for word in (*words, *([str(path)] if token in (str(path), "google_default") else [])):
            assert word in str(raised.value)
        refuse_secret(raised.value)
    assert google.authorizations == []


@pytest.mark.case("61")
@pytest.mark.parametrize(
    "text", ["", SECRET, f'"{SECRET}"', f'["{SECRET}"]', f'{{"{SECRET}', "null", "[" * 100_000, "\udcff"]
)
async def test_file_that_is_no_json_object_is_named(
    google: Google, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, errors="surrogateescape")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for token in (str(path), "google_default"):
        async with GCSStorage("bucket", token=token, endpoint_url=google.url) as storage:
            with pytest.raises(CredentialsError, match=f"{path}.*no JSON object") as raised:
                await write(storage, b"data")
        refuse_secret(raised.value)


@pytest.mark.case("61")
async def test_file_that_is_missing_is_named(google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gone.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for token, origin in ((str(path), "token"), (str(tmp_path / "gone"), "token"), ("google_default", "GOOGLE_")):
        async with GCSStorage("bucket", token=token, endpoint_url=google.url) as storage:
            with pytest.raises(CredentialsError, match=f"gone.*{origin}.*No such file"):
                await write(storage, b"data")


@pytest.mark.case("61")
async def test_broken_default_credentials_are_not_replaced_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    async with GCSStorage("bucket", endpoint_url="https://127.0.0.1:1") as storage:
        assert "GOOGLE_APPLICATION_CREDENTIALS" in storage.credential_source()
        with pytest.raises(CredentialsError, match="GOOGLE_APPLICATION_CREDENTIALS"):
            await write(storage, b"data")


@pytest.mark.case("61")
async def test_token_of_another_type_is_refused(google: Google) -> None:
    async with GCSStorage("bucket", token=5, endpoint_url=google.url) as storage:
        with pytest.raises(LakeryCloudError, match="token can't be a int"):
            await write(storage, b"data")
