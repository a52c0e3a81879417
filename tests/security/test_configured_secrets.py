"""A configuration shows no secret: not in a repr, an error, a dump, a pickle or the output of the command."""

import json
import pickle
import pprint
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lakery_cloud import ConfigError, Configuration
from lakery_cloud.config.building import build_storage
from lakery_cloud.config.secrets import Secret
from lakery_cloud.config.sections import SECTIONS
from tests.helpers import run_command
from tests.security.credentials import Marker, check_storage, everything
from tests.security.test_secrets import ENDPOINTS

CONFIGURED: Mapping[str, Mapping[str, str]] = {
    "s3://bucket": {"access_key_id": "plain", "secret_access_key": "key", "session_token": "plain"},
    "gs://bucket": {"token": "plain"},
    "gs://json": {"credentials_json": "key"},
    "az://key": {"account_name": "", "account_key": "key"},
    "az://sas": {"account_name": "", "sas_token": "plain"},
    "az://connection": {"connection_string": "plain"},
}
"""URL -> its secrets, and the form of the marker that each is."""


def configured(url: str, marker: Marker) -> dict[str, Any]:
    given = {name: getattr(marker, form) if form else "me" for name, form in CONFIGURED[url].items()}
    return {"storages": {"it": {"url": url, **given}}}


def check_configuration(configuration: Configuration, marker: Marker) -> None:
    section = configuration.storages["it"]
    for shown in (configuration, section, vars(configuration), vars(section), configuration.model_dump()):
        for text in (repr(shown), str(shown), pprint.pformat(shown)):
            marker.check(text, "the configuration")
    marker.check(configuration.model_dump_json(), "the configuration as JSON")
    marker.check(repr(configuration.__pydantic_private__), "what the configuration remembers")


def test_every_secret_that_can_be_configured_is_in_a_test() -> None:
    fields = {
        (section.scheme, name)
        for section in SECTIONS
        for name, field in section.model_fields.items()
        if Secret in getattr(field.annotation, "__args__", ())
    }
    tested = {
        (url.partition(":")[0], name) for url, given in CONFIGURED.items() for name, form in given.items() if form
    }
    assert fields == tested
    for section in SECTIONS:
        secret = {name for scheme, name in fields if scheme == section.scheme}
        assert secret <= {*section.credential_names} <= {*secret, "credentials_file"}


@pytest.mark.parametrize("url", CONFIGURED)
@pytest.mark.parametrize("mistake", [{}, {"urll": "x"}, {"part_size": "many"}, {"name": "none"}, {"account_key": 7}])
def test_configured_secret_is_never_shown(url: str, mistake: dict[str, Any]) -> None:
    marker = Marker()
    settings = configured(url, marker)
    settings["storages"]["it"].update(mistake)
    try:
        configuration = Configuration(**settings)
        check_configuration(configuration, marker)
        with pytest.raises(ConfigError, match="can't be pickled"):
            pickle.dumps(configuration)
        built = build_storage(configuration, "it")
    except ConfigError as error:
        assert mistake or "json" in url
        for text in everything(error):
            marker.check(text, "the error")
    else:
        check_storage(built, marker, pickles=False)
        marker.check(built.credential_source(), "the source of credentials")


@pytest.mark.parametrize("url", CONFIGURED)
def test_secret_under_a_wrong_key_is_not_shown(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = Marker()
    (section,) = configured(url, marker)["storages"].values()
    lines = [f"{name}x = {json.dumps(value)}" for name, value in section.items()]
    (tmp_path / "wrong.toml").write_text("\n".join(["[storages.it]", 'url = "s3://b"', *lines]), "utf-8")
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__IT__SECRETT", marker.key)
    monkeypatch.setenv("LAKERY_CLOUD_ROUTES", marker.plain)
    for variables in (["LAKERY_CLOUD_ROUTES"], []):
        with pytest.raises(ConfigError) as raised:
            Configuration.load(tmp_path / "wrong.toml")
        for text in everything(raised.value):
            marker.check(text, "the error")
        for name in variables:
            monkeypatch.delenv(name)


def test_configuration_of_references_pickles_without_the_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = Marker()
    monkeypatch.setenv("LAB_KEY", marker.plain)
    (tmp_path / "secret").write_text(marker.key, "utf-8")
    given = {"url": "s3://b", "access_key_id": "env:LAB_KEY", "secret_access_key": f"file:{tmp_path / 'secret'}"}
    configuration = Configuration(storages={"it": given})
    marker.check(pickle.dumps(configuration), "the pickle")
    copy = pickle.loads(pickle.dumps(configuration))
    check_storage(build_storage(copy, "it"), marker, pickles=False)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_endpoint_with_credentials_is_refused_before_a_configuration_shows_it(endpoint: str) -> None:
    marker = Marker()
    for section in (
        {"url": "s3://bucket", "endpoint_url": endpoint.format(marker.plain)},
        {"url": f"s3://bucket?endpoint_url={quote(endpoint.format(marker.plain))}"},
        {"url": f"s3://me:{marker.plain}@bucket"},
    ):
        with pytest.raises(ConfigError) as raised:
            Configuration(storages={"it": section})
        for text in everything(raised.value):
            marker.check(text, "the error")


def test_command_shows_no_configured_secret(tmp_path: Path) -> None:
    marker = Marker()
    lines = []
    for number, url in enumerate(CONFIGURED):
        (section,) = configured(url, marker)["storages"].values()
        lines += [f"[storages.it{number}]", f'name = "tests.secrets.it{number}@v1"']
        lines += [f"{name} = {json.dumps(value)}" for name, value in section.items()]
    (tmp_path / "lakery-cloud.toml").write_text("\n".join(lines), "utf-8")
    for command in (("config", "show"), ("storages",)):
        done = run_command(*command, cwd=tmp_path)
        assert done.stdout or done.returncode == 2
        marker.check(done.stdout + done.stderr, " ".join(command))
