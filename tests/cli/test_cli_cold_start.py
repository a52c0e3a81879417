"""What a command loads before it works: nothing that another command, an SDK or a configuration needs."""

import pytest

from lakery_cloud.cli.main import COMMANDS, app
from tests.cli.desk import Desk
from tests.helpers import hash_of, run_python

COMMAND = """
    import sys

    from lakery_cloud.cli.main import main

    sys.argv[0] = "lakery-cloud"
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    print("\\n" + "\\n".join(sys.modules))
"""
SDKS = {"adlfs", "aioboto3", "aiobotocore", "aiohttp", "azure", "boto3", "botocore", "gcsfs", "google"}
NEVER = {
    *SDKS,
    *("anyio", "moto", "pydantic", "pytest"),
    *(
        "lakery_cloud.config.configuration",
        "lakery_cloud.emulators",
        "lakery_cloud.maintenance",
        "lakery_cloud.testing",
    ),
    *(f"lakery_cloud.providers.{name}" for name in ("azure", "gcs", "s3")),
}
"""Modules that neither help nor work on a folder needs."""
DISPLAYS = {"rich.console", "rich.progress", "rich.text"}
"""Modules that work on a folder does not need if standard error is no terminal."""


def loaded(*arguments: str) -> set[str]:
    """The modules that a command has loaded in a process of its own."""
    return {*run_python(COMMAND, *arguments).rpartition("\n\n")[2].split()}


def below(modules: set[str], roots: set[str]) -> set[str]:
    return {name for name in modules if any(f"{name}.".startswith(f"{root}.") for root in roots)}


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_loads_no_command(argument):
    modules = loaded(argument)
    assert "cyclopts" in modules
    assert below(modules, {*NEVER, "asyncio", "uvloop", "lakery_cloud.engine", "lakery_cloud.registry"}) == set()


@pytest.mark.parametrize(
    "arguments", [("put", "file.txt"), ("ls", "--quiet"), ("get", hash_of("content"), "-o", "copy")], ids=" ".join
)
def test_work_on_a_folder_loads_no_sdk_and_no_configuration(arguments, desk: Desk, monkeypatch):
    monkeypatch.setenv("LAKERY_CLOUD_CACHE", str(desk.folder / "cache"))
    monkeypatch.setenv("LAKERY_CLOUD_STATE", str(desk.folder / "state"))
    desk.run("put", *desk.files(file="content"))
    modules = loaded(*arguments)
    assert "lakery_cloud.providers.file" in modules
    assert below(modules, NEVER | DISPLAYS) == set()


def test_a_configuration_is_read_where_there_is_one(desk: Desk, monkeypatch):
    """What the test above must not make faster: a file, and variables, count as before."""
    monkeypatch.delenv("LAKERY_CLOUD_STORAGE")
    (desk.folder / "lakery-cloud.toml").write_text(f'[storages.a]\nurl = "{(desk.folder / "a").as_uri()}"\n')
    names = desk.files(hello="hello\n")
    assert desk.run("put", *names).code == 0
    assert hash_of("hello\n") in desk.stored("a")
    monkeypatch.setenv("LAKERY_CLOUD_STORAGES__A__URL", (desk.folder / "b").as_uri())
    assert desk.run("put", *names).code == 0
    assert hash_of("hello\n") in desk.stored("b")
    (desk.folder / "lakery-cloud.toml").write_text("no = configuration")
    assert desk.run("put", *names, "--storage", desk.objects.as_uri()).code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_summary_of_a_command_is_the_beginning_of_its_help(name, desk: Desk):
    command = app[name].default_command
    (summary, *_) = (command.__doc__ if command else app[name].help).split("\n\n")
    assert COMMANDS[name][1] == " ".join(summary.split())
    text = " ".join(" ".join(desk.run(name, "--help").out).split())
    assert summary.split()[:5] == text[text.index(summary.split()[0]) :].split()[:5]
    assert command is None or f"Example: lakery-cloud {name}" in text
