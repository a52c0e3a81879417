"""Every fault in the AWS configuration is an error of ours that names where it is."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession
from botocore.utils import ContainerMetadataFetcher

from lakery_cloud import ConfigError, CredentialsError, LakeryCloudError, S3Storage, StorageUnavailable
from lakery_cloud.maintenance.doctor import diagnose
from lakery_cloud.testing import StrictS3, digest_of
from tests.helpers import write
from tests.tls import server_context

SECRET = "hunter2/SECRET"
KEYS = f"aws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {SECRET}\n"
ROLE = "role_arn = arn:aws:iam::123456789012:role/reader\n"
MFA = "mfa_serial = arn:aws:iam::123456789012:mfa/me\n"
NOWHERE = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Fault:
    """A fault in the configuration.

    Attributes:
        words: What the message has; `{folder}` is the folder of the files.
        config: Text of the file `config`.
        credentials: Text of the file `credentials`.
        environment: Variables.
        settings: Settings of the storage.
        error: Class of the error.
        is_found_at_once: Whether `credential_source` fails too.
    """

    words: tuple[str, ...]
    config: str = ""
    credentials: str = f"[default]\n{KEYS}"
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    error: type[LakeryCloudError] = ConfigError
    is_found_at_once: bool = False


CONFIG, CREDENTIALS = "{folder}/config", "{folder}/credentials"

FAULTS = {
    # Files
    "config is no INI": Fault(
        (CONFIG, "line 1", "Correct the file"), f"secret = {SECRET}\n[default]\n", is_found_at_once=True
    ),
    "line without a value": Fault(
        (CONFIG, "line 3", "Correct the file"), f"[default]\nregion = x\n{SECRET}\n", is_found_at_once=True
    ),
    "section twice": Fault(
        (CONFIG, "line 3", "Correct the file"), "[default]\nregion = x\n[default]\n", is_found_at_once=True
    ),
    "binary file": Fault((CONFIG, "Correct the file"), "\udcff\udcfe[default]\n", is_found_at_once=True),
    "section with text": Fault((CONFIG, "Correct the file"), f"[default]\ns3 =\n  {SECRET}\n", is_found_at_once=True),
    "credentials are no INI": Fault(
        (CREDENTIALS, "line 1", "Correct the file"), credentials=f"{SECRET}\n", is_found_at_once=True
    ),
    # Profiles
    "unknown profile": Fault(
        ("nobody", "aws configure list-profiles"), settings={"profile": "nobody"}, is_found_at_once=True
    ),
    "unknown profile in the environment": Fault(
        ("nobody", "AWS_PROFILE", CONFIG, "aws configure list-profiles"),
        environment={"AWS_PROFILE": "nobody"},
        is_found_at_once=True,
    ),
    "loop of roles": Fault(
        ("'a'", CONFIG),
        f"[profile a]\n{ROLE}source_profile = b\n[profile b]\n{ROLE}source_profile = a\n",
        settings={"profile": "a"},
    ),
    "unknown source_profile": Fault(
        ("gone", "source_profile of profile 'a'", CONFIG),
        f"[profile a]\n{ROLE}source_profile = gone\n",
        settings={"profile": "a"},
    ),
    "source without credentials": Fault(
        ('"b"', "source_profile of profile 'a'", CONFIG),
        f"[profile a]\n{ROLE}source_profile = b\n[profile b]\nregion = eu-west-1\n",
        settings={"profile": "a"},
    ),
    "role without a source": Fault(
        ("'a'", CONFIG, "source_profile"), f"[profile a]\n{ROLE}", settings={"profile": "a"}, error=CredentialsError
    ),
    "unknown credential_source": Fault(
        ("Moon", "credential_source of profile 'a'", CONFIG),
        f"[profile a]\n{ROLE}credential_source = Moon\n",
        settings={"profile": "a"},
    ),
    "empty credential_source": Fault(
        ("'a'", CONFIG),
        f"[profile a]\n{ROLE}credential_source = Environment\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    "unknown sso_session": Fault(
        ("gone", "sso_session of profile 'a'", CONFIG),
        "[profile a]\nsso_session = gone\nsso_account_id = 1\nsso_role_name = r\n",
        settings={"profile": "a"},
    ),
    "role with MFA": Fault(
        ("an MFA code", "mfa_serial of profile 'a'", CONFIG, "aws configure export-credentials"),
        f"[profile a]\n{ROLE}{MFA}source_profile = b\n[profile b]\n{KEYS}",
        settings={"profile": "a", "region": "us-east-1"},
        error=CredentialsError,
    ),
    "source with MFA": Fault(
        ("an MFA code", "mfa_serial of profile 'b'", CONFIG, "aws configure export-credentials"),
        f"[profile a]\n{ROLE}source_profile = b\n[profile b]\n{ROLE}{MFA}source_profile = c\n[profile c]\n{KEYS}",
        environment={"AWS_PROFILE": "a"},
        settings={"region": "us-east-1"},
        error=CredentialsError,
    ),
    "login that has ended": Fault(
        ("aws sso login", CONFIG),
        "[profile a]\nsso_start_url = https://x.example\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    "half of the keys": Fault(
        ("aws_secret_access_key", CREDENTIALS),
        credentials="[default]\naws_access_key_id = AKIAEXAMPLE\n",
        error=CredentialsError,
    ),
    "half of the keys in the environment": Fault(
        ("AWS_SECRET_ACCESS_KEY",), environment={"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE"}, error=CredentialsError
    ),
    "no credentials": Fault(("no credentials", "AWS_ACCESS_KEY_ID"), credentials="", error=CredentialsError),
    # Tokens and programs
    "token file is missing": Fault(
        ("/no/token", "AWS_WEB_IDENTITY_TOKEN_FILE", "No such file"),
        credentials="",
        environment={"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/token", "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"},
        error=CredentialsError,
    ),
    "token file is empty": Fault(
        ("WebIdentityToken", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        credentials="",
        environment={
            "AWS_WEB_IDENTITY_TOKEN_FILE": os.devnull,
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    ),
    "role that is none": Fault(
        ("RoleArn", "AWS_ROLE_ARN"),
        credentials="",
        environment={
            "AWS_WEB_IDENTITY_TOKEN_FILE": __file__,
            "AWS_ROLE_ARN": "r",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    ),
    "program that is a folder": Fault(
        ("/tmp", "credential_process of profile 'a'", CONFIG, "Permission denied"),
        "[profile a]\ncredential_process = /tmp\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    "attempts below one": Fault(("-1", "AWS_MAX_ATTEMPTS"), environment={"AWS_MAX_ATTEMPTS": "-1"}),
    "setting twice": Fault(
        (CONFIG, "line 3", "Correct the file"), "[default]\nregion = x\nregion = y\n", is_found_at_once=True
    ),
    "token file of a profile is missing": Fault(
        ("/no/token", "web_identity_token_file of profile 'a'", CONFIG),
        f"[profile a]\n{ROLE}web_identity_token_file = /no/token\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    "token file without a role": Fault(
        ("AWS_ROLE_ARN",), credentials="", environment={"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/token"}
    ),
    "token file of a container is missing": Fault(
        ("/no/token", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        credentials="",
        environment={
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{NOWHERE}/c",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/no/token",
        },
        error=CredentialsError,
    ),
    "container URL on any host": Fault(
        ("example.com", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        credentials="",
        environment={"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/c"},
    ),
    "container that does not answer": Fault(
        ("127.0.0.1:1",),
        credentials="",
        environment={"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{NOWHERE}/c"},
        error=CredentialsError,
    ),
    "program is missing": Fault(
        ("no-such-program", "credential_process of profile 'a'", CONFIG),
        f"[profile a]\ncredential_process = no-such-program --secret {SECRET}\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    "program fails": Fault(
        ("its reason", "credential_process of profile 'a'", CONFIG),
        "[profile a]\ncredential_process = sh -c 'echo its reason >&2; exit 3'\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    **{
        f"program prints {shown!r}": Fault(
            ("credential_process of profile 'a'", CONFIG, "JSON"),
            f"[profile a]\ncredential_process = printf '%s' '{shown}'\n",
            settings={"profile": "a"},
            error=CredentialsError,
        )
        for shown in (f"secret={SECRET}", f'["{SECRET}"]', "", "null", f'"{SECRET}"')
    },
    "program prints no keys": Fault(
        ("AccessKeyId", "credential_process of profile 'a'", CONFIG),
        "[profile a]\ncredential_process = printf '%s' '{\"Version\": 1}'\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    "program prints another version": Fault(
        ("version '2'", "credential_process of profile 'a'"),
        "[profile a]\ncredential_process = printf '%s' '{\"Version\": 2}'\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    "program prints a wrong time": Fault(
        ("credential_process of profile 'a'", CONFIG),
        "[profile a]\ncredential_process = printf '%s' '"
        f'{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "{SECRET}", "Expiration": "soon"}}'
        "'\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    "quotes of a program that do not end": Fault(
        ("credential_process of profile 'a'", CONFIG),
        "[profile a]\ncredential_process = printf 'x\n",
        settings={"profile": "a"},
        error=CredentialsError,
    ),
    # Values
    "s3 as text": Fault(("s3 of profile 'default'", CONFIG, "section"), "[default]\ns3 = path\n"),
    "attempts are no number": Fault(
        ("many", "max_attempts of profile 'default'", CONFIG), "[default]\nmax_attempts = many\n"
    ),
    "attempts in the environment": Fault(("many", "AWS_MAX_ATTEMPTS"), environment={"AWS_MAX_ATTEMPTS": "many"}),
    "metadata time-out": Fault(
        ("soon", "AWS_METADATA_SERVICE_TIMEOUT"), environment={"AWS_METADATA_SERVICE_TIMEOUT": "soon"}
    ),
    "mode of retries": Fault(("odd", "AWS_RETRY_MODE"), environment={"AWS_RETRY_MODE": "odd"}),
    "mode of defaults": Fault(("odd", "AWS_DEFAULTS_MODE"), environment={"AWS_DEFAULTS_MODE": "odd"}),
    "mode of the metadata's endpoint": Fault(
        ("odd", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"), environment={"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "odd"}
    ),
    "region in the environment": Fault(("u s", "AWS_DEFAULT_REGION"), environment={"AWS_DEFAULT_REGION": "u s"}),
    "region of the profile": Fault(("u/s", "region of profile 'default'", CONFIG), "[default]\nregion = u/s\n"),
    "region in the settings": Fault(("u s", "the setting region"), settings={"region": "u s"}),
    "endpoint without a scheme": Fault(
        ("127.0.0.1:9000", "AWS_ENDPOINT_URL_S3"), environment={"AWS_ENDPOINT_URL_S3": "127.0.0.1:9000"}
    ),
    "endpoint of the profile": Fault(
        ("minio:9000", "endpoint_url of profile 'default'", CONFIG), "[default]\nendpoint_url = minio:9000\n"
    ),
    "endpoint of services": Fault(
        ("minio:9000", "s3.endpoint_url of [services all]", CONFIG),
        "[default]\nservices = all\n[services all]\ns3 =\n  endpoint_url = minio:9000\n",
    ),
    "endpoint with a letter as port": Fault(
        ("'port'", "AWS_ENDPOINT_URL"), environment={"AWS_ENDPOINT_URL": "http://minio:port"}
    ),
    "endpoint with credentials": Fault(
        ("must not contain credentials", "AWS_ENDPOINT_URL_S3"),
        environment={"AWS_ENDPOINT_URL_S3": "http://me:pass@127.0.0.1:1"},
    ),
    "endpoint of the profile with credentials": Fault(
        ("must not contain credentials", "profile 'default'", CONFIG),
        "[default]\nendpoint_url = http://me@127.0.0.1:1\n",
    ),
    "regional endpoints": Fault(
        ("odd", "AWS_STS_REGIONAL_ENDPOINTS"), environment={"AWS_STS_REGIONAL_ENDPOINTS": "odd"}
    ),
    # Certificates
    "bundle is missing": Fault(
        ("/no/bundle", "AWS_CA_BUNDLE"),
        environment={"AWS_CA_BUNDLE": "/no/bundle"},
        settings={"endpoint_url": "https://127.0.0.1:1"},
    ),
    "bundle of the profile is missing": Fault(
        ("/no/bundle", "ca_bundle of profile 'default'", CONFIG),
        "[default]\nca_bundle = /no/bundle\n",
        settings={"endpoint_url": "https://127.0.0.1:1"},
    ),
    # Services that issue credentials
    "role of a service that is not there": Fault(
        ("127.0.0.1:1",),
        f"[profile a]\n{ROLE}source_profile = b\n[profile b]\n{KEYS}",
        environment={"AWS_ENDPOINT_URL_STS": NOWHERE, "AWS_MAX_ATTEMPTS": "1"},
        settings={"profile": "a", "region": "us-east-1"},
        error=StorageUnavailable,
    ),
}


@pytest.fixture(params=FAULTS.values(), ids=list(FAULTS))
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fault:
    fault: Fault = request.param
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    (tmp_path / "config").write_text(fault.config, errors="surrogateescape")
    (tmp_path / "credentials").write_text(fault.credentials)
    for name, value in fault.environment.items():
        monkeypatch.setenv(name, value)
    return fault


async def read(storage: S3Storage) -> None:
    await storage.read_data(storage.storage_data_of(digest_of(b"data")))


def storage_with(fault: Fault, **settings: Any) -> S3Storage:
    return S3Storage("bucket", **{"max_attempts": 1, **settings, **fault.settings})


def check(fault: Fault, folder: Path, error: BaseException) -> None:
    assert isinstance(error, fault.error), repr(error)
    for word in fault.words:
        assert word.format(folder=folder) in str(error), str(error)
    while error is not None:
        assert SECRET not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


@pytest.mark.case("62")
async def test_fault_in_the_aws_configuration_is_named(fault: Fault, tmp_path: Path) -> None:
    async with storage_with(fault) as storage:
        for act in (write, read):
            with pytest.raises(LakeryCloudError) as raised:
                await act(storage)
            check(fault, tmp_path, raised.value)


@pytest.mark.case("62")
async def test_source_of_credentials_and_doctor_name_the_fault(fault: Fault, tmp_path: Path) -> None:
    async with storage_with(fault, fast_lane=False) as storage:
        if fault.is_found_at_once:
            with pytest.raises(fault.error) as raised:
                storage.credential_source()
            check(fault, tmp_path, raised.value)
        else:
            assert SECRET not in storage.credential_source()
        try:
            findings = [finding async for finding in diagnose(storage)]
        except fault.error as error:
            check(fault, tmp_path, error)
        else:
            errors = [finding.error for finding in findings if finding.error is not None]
            assert errors
            check(fault, tmp_path, errors[0])


class Remembered(dict[str, Any]):
    """A cache of the SDK that has credentials of every role."""

    def __contains__(self, _: object) -> bool:
        return True

    def __getitem__(self, _: str) -> Any:
        return {
            "Credentials": {
                "AccessKeyId": StrictS3.access_key_id,
                "SecretAccessKey": SECRET,
                "SessionToken": "token",
                "Expiration": "2099-01-01T00:00:00Z",
            }
        }


@pytest.mark.case("62")
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_role_with_mfa_is_used_while_its_credentials_are_cached(
    fast_lane: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(f"[profile a]\n{ROLE}{MFA}source_profile = b\n[profile b]\n{KEYS}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    session = AioSession(profile="a")
    session.get_component("credential_provider").get_provider("assume-role").cache = Remembered()
    async with StrictS3() as server:
        server.make_bucket("bucket")
        server.session_token = "token"
        given = {"endpoint_url": server.url, "region": server.region, "fast_lane": fast_lane, "max_attempts": 1}
        async with S3Storage("bucket", session=session, **given) as storage:
            await write(storage)
        async with S3Storage("bucket", profile="a", **given) as storage:
            with pytest.raises(CredentialsError, match="MFA"):
                await write(storage)


@pytest.mark.case("59")
@pytest.mark.parametrize("kind", ["role", "web identity"])
async def test_service_that_issues_credentials_needs_a_known_certificate(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("token")
    source = "source_profile = b" if kind == "role" else f"web_identity_token_file = {tmp_path / 'token'}"
    (tmp_path / "config").write_text(f"[profile a]\n{ROLE}{source}\n[profile b]\n{KEYS}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    requests: list[bytes] = []

    async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    for name, error in (("127.0.0.1", CredentialsError), ("sts.example.com", StorageUnavailable)):
        requests.clear()
        tls = server_context(tmp_path, name=name)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        async with await asyncio.start_server(deny, "127.0.0.1", 0, ssl=tls) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            async with S3Storage("bucket", profile="a", region="us-east-1", max_attempts=1) as storage:
                with pytest.raises(error):
                    await write(storage)
        assert bool(requests) == (name == "127.0.0.1")
