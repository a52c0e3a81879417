"""The simulated bucket, the measurements of jobs on it, and the page of their figures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.earlier import BEFORE_WHOLE_BUCKETS, extract
from benchmarks.null_server import REPOSITORY, Running
from benchmarks.null_server.listings import page_of
from benchmarks.null_server.simulated import PREFIX, SimulatedObjects, key_of, live_keys, objects_of
from benchmarks.peers.base import Unavailable
from benchmarks.scale import report
from benchmarks.scale.runs import make_public_bucket
from lakery_cloud import S3Storage
from lakery_cloud.maintenance.shards import EVERYTHING, listed, plan


@pytest.mark.parametrize("number", [1, 2, 15, 16, 1000, 2345])
def test_keys_are_hashes_in_order_and_found_again(number: int):
    objects, keys = SimulatedObjects(number), [key_of(position, number) for position in range(number)]
    assert keys == sorted({*keys})
    assert {len(key) for key in keys} == {64}
    assert list(objects.keys_after("", "")) == keys
    for position in (0, number // 3, number - 1):
        key = keys[position]
        assert list(objects.keys_after("", key)) == keys[position + 1 :]
        assert list(objects.keys_after(key, "")) == [key]
    for prefix in "0123456789abcdef":
        assert list(objects.keys_after(prefix, "")) == [key for key in keys if key.startswith(prefix)]
    assert list(objects.keys_after(".trash/", "")) == []
    assert list(live_keys(number, every=2)) == keys[::2]


def test_pages_are_those_of_objects_that_are_there():
    objects = objects_of(f"{PREFIX}3000")
    stored: Any = {key: objects[key] for key in objects.keys_after("", "")}  # type: ignore[attr-defined]
    for options in ({}, {"prefix": "a"}, {"after": key_of(500, 3000)}, {"limit": "7", "delimiter": "/"}):
        assert page_of(objects, **options) == page_of(stored, **options)
    assert objects_of("bucket") == {}


async def test_a_storage_lists_and_plans_the_simulated_bucket(null_s3: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testtest")
    for number, shards in ((2500, 256), (10**7, 256)):
        bucket = f"{PREFIX}{number}"
        make_public_bucket(null_s3.url, bucket)
        async with S3Storage(bucket, endpoint_url=null_s3.url, region="us-east-1") as storage:
            assert len(await plan(storage, max_objects=10**6)) == shards
            if number == 2500:
                found = [content_hash async for content_hash, _ in listed(storage, EVERYTHING)]
                assert found == [key_of(position, number) for position in range(number)]


def rows_printed(*arguments: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("  ") for line in done.stdout.splitlines()]


def test_the_command_measures_and_prints_its_figures():
    rows = rows_printed("--only", "simulated", "--keys", "3000")
    assert [row[0] for row in rows] == ["plan", "list", "gc, dry run: half of the objects are garbage"]
    assert {row[2] for row in rows} == {"3,000"}


def test_two_processes_do_the_work_of_one_on_the_null_server():
    rows = rows_printed("--only", "null", "--blobs", "200")
    assert [row[0] for row in rows] == ["verify"] * 2 + ["verify, 20 ms before each response"] * 2
    assert [row[1] for row in rows] == ["lakery-cloud, 1 process", "lakery-cloud, 2 processes"] * 2
    assert {row[2] for row in rows} == {"200"}


def test_earlier_code_does_the_same_work(tmp_path: Path):
    try:
        extract(BEFORE_WHOLE_BUCKETS, tmp_path)
    except Unavailable as error:
        pytest.skip(str(error))
    rows = rows_printed("--only", "before", "--blobs", "20")
    assert [row[0] for row in rows] == [
        *["verify, SeaweedFS"] * 4,
        *["copy, SeaweedFS"] * 2,
        *["verify, null server"] * 4,
    ]
    assert {row[2] for row in rows} == {"20"}


def test_the_page_has_the_figures_of_the_results_and_no_others():
    page = report.PAGE.read_text("utf-8")
    assert report.with_figures(page) == page


def test_figures_come_from_the_results(tmp_path: Any):
    results = tmp_path / "scale.json"
    assert report.figures(results) == "Not measured yet."
    machine = {"processor": "CPU", "cores": 2, "system": "Linux", "python": "3.11"}
    figures = {"part": "real", "what": "verify", "who": "us", "of": 1000, "objects": 1000, "seconds": 2.0, "peak": 5e6}
    figures |= {"ratios": [2.5, 4.0, 3.0], "date": "2026-02-03"}
    figures |= {"client cpu": 0.5, "server cpu": 1.25}
    results.write_text(json.dumps({"machine": machine, "results": [figures]}))
    page = report.with_figures(f"a {report.BEGIN} old {report.END} b", results)
    assert "| verify | us | 1,000 | 2.0 | 500 | 0.50 | 1.25 | 5 |" in page
    assert "objects of 1 KiB (measured on 2026-02-03):" in page
    assert "- verify, us: 3.0 times the rate of before (2.5 to 4.0 in single turns)." in page
