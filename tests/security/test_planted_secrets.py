"""No command prints a secret that stands in its arguments, its configuration or its environment, nor does `--debug`."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from lakery_cloud import ConfigError, Configuration
from lakery_cloud.cli.main import app
from lakery_cloud.config.configuration import RetiredSection, RouteSection
from lakery_cloud.config.sections import SECTIONS
from tests.cli.desk import Desk, Done
from tests.security.credentials import Marker, connection_string, everything, s3_keys, signature

HASH = "a" * 64
STORAGE = "STORAGE"
"""Stands for a storage in a command."""
NAMED = ("--database", "sqlite://", "--query", f"SELECT '{HASH}'")
"""A source of records with one hash."""
COMMANDS: Mapping[str, Sequence[str]] = {
    "put": ("file", "--storage", STORAGE),
    "get": (HASH, "--storage", STORAGE),
    "copy": (STORAGE, "memory://a"),
    "ls": (STORAGE,),
    "stat": (HASH, "--storage", STORAGE),
    "rm": (HASH, "--storage", STORAGE),
    "sweep": ("--storage", STORAGE, "--yes"),
    "lifecycle": ("--storage", STORAGE, "--apply"),
    "verify": ("--storage", STORAGE),
    "inventory": ("--storage", STORAGE),
    "orphans": (*NAMED, "--storage", STORAGE),
    "dangling": (*NAMED, "--storage", STORAGE),
    "gc": (*NAMED, "--storage", STORAGE),
    "doctor": (STORAGE,),
    "url": ("--put", "file", "--storage", STORAGE),
    "explain": ("file", "--storage", STORAGE),
    "storages": (),
    "config show": (),
    "completion": ("bash",),
    "config check": (),
    "config init": ("--force", "made.toml"),
    "emulators list": (),
    "emulators up": ("none",),
    "emulators down": (),
    "emulators env": (),
}
WITH_STORAGE = [name for name, arguments in COMMANDS.items() if any(STORAGE in argument for argument in arguments)]
READ_CONFIGURATION = ("config show", "config check", "storages", "ls", "explain")
OPTIONS: Sequence[Sequence[str]] = ((), ("--debug",))


def alternating(number: int, command: str) -> Sequence[str]:
    """With and without `--debug` in turn, so that each case is tried both ways, with one half of the commands each."""
    return OPTIONS[(number + [*COMMANDS].index(command)) % 2]


def in_full(command: str, storage: str) -> list[str]:
    return [*command.split(), *(argument.replace(STORAGE, storage) for argument in COMMANDS[command])]


@pytest.fixture
def desk(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "file").write_text("content")
    return Desk(tmp_path, capfd)


def check(done: Done, marker: Marker, where: str) -> None:
    """The command said something, and nothing of it is secret."""
    marker.check("\n".join([*done.out, *done.errors]), where)
    assert "Traceback" not in "\n".join(done.errors) or "--debug" in where


def test_every_command_is_tried() -> None:
    def names(tree: Any, prefix: str = "") -> Iterator[str]:
        for name in tree:
            if not name.startswith("-"):
                inner = [*names(tree[name], f"{prefix}{name} ")]
                yield from inner or [f"{prefix}{name}"]

    assert {*names(app)} == {*COMMANDS}


PLANTED_URLS = (
    *("s3://me:{}@bucket", "gs://{}@bucket/a", "az://me%3A{}%40container", "file://me:{}@host/a", "memory://me:{}@m"),
    *("s3://bucket?sig={}", "az://container?sv=1&sig={}", "s3://bucket?aws_secret_access_key={}", "s3://bucket?{}"),
    *("s3://bucket?endpoint_url=https://me:{}@host", "s3://bucket?endpoint_url=https://host%3Fsig%3D{}", "{}://bucket"),
    *("https://me:{}@host/bucket", "postgres://me:{}@host/bucket", "s3://bucket#sig={}"),
)


@pytest.mark.parametrize("command", WITH_STORAGE)
def test_credentials_in_the_url_of_a_command_are_not_printed(desk: Desk, command: str) -> None:
    marker = Marker()
    first = WITH_STORAGE.index(command) % 3  # each URL with every third command
    for number, url in enumerate(PLANTED_URLS[first::3]):
        options = alternating(number, command)
        done = desk.run(*options, *in_full(command, url.format(marker.plain)))
        assert done.code == 2, (url, done)
        check(done, marker, f"{' '.join(options)} {command} with {url}")


@pytest.mark.parametrize("command", COMMANDS)
def test_credentials_in_wrong_arguments_are_not_printed(desk: Desk, command: str) -> None:
    """An option that the command doesn't have, a value of a wrong type, and too many arguments."""
    marker = Marker()
    url = f"s3://me:{marker.plain}@bucket"
    wrongs = ((f"--storag={url}",), ("--storag", url), ("--jobs", url), ("--older-than", url), (url,) * 9)
    for number, wrong in enumerate(wrongs):
        options = alternating(number, command)
        done = desk.run(*options, *in_full(command, "memory://a"), *wrong)
        check(done, marker, f"{' '.join(options)} {command} {wrong[0]}")


class Echo(BaseHTTPRequestHandler):
    """Refuses each request with a message that repeats its headers."""

    requests: ClassVar[int] = 0

    def answer(self) -> None:
        """Refuse the request."""
        type(self).requests += 1
        said = f"{self.requestline} {dict(self.headers)} {json.dumps(dict(self.headers))}"
        if "/storage/v1" in self.path:
            body = json.dumps({"error": {"code": 403, "message": said, "errors": [{"reason": "x", "message": said}]}})
        else:
            shown = said.replace("&", "&amp;").replace("<", "&lt;")
            body = f"<Error><Code>AccessDenied</Code><Message>{shown}</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body.encode())))
        self.send_header("Connection", "close")
        self.send_header("x-ms-error-code", "AuthorizationFailure")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815, the names of http.server

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def environment(cloud: str, marker: Marker, url: str) -> dict[str, str]:
    """Variables with secrets, by which a cloud's storage gets its credentials."""
    with_user = url.replace("://", f"://me:{marker.plain}@")
    keys = {name.upper(): value for name, value in s3_keys(marker).items()}
    return {
        "s3": {**keys, "AWS_ENDPOINT_URL_S3": url},
        "s3 with a user": {**keys, "AWS_ENDPOINT_URL_S3": with_user},
        "gs": {"STORAGE_EMULATOR_HOST": with_user},
        "az": {"AZURE_STORAGE_CONNECTION_STRING": connection_string(marker, url)},
        "az with a signature": {
            "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint={url}/me;SharedAccessSignature={signature(marker)}"
        },
        "proxy": {
            **keys,
            "HTTP_PROXY": with_user,
            "HTTPS_PROXY": with_user,
            "NO_PROXY": "",
            "AWS_ENDPOINT_URL": "http://s3.example.com",
        },
    }[cloud]


SCHEMES = {"s3": "s3", "s3 with a user": "s3", "gs": "gs", "az": "az", "az with a signature": "az", "proxy": "s3"}


@pytest.mark.parametrize("cloud", SCHEMES)
def test_store_or_proxy_that_repeats_credentials_makes_no_command_print_them(
    desk: Desk, cloud: str, echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = Marker()
    for name, value in environment(cloud, marker, echo).items():
        monkeypatch.setenv(name, value)
        monkeypatch.delenv(name.lower(), raising=False)
    storage = f"{SCHEMES[cloud]}://bucket?max_attempts=1" + ("&region=us-east-1" if SCHEMES[cloud] == "s3" else "")
    for command in COMMANDS:
        before = Echo.requests
        for options in OPTIONS:
            done = desk.run(*options, *in_full(command, storage))
            if command != "url":  # whose result is a signature
                check(done, marker, f"{' '.join(options)} {command}")
            if command in WITH_STORAGE and command not in ("url", "explain", "lifecycle"):
                assert done.code != 0, (command, done)
                # The SDK sends no request with credentials of its own and in the URL.
                assert Echo.requests > before or cloud == "s3 with a user", (command, done)


CONFIGURED = {
    "a value of another type": "[storages.it]\nurl = 's3://b'\npart_size = '{}'",
    "a size with a unit": "[storages.it]\nurl = 's3://b'\npart_size = '5{}'",
    "a list": "[storages.it]\nurl = 's3://b'\nregion = ['{}']",
    "an unknown key": "[storages.it]\nurl = 's3://b'\n{} = 1",
    "an unknown key with the secret": "[storages.it]\nurl = 's3://b'\nsecret = '{}'",
    "an unknown table": "[{}]\nurl = 's3://b'",
    "no table": "storages = '{}'",
    "a key twice": "[storages.it]\n{0} = 1\n{0} = 2",
    "a table twice": "[storages.{0}]\n[storages.{0}]",
    "a table for a value": "[storages.it]\n{0} = 1\n[storages.it.{0}.x]\ny = 1",
    "an inline table twice": "x = {{ {0} = 1, {0} = 2 }}",
    "a name in an inline table": "x = {{ {0} = 1 }}\n[x.{0}]",
    "an open text": "[storages.it]\nsecret_access_key = '{}",
    "no quotes": "[storages.it]\nsecret_access_key = {}",
    "no value": "[storages.it]\n{}",
    "a bad escape": '[storages.it]\nsecret_access_key = "\\q{}"',
    "a user in the URL": "[storages.it]\nurl = 's3://me:{}@b'",
    "a query of the URL": "[storages.it]\nurl = 's3://b?sig={}'",
    "an unknown setting of the URL": "[storages.it]\nurl = 's3://b?{}'",
    "an endpoint": "[storages.it]\nurl = 's3://b'\nendpoint_url = 'https://me:{}@host'",
    "an endpoint in the URL": "[storages.it]\nurl = 's3://b?endpoint_url=https://me:{}@host'",
    "a scheme": "[storages.it]\nurl = '{}://b'",
    "a route": "[[routes]]\nstorage = 'it'\nmin_size = '{}'",
    "a retired name": "[retired]\nstorages = ['a = b = {}']",
    "many digits": "[storages.it]\nsecret_access_key = '{}'\nx = 1" + "0" * 5000,
    "deep tables": "[storages.it]\nsecret_access_key = '{}'\nx = " + "[" * 5000,
}


@pytest.mark.parametrize("mistake", CONFIGURED)
def test_mistake_in_the_configuration_shows_no_value_and_no_strange_key(desk: Desk, mistake: str) -> None:
    marker = Marker()
    (desk.folder / "lakery-cloud.toml").write_text(CONFIGURED[mistake].format(marker.plain))
    for number, command in enumerate(READ_CONFIGURATION):
        options = OPTIONS[number % 2]
        arguments = in_full(command, "")[: len(command.split())] + (["file"] if command == "explain" else [])
        done = desk.run(*options, *arguments, "--json")
        assert done.code == 2, (command, done)
        assert done.errors
        check(done, marker, f"{' '.join(options)} {command}")


VARIABLES = {
    "LAKERY_CLOUD_STORAGE": ("s3://me:{}@bucket", "s3://bucket?sig={}", "AccountName=me;AccountKey={}"),
    "LAKERY_CLOUD_CONFIG": ("s3://me:{}@bucket/lakery-cloud.toml", "https://host/a.toml?sig={}"),
    "LAKERY_CLOUD_DEFAULT": ("s3://me:{}@bucket",),
    "LAKERY_CLOUD_ROUTES": ("{}", "[{}", '[{{"storage": "it", "{}": 1}}]', '[{{"min_size": "{}"}}]'),
    "LAKERY_CLOUD_RETIRED": ("{}", "[{}", '{{"storages": ["{} = = "]}}'),
    "LAKERY_CLOUD_STORAGES": ("{}", "{{{}", '{{"it": "{}"}}', '{{"it": {{"url": "s3://b", "{}": 1}}}}'),
    "LAKERY_CLOUD_STORAGES__IT": ("{}", '{{"url": "s3://me:{}@b"}}'),
    "LAKERY_CLOUD_STORAGES__IT__URL": ("{}", "s3://me:{}@b", "s3://b?sig={}"),
    "LAKERY_CLOUD_STORAGES__IT__PART_SIZE": ("{}", "5{}"),
    "LAKERY_CLOUD_STORAGES__IT__ENDPOINT_URL": ("https://me:{}@host",),
    "LAKERY_CLOUD_STORAGES__IT__TOKEN": ("{}",),
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_mistake_in_a_variable_shows_no_value(desk: Desk, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = Marker()
    if variable.startswith("LAKERY_CLOUD_STORAGES__IT__"):
        monkeypatch.setenv("LAKERY_CLOUD_STORAGES__IT__URL", "s3://b")
    for value in VARIABLES[variable]:
        monkeypatch.setenv(variable, value.format(marker.plain))
        failed = 0
        for command in READ_CONFIGURATION:
            options = alternating(len(value), command)
            arguments = in_full(command, "")[: len(command.split())] + (["file"] if command == "explain" else [])
            done = desk.run(*options, *arguments)
            failed += done.code != 0
            check(done, marker, f"{' '.join(options)} {command} with {variable}={value}")
        assert failed, value


def models() -> Iterator[tuple[str, type[Any], dict[str, Any]]]:
    """Each model of a configuration, by its name, with what it needs."""
    for section in SECTIONS:
        yield section.scheme, section, {"url": f"{section.scheme}://b"}
    yield "route", RouteSection, {"storage": "it"}
    yield "retired", RetiredSection, {}


@pytest.mark.parametrize(("kind", "model", "needed"), [*models()], ids=[kind for kind, *_ in models()])
def test_value_of_a_wrong_type_is_not_shown_for_any_key(kind: str, model: type[Any], needed: dict[str, Any]) -> None:
    marker = Marker()
    refused = 0
    for name in model.model_fields:
        for value in (
            f"5{marker.plain}",
            [marker.plain],
            [[marker.plain]],
            {marker.plain: 1},
            {"a": {marker.plain: 1}},
        ):
            given = {**needed, name: value}
            top = {"routes": [given]} if kind == "route" else {"retired": given} if kind == "retired" else None
            try:
                Configuration(**(top or {"storages": {"it": given}}))
            except ConfigError as error:
                refused += 1
                for text in everything(error):
                    marker.check(text, f"the error of {name} = {value!r}")
    assert refused > len(model.model_fields)


def test_every_secret_is_shown_as_stars(desk: Desk) -> None:
    marker = Marker()
    lines = [
        *("[storages.s3]", "url = 's3://b'", f"secret_access_key = {json.dumps(marker.key)}", "access_key_id = 'me'"),
        *(
            "[storages.az]",
            "url = 'az://b'",
            f"connection_string = {json.dumps(connection_string(marker, 'http://h'))}",
        ),
        *("[storages.gs]", "url = 'gs://b'", f"token = {json.dumps(marker.plain)}"),
        f"[storages.more]\nurl = 'az://c'\nname = 'a.b@v1'\nsas_token = {json.dumps(quote(signature(marker)))}",
    ]
    (desk.folder / "lakery-cloud.toml").write_text("\n".join(lines))
    for options in ((), ("--json",)):
        done = desk.run("config", "show", *options)
        assert done.code == 0
        assert sum("**********" in line for line in done.out) == 5
        check(done, marker, "config show")
