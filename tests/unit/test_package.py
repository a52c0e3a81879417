"""What the package says of itself: bounds, links, and how it is started."""

import re
import tomllib
from pathlib import Path

import pytest

import lakery_cloud
from lakery_cloud.versions import OLDEST
from tests.helpers import run_python
from tests.matrix import EXTRAS, RESOLUTIONS, lowest, requirements

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
BLOB = "https://github.com/lakery-cloud/lakery-cloud/blob/main/"
CLOUDS = ("s3", "gcs", "azure")
MOST_LINES = 500
RAW = "https://raw.githubusercontent.com/lakery-cloud/lakery-cloud/main/"


@pytest.mark.parametrize("extra", ["s3", "aiobotocore", "gcs", "azure"])
def test_sdk_is_refused_below_the_bound_of_its_extra(extra: str) -> None:
    bounds = lowest(requirements([extra]))
    assert {name: bounds[name] for name in OLDEST if name in bounds}.items() <= OLDEST.items()
    assert "aiohttp" in bounds


def test_bounds_that_are_known_to_be_needed() -> None:
    bounds = lowest(requirements(["s3"]))
    assert (bounds["cyclopts"], bounds["aiohttp"], bounds["botocore"]) == ("4.10", "3.12", "1.40.61")
    assert {*lowest(requirements(["all"]))} > {"aioboto3", "gcsfs", "adlfs", "pathspec"}


@pytest.mark.parametrize(
    ("module", "version", "storage", "words"),
    [
        (
            "botocore",
            "1.40.60",
            "S3Storage",
            'S3Storage needs botocore 1.40.61 or newer, not 1.40.60: pip install --upgrade "',
        ),
        ("botocore", "1.9", "S3Storage", "needs botocore 1.40.61 or newer, not 1.9: "),
        ("aiohttp", "3.11.18", "GCSStorage", "GCSStorage needs aiohttp 3.12 or newer, not 3.11.18: "),
        ("gcsfs", "2024.12.0", "GCSStorage", "needs gcsfs 2025.3 or newer"),
        ("adlfs", "2023.10.0", "AzureBlobStorage", "needs adlfs 2024.7 or newer"),
        ("aiohttp", "3.10.0", "AzureBlobStorage", "needs aiohttp 3.12 or newer"),
    ],
)
def test_sdk_that_is_too_old_is_named_at_import(module: str, version: str, storage: str, words: str) -> None:
    script = f"""
import {module}
{module}.__version__ = "{version}"
try:
    from lakery_cloud import {storage}
except ImportError as error:
    print(type(error).__name__, error)
"""
    assert f"MissingDependency {storage}" in (said := run_python(script))
    assert words in said


@pytest.mark.parametrize("version", ["1.40.61", "1.41.0", "2.0.0rc1", "unknown", "1.40.61.post1"])
def test_sdk_that_is_new_enough_or_has_no_version_is_imported(version: str) -> None:
    script = (
        f"import botocore; botocore.__version__ = '{version}'; from lakery_cloud import S3Storage; print('imported')"
    )
    assert run_python(script) == "imported\n"


def test_links_and_pictures_of_the_readme_are_absolute_and_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert len(links) >= 30
    for link in links:
        assert link.startswith("https://"), link
        if link.startswith((BLOB, RAW)):
            path = link.removeprefix(BLOB).removeprefix(RAW).partition("#")[0]
            assert (ROOT / path).is_file(), link


def test_package_index_links_to_documentation_and_issues() -> None:
    assert {"Documentation", "Issues", "Changelog", "Source"} <= PROJECT["urls"].keys()


def test_module_is_the_command() -> None:
    script = "import runpy, sys; sys.argv[1:] = ['--version']; runpy.run_module('lakery_cloud', run_name='__main__')"
    assert run_python(script).strip() == lakery_cloud.__version__


def test_installation_without_an_extra_can_do_all_work_on_folders() -> None:
    """Each package that only extras bring counts as missing."""
    plain = {*lowest(requirements([]))}
    missing = {name for extra in PROJECT["optional-dependencies"] for name in lowest(requirements([extra]))} - plain
    script = f"""
import importlib, sys
for name in {sorted(missing)}:
    sys.modules[name.replace("-", "_").partition("[")[0]] = None
for name in ("maintenance", "sync", "config.building", "providers.file", "registry"):
    importlib.import_module(f"lakery_cloud.{{name}}")
from lakery_cloud.cli.main import app
app.resolved_commands()
print("imported")
"""
    assert run_python(script) == "imported\n"


def test_blocking_calls_are_an_attribute() -> None:
    said = run_python("import lakery_cloud; print(lakery_cloud.sync.open.__name__, 'sync' in dir(lakery_cloud))")
    assert said == "open True\n"


def test_workflow_tries_each_extra_with_the_lowest_and_the_newest_dependencies() -> None:
    text = (ROOT / ".github" / "workflows" / "matrix.yml").read_text("utf-8")
    assert all(f"{extra}-$R" in text for extra in EXTRAS)
    assert all(f"resolution: {resolution}" in text or f"[{resolution}]" in text for resolution in RESOLUTIONS)


def test_providers_have_the_same_files_and_no_file_is_long() -> None:
    package = Path(lakery_cloud.__file__).parent
    s3, gcs, azure = ({path.name for path in (package / "providers" / name).glob("*.py")} for name in CLOUDS)
    assert s3 == azure - {"metadata.py"} == gcs - {"uploads.py"}
    lines = {path.name: path.read_text("utf-8").count("\n") for path in package.rglob("*.py")}
    assert max(lines.values()) <= MOST_LINES, max(lines, key=lines.__getitem__)
