"""`lakery://` as fsspec, pandas and pyarrow see it."""

import errno
import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.dataset
import pytest

from lakery_cloud import ConfigError, ContentRecord, FileStorage, InvalidRecord, sync
from lakery_cloud.filesystem import LakeryFileSystem
from lakery_cloud.testing import content, digest_of

pd = pytest.importorskip("pandas", reason="as in an environment of the matrix")

FRAME = pd.DataFrame({"number": range(10), "name": [f"row {number}" for number in range(10)]})


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "lakery-cloud.toml").write_text(
        f'default = "hot"\n\n[storages.hot]\nurl = "{(tmp_path / "blobs").as_uri()}"\n'
    )
    monkeypatch.chdir(tmp_path)
    LakeryFileSystem.clear_instance_cache()
    yield tmp_path
    LakeryFileSystem.clear_instance_cache()


def save(folder: Path, data: bytes) -> ContentRecord:
    with sync.open(FileStorage(folder / "blobs")) as storage:
        digest = digest_of(data)
        return ContentRecord.of(storage.wrapped, digest, storage.write_data(data, digest, {}))


@pytest.fixture(params=["hot", "url", "url with a query"])
def place(request: pytest.FixtureRequest, configuration: Path) -> tuple[str, str]:
    """What stands before and after a hash."""
    url = (configuration / "blobs").as_uri()
    return {"hot": ("lakery://hot/", ""), "url": (f"lakery://{url}/", "")}.get(
        request.param, (f"lakery://{url}/", "?range_size=1000000")
    )


def test_pandas_reads_parquet_by_a_url(configuration: Path, place: tuple[str, str]) -> None:
    file = io.BytesIO()
    FRAME.to_parquet(file)
    url = save(configuration, file.getvalue()).content_hash.join(place)
    assert pd.read_parquet(url).equals(FRAME)
    assert pd.read_parquet(url, columns=["name"]).equals(FRAME[["name"]])


def test_pandas_reads_compressed_csv_by_a_url(configuration: Path) -> None:
    file = io.BytesIO()
    FRAME.to_csv(file, index=False, compression="gzip")
    record = save(configuration, file.getvalue())
    assert pd.read_csv(f"lakery://hot/{record.content_hash}", compression="gzip").equals(FRAME)


def test_arrow_reads_a_dataset_of_many_files(configuration: Path) -> None:
    paths = []
    for start in range(3):
        file = io.BytesIO()
        FRAME.iloc[start::3].to_parquet(file, index=False)
        paths.append(f"hot/{save(configuration, file.getvalue()).content_hash}")
    dataset = pyarrow.dataset.dataset(paths, filesystem=LakeryFileSystem(), format="parquet")
    assert sorted(dataset.to_table().to_pandas()["number"]) == list(range(10))


def test_files_are_described_listed_and_read_in_part(configuration: Path, place: tuple[str, str]) -> None:
    data = content(3_000_000)
    record, other = save(configuration, data), save(configuration, b"other")
    files, path = fsspec.url_to_fs(record.content_hash.join(place))
    info = files.info(path)
    assert info == {
        "name": path,
        "size": len(data),
        "type": "file",
        "content_type": record.content_type,
        "content_encoding": record.content_encoding,
        "content_hash": f"sha256:{record.content_hash}",
    }
    folder = "".join(place).removeprefix("lakery://").replace("/?", "?").rstrip("/")
    assert files.isdir(folder)
    assert {found["name"]: found["size"] for found in files.ls(folder)} == {
        path: len(data),
        path.replace(record.content_hash, other.content_hash): 5,
    }
    assert files.ls(path, detail=False) == [path]
    assert files.exists(path)
    assert not files.exists(path.replace(record.content_hash, "0" * 64))
    assert files.cat_file(path, 10, -10) == data[10:-10]
    assert files.cat_file(path, 20, 10) == b""
    if "?" not in path:  # of several paths, fsspec takes it for a pattern
        assert files.cat([path, path.replace(record.content_hash, other.content_hash)])[path] == data
    assert files.modified(path).tzinfo is not None
    with files.open(path) as file:
        assert file.read() == data
        assert file.is_verified
    with fsspec.open(f"lakery://{path}", "rt", encoding="latin-1", newline="") as text:
        assert text.read(10) == data[:10].decode("latin-1")


def test_file_system_travels_to_other_processes(configuration: Path) -> None:
    record = save(configuration, b"data")
    files = pickle.loads(pickle.dumps(LakeryFileSystem(config=str(configuration / "lakery-cloud.toml"))))
    assert files.cat(f"hot/{record.content_hash}") == b"data"


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "xb"])
def test_nothing_is_written(configuration: Path, mode: str) -> None:
    with pytest.raises(OSError, match="read-only") as raised, fsspec.open(f"lakery://hot/{'0' * 64}", mode):
        pass
    assert raised.value.errno == errno.EROFS
    assert not (configuration / "blobs").exists()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (f"lakery://hot/{'0' * 64}", FileNotFoundError),
        (f"lakery://cold/{'0' * 64}", ConfigError),
        (f"lakery://ftp://host/{'0' * 64}", ConfigError),
        ("lakery://hot/not-a-hash", InvalidRecord),
    ],
)
def test_what_is_not_there_is_named(configuration: Path, path: str, error: type[Exception]) -> None:
    save(configuration, b"data")
    with pytest.raises(error):
        fsspec.open(path).open()
