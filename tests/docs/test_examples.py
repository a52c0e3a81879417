"""Every fenced code block of the documentation runs, parses, or has a reason not to.

The blocks of one page run in their order, each in a process of its own, in one new folder and against moto's server. Those of
Python run in forks of a process that has imported the package.

- `python` and `sh` blocks run. One with a `title` is written to a file of that name for the blocks after it instead.
- A `text` block with the title `Output` is what the block before it printed, to the letter.
- `json`, `toml` and `yaml` blocks parse. Other `text` is free. Any other language, or none, is an error.
- A block after the line `<!-- not run: reason -->` is not run; it stands in `NOT_RUN` as well.
- A `python` block after the line `<!-- needs: package -->` runs by itself, where this package is installed.

The README's blocks run as a new user has it: in an environment with nothing but what its `pip install` has brought.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config
from pytest_examples import find_examples

from lakery_cloud.cli import emulators
from lakery_cloud.emulators import MotoServer
from lakery_cloud.emulators.install import cache_folder
from tests.commands import forks
from tests.helpers import PATIENCE

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
README = "README.md"
PAGES = [
    README,
    "CONTRIBUTING.md",
    "SECURITY.md",
    "localstack/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]

# Page and first line of each block that is not run, so that a new one is noticed.
NOT_RUN = {
    ("README.md", "make demo   # save real input to files and to a local S3, read it back verified"),
    ("CONTRIBUTING.md", "make help"),
    ("CONTRIBUTING.md", 'make test ARGS="tests/unit -x"'),
    ("localstack/README.md", "# without Docker, in the foreground; Ctrl-C stops it"),
    (
        "localstack/README.md",
        "export AWS_ENDPOINT_URL_S3=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testtest AWS_REGION=us-east-1",
    ),
    ("localstack/README.md", "export LAKERY_CLOUD_LOCALSTACK_URL=http://127.0.0.1:4566"),
    ("docs/testing.md", "make test"),
    ("docs/testing.md", "export LAKERY_CLOUD_LOCALSTACK_URL=http://127.0.0.1:4566"),
    (
        "docs/permissions.md",
        "aws iam put-role-policy --role-name reports --policy-name lakery-cloud --policy-document file://s3-writer.json",
    ),
    ("docs/permissions.md", "gcloud iam roles create lakeryCloudWriter --project my-project --file gcs-writer.yaml"),
    ("docs/permissions.md", "az role definition create --role-definition azure-writer.json"),
    (
        "docs/emulators.md",
        "git clone https://github.com/googleapis/storage-testbench.git && cd storage-testbench",
    ),
    ("docs/emulators.md", "export LAKERY_CLOUD_GCS_TESTBENCH=http://127.0.0.1:9000"),
    ("docs/security.md", "make attack MINUTES=20"),
    (
        "docs/testing.md",
        "export LAKERY_CLOUD_LIVE=1 LAKERY_CLOUD_LIVE_S3_BUCKET=my-bucket AWS_PROFILE=tests AWS_REGION=eu-central-1",
    ),
}
PARSERS: dict[str, Callable[[str], object]] = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
SHELLS = {"sh", "bash", "console"}
LANGUAGES = {"python", "text", *SHELLS, *PARSERS}

ENDPOINT = "https://s3.example.com"
"""The S3-compatible store of the documentation; here it is moto's server."""
BUCKETS = ("my-bucket", "my-archive")

_OPEN = re.compile(r"(?P<fence> *(?:`{3,}|~{3,}))(?P<language>[^\s`]*)(?P<options>[^`]*)")
_TITLE = re.compile(r'title="(?P<title>[^"]*)"')
_MARKER = re.compile(r"<!-- not run: (?P<reason>\S.*) -->")
_NEEDS = re.compile(r"<!-- needs: (?P<package>\w+) -->")


@dataclass(frozen=True)
class Block:
    """One fenced code block."""

    page: str
    line: int
    language: str
    title: str
    source: str
    reason: str
    """The reason of the marker before it not to run it; empty without a marker."""
    package: str = ""
    """The package that it needs and that tests do without; empty without a marker."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first_line(self) -> str:
        return self.source.partition("\n")[0]

    @property
    def is_run(self) -> bool:
        is_code = self.language in {"python", *SHELLS} and not self.title and not self.package
        return is_code and (self.page, self.first_line) not in NOT_RUN


def blocks_of(page: str, root: Path = ROOT) -> list[Block]:
    lines = (root / page).read_text("utf-8").splitlines()
    blocks: list[Block] = []
    number = 0
    while number < len(lines):
        opening = _OPEN.fullmatch(lines[number])
        if opening is None:
            number += 1
            continue
        start = number
        fence = opening["fence"].strip()
        while (number := number + 1) < len(lines) and lines[number].strip() != fence:
            pass
        assert number < len(lines), f"{page}:{start + 1}: the block is not closed"
        title = _TITLE.search(opening["options"])
        marker = _MARKER.fullmatch(lines[start - 1]) if start else None
        needs = _NEEDS.fullmatch(lines[start - 1]) if start else None
        source = dedent("\n".join([*lines[start + 1 : number], ""]))
        blocks.append(
            Block(
                page,
                start + 1,
                opening["language"],
                title["title"] if title else "",
                source,
                marker["reason"] if marker else "",
                needs["package"] if needs else "",
            )
        )
        number += 1
    return blocks


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An environment that points to moto's server, with the buckets that the documentation names, and to no user's files."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LAKERY_CLOUD_STATE", str(home / "state"))
    monkeypatch.setenv("LAKERY_CLOUD_CACHE", str(cache_folder()))
    with MotoServer() as server:
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            aws_access_key_id=server.access_key_id,
            aws_secret_access_key=server.secret_access_key,
            region_name=server.region,
            config=Config(s3={"addressing_style": "path"}),
        )
        for bucket in BUCKETS:
            client.create_bucket(Bucket=bucket)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST_"))}
        yield inherited | {
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_ACCESS_KEY_ID": server.access_key_id,
            "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
            "AWS_DEFAULT_REGION": server.region,
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            # A heartbeat of a worker fails, and says so, if the cluster closes at that moment.
            "DASK_LOGGING__DISTRIBUTED": "critical",
            "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
        }
        emulators.down(quiet=True)  # servers of a block in the background, if a later block failed
        # moto keeps its state as long as another test's server runs.
        for bucket in BUCKETS:
            for entry in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
                client.delete_object(Bucket=bucket, Key=entry["Key"])
            client.delete_bucket(Bucket=bucket)
        client.close()


@pytest.fixture
def new_environment(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same with an empty environment of Python before all others."""
    folder = tmp_path_factory.mktemp("new")
    venv.create(folder, with_pip=True, symlinks=True)
    return environment | {
        "PATH": os.pathsep.join([str(folder / "bin"), environment["PATH"]]),
        "PIP_CONSTRAINT": str(ROOT / "constraints" / "dev.txt"),
        "PIP_NO_COMPILE": "1",  # compiling all of moto takes longer than all else; Python compiles what it imports
        "HOME": os.environ["HOME"],  # pip may be configured there
    }


LONGEST_INSTALLATION = 1200
"""Seconds after which `pip install` hangs."""


def run(block: Block, environment: dict[str, str], folder: Path) -> str:
    """Run a block, and return its output. It must succeed."""
    source = block.source.replace(ENDPOINT, environment["AWS_ENDPOINT_URL_S3"])
    installs = source.startswith("pip install")
    if block.language == "python" and block.page != README:
        forked = forks().run([], script=source, folder=str(folder), environment=environment)
        output, errors, code = forked.stdout.decode(), forked.stderr.decode(), forked.returncode
        assert (code, errors) == (0, ""), f"{block} ended with exit code {code}\n{output}{errors}"
        return output
    command = ["python", "-c", source] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", source]
    done = subprocess.run(
        command,
        cwd=ROOT if installs else folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_INSTALLATION if installs else PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{block} ended with exit code {done.returncode}\n{done.stdout}{done.stderr}"
    if block.language == "python":
        assert not done.stderr, f"{block} wrote to standard error\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(1800)  # a page has dozens of commands
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != README and any(block.is_run for block in blocks_of(page))]
)
def test_blocks_run_and_print_what_the_page_says(page: str, environment: dict[str, str], tmp_path: Path) -> None:
    run_all(page, environment, tmp_path)


@pytest.mark.timeout(1800)  # packages are installed
def test_a_new_user_needs_the_readme_alone(new_environment: dict[str, str], tmp_path: Path) -> None:
    run_all(README, new_environment, tmp_path)


def is_output(block: Block) -> bool:
    return block.language == "text" and block.title == "Output"


def run_all(page: str, environment: dict[str, str], folder: Path) -> None:
    """Run the blocks of a page, and compare their output with the page."""
    before: Block | None = None
    printed = ""
    for block in blocks_of(page):
        if is_output(block):
            assert before, f"{block} is titled Output, but no block that runs stands before it"
            assert before.package or printed == block.source, f"{block} is not what {before} printed"
        elif block.title:
            (folder / block.title).write_text(block.source, "utf-8")
        printed = run(block, environment, folder) if block.is_run else ""
        before = block if block.is_run or block.package else None


NEEDY = [(block, after) for page in PAGES for block, after in pairwise(blocks_of(page)) if block.package]


@pytest.mark.parametrize(("block", "output"), NEEDY, ids=[str(block) for block, _ in NEEDY])
def test_block_that_needs_another_package_prints_what_the_page_says(
    block: Block, output: Block, tmp_path: Path
) -> None:
    pytest.importorskip(block.package)
    assert is_output(output)
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    command = [sys.executable, "-c", block.source]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, output.source, "")


@pytest.mark.parametrize("page", PAGES)
def test_blocks_have_a_language_and_parse(page: str) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, (
            f"{block} has the language {block.language!r}; known are {sorted(LANGUAGES)}"
        )
        assert not block.title or re.fullmatch(r"Output|[\w.-]+\.\w+", block.title), (
            f"{block} has the title {block.title!r}"
        )
        if block.language == "python":
            compile(block.source, str(block), "exec")
        elif block.language in SHELLS:
            subprocess.run(["bash", "-n"], input=block.source, text=True, check=True)
        elif block.language in PARSERS:
            PARSERS[block.language](block.source)


@pytest.mark.parametrize("page", PAGES)
def test_programs_that_are_written_to_a_file_are_run_by_a_block_after_it(page: str) -> None:
    blocks = blocks_of(page)
    for number, block in enumerate(blocks):
        if block.title and block.language in {"python", *SHELLS}:
            assert any(after.is_run and block.title in after.source for after in blocks[number:]), (
                f"{block} is never run"
            )


def test_blocks_that_are_not_run_are_marked_and_listed() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    marked = {(block.page, block.first_line) for block in blocks if block.reason}
    assert marked == NOT_RUN
    for page, first_line in NOT_RUN:
        alike = [block for block in blocks if (block.page, block.first_line) == (page, first_line)]
        assert len(alike) == 1, f"{page} has {len(alike)} blocks that begin with {first_line!r}"
        assert alike[0].language in SHELLS, f"{alike[0]}: only commands may be left out"


@pytest.mark.parametrize("page", PAGES)
def test_no_python_block_is_overlooked(page: str) -> None:
    ours = [(block.line, block.source) for block in blocks_of(page) if block.language == "python"]
    examples: list[Any] = list(find_examples(ROOT / page))
    assert ours == [(example.start_line, example.source) for example in examples]


def test_every_page_of_markdown_is_checked() -> None:
    tracked = {
        str(path.relative_to(ROOT))
        for folder in (ROOT, ROOT / "docs", ROOT / "localstack")
        for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
    }
    assert tracked - set(PAGES) == {"CHANGELOG.md"}
    assert "```" not in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_make_targets_and_extras_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)) <= targets, page
        assert set(re.findall(r'pip install "lakery[\w.-]*\[(\w+)\]"', text)) <= extras, page
