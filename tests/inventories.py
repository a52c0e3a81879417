"""Writes inventories as the providers document them: S3 Inventory, Storage Insights of Cloud Storage, Azure Blob inventory.

Sources: Amazon S3 User Guide, "Locating your inventory list" and "Amazon S3 Inventory list"; Google Cloud, "Inventory
reports"; Microsoft, "Azure Storage blob inventory".
"""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

FORMS = (
    "s3-csv",
    "s3-parquet",
    "s3-orc",
    "gcs-csv",
    "gcs-csv-without-header",
    "gcs-parquet",
    "azure-csv",
    "azure-parquet",
)


@dataclass(frozen=True)
class Entry:
    """A row. `state` is what makes it no current object: a version, a delete marker, a snapshot or a deleted blob.

    Checksums are in base64.
    """

    key: str
    size: int = 1
    modified: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    etag: str = "abc"
    state: str = "current"
    bucket: str | None = None
    md5: str = "1B2M2Y8AsgTpgAmY7PhCfg=="
    crc32c: str = "yZRlqg=="
    crc64: str = "AAAAAAAAAAA="


def write_inventory(folder: Path, form: str, bucket: str, files: Sequence[Sequence[Entry]], **changes: Any) -> Path:
    """Write an inventory with a data file for each sequence of rows; return its manifest.

    `without` drops a column, by its documented name.
    """
    provider, _, file_format = form.partition("-")
    return {"s3": _s3, "gcs": _gcs, "azure": _azure}[provider](folder, file_format, bucket, files, **changes)


# S3 Inventory.

S3_COLUMNS = {
    "Bucket": ("bucket", lambda each, bucket: each.bucket or bucket),
    "Key": ("key", lambda each, _: each.key),
    "VersionId": ("version_id", lambda each, _: "v1"),
    "IsLatest": ("is_latest", lambda each, _: each.state != "version"),
    "IsDeleteMarker": ("is_delete_marker", lambda each, _: each.state == "deleted"),
    "Size": ("size", lambda each, _: each.size),
    "LastModifiedDate": ("last_modified_date", lambda each, _: each.modified),
    "ETag": ("e_tag", lambda each, _: each.etag),
    "StorageClass": ("storage_class", lambda each, _: "STANDARD"),
}


def _s3(folder: Path, file_format: str, bucket: str, files: Any, *, without: str = "") -> Path:
    columns = {name: column for name, column in S3_COLUMNS.items() if name != without}
    data, entries = folder / "data", []
    data.mkdir(parents=True)
    for number, rows in enumerate(files):
        name = f"part-{number}.{'csv.gz' if file_format == 'csv' else file_format}"
        if file_format == "csv":
            values = [[_s3_text(column, value(row, bucket)) for column, (_, value) in columns.items()] for row in rows]
            content = gzip.compress(_csv(values, quoting=csv.QUOTE_ALL))
        else:
            content = _table(
                {plain: [value(row, bucket) for row in rows] for plain, value in columns.values()}, file_format
            )
        (data / name).write_bytes(content)
        entries.append(
            {"key": f"inventories/{bucket}/daily/data/{name}", "size": len(content), "MD5checksum": md5(content)}
        )
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": "arn:aws:s3:::inventories",
        "version": "2016-11-30",
        "creationTimestamp": "1767322800000",
        "fileFormat": {"csv": "CSV", "parquet": "Parquet", "orc": "ORC"}[file_format],
        "fileSchema": ", ".join(columns) if file_format == "csv" else "message s3.inventory { ... }",
        "files": entries,
    }
    return _manifest(folder / "2026-01-02T03-00Z" / "manifest.json", manifest, checksum="manifest.checksum")


def _s3_text(column: str, value: Any) -> str:
    if column == "Key":
        return quote_plus(value, safe="/")
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:%Y-%m-%dT%H:%M:%S.000Z}" if isinstance(value, datetime) else str(value)


# Storage Insights.

GCS_COLUMNS = {
    "project": lambda each, _: "projects/1",
    "bucket": lambda each, bucket: each.bucket or bucket,
    "name": lambda each, _: each.key,
    "size": lambda each, _: each.size,
    "timeCreated": lambda each, _: each.modified,
    "timeDeleted": lambda each, _: None if each.state == "current" else each.modified,
    "updated": lambda each, _: each.modified,
    "crc32c": lambda each, _: each.crc32c,
    "md5Hash": lambda each, _: each.md5,
    "storageClass": lambda each, _: "STANDARD",
    "contentType": lambda each, _: "text/plain",
    "generation": lambda each, _: int(each.etag.encode().hex(), 16),
}


def _gcs(folder: Path, form: str, bucket: str, files: Any, *, without: str = "") -> Path:
    columns = {name: value for name, value in GCS_COLUMNS.items() if name != without}
    file_format, _, kind = form.partition("-")
    has_header = file_format == "csv" and kind != "without-header"
    names = [f"a1b2_2026-01-02T03:00_{number}.{file_format}" for number in range(len(files))]
    folder.mkdir(parents=True)
    for name, rows in zip(names, files, strict=True):
        if file_format == "csv":
            texts = [[_gcs_text(value(row, bucket)) for value in columns.values()] for row in rows]
            (folder / name).write_bytes(_csv([list(columns)] * has_header + texts, delimiter=";"))
        else:
            table = {name: [value(row, bucket) for row in rows] for name, value in columns.items()}
            (folder / name).write_bytes(_table(table, "parquet"))
    csv_options = {"record_separator": "\n", "delimiter": ";", **({"header_required": True} if has_header else {})}
    manifest = {
        "report_config": {
            "name": "projects/1/locations/eu/reportConfigs/a1b2",
            **({"csv_options": csv_options} if file_format == "csv" else {"parquet_options": {}}),
            "object_metadata_report_options": {
                "metadata_fields": list(columns),
                "storage_filters": {"bucket": bucket},
                "storage_destination_options": {"bucket": "inventories"},
            },
        },
        "records_processed": sum(map(len, files)),
        "snapshot_time": "2026-01-02T03:00:00Z",
        "shard_count": len(files),
        "report_shards_file_names": names,
    }
    return _manifest(folder / "a1b2_2026-01-02T03:00_manifest.json", manifest)


def _gcs_text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:%Y-%m-%dT%H:%M:%S.123456Z}" if isinstance(value, datetime) else str(value)


# Azure Blob inventory.

AZURE_COLUMNS = {
    "Name": lambda each, bucket: f"{each.bucket or bucket}/{each.key}",
    "Last-Modified": lambda each, _: each.modified,
    "Etag": lambda each, _: f"0x{each.etag}",
    "Content-Length": lambda each, _: each.size,
    "Content-Type": lambda each, _: "text/plain",
    "AccessTier": lambda each, _: "Hot",
    "Content-MD5": lambda each, _: each.md5,
    "ContentCRC64": lambda each, _: each.crc64,
    "Deleted": lambda each, _: each.state == "deleted" or None,
    "VersionId": lambda each, _: "2026-01-02T03:04:05.0000000Z",
    "IsCurrentVersion": lambda each, _: each.state != "version" or None if each.state != "version" else False,
    "Snapshot": lambda each, _: "2026-01-02T03:04:05.0000000Z" if each.state == "snapshot" else None,
}


def _azure(folder: Path, file_format: str, bucket: str, files: Any, *, without: str = "", **changes: Any) -> Path:
    columns = {name: value for name, value in AZURE_COLUMNS.items() if name != without}
    place, entries = folder / "2026/01/02/03-00-00/daily", []
    place.mkdir(parents=True)
    for number, rows in enumerate(files):
        if file_format == "csv":
            texts = [[_azure_text(value(row, bucket)) for value in columns.values()] for row in rows]
            content = _csv([list(columns), *texts])
        else:
            table = {name: [value(row, bucket) for row in rows] for name, value in columns.items()}
            content = _table(table, "parquet")
        (place / f"daily_{number}.{file_format}").write_bytes(content)
        entries.append({"blob": f"2026/01/02/03-00-00/daily/daily_{number}.{file_format}", "size": len(content)})
    manifest = {
        "destinationContainer": "inventories",
        "endpoint": "https://account.blob.core.windows.net",
        "files": entries,
        "inventoryCompletionTime": "2026-01-02T03:10:00Z",
        "inventoryStartTime": "2026-01-02T03:00:00Z",
        "ruleDefinition": {"format": file_format, "objectType": "blob", "schemaFields": list(columns)},
        "ruleName": "daily",
        "status": "Succeeded",
        "summary": {"objectCount": sum(map(len, files)), "totalObjectSize": 1},
        "version": "1.0",
    }
    return _manifest(place / "daily-manifest.json", manifest | changes, checksum="daily-manifest.checksum")


def _azure_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return ""
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else str(value)


# S3 Batch Operations.


def write_batch_report(folder: Path, bucket: str, checksums: dict[str, str | None], **result: str) -> Path:
    """Write the report of a job that computed checksums, with a failed task for each key without one."""
    done = {"checksumAlgorithm": "SHA256", "checksumType": "FULL_OBJECT", **result}
    succeeded, failed = [], b""
    for key, checksum in checksums.items():
        name = quote_plus(key, safe="/")
        if checksum is None:
            # Amazon's own example is no valid CSV.
            failed += f'{bucket},{name},,failed,200,PermanentFailure,"error: {{""failureMessage"":"no", ""code"": "404"}}"\n'.encode()
        else:
            message = json.dumps({"etag": "abc", **done, "checksum_hex": checksum.upper()})
            succeeded.append([bucket, name, "", "succeeded", "200", "", message])
    results = []
    for status, content in (("succeeded", _csv(succeeded)), ("failed", failed)):
        if content:
            path = folder / "results" / f"{status}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            key = f"reports/job-1/results/{path.name}"
            results.append(
                {"TaskExecutionStatus": status, "Bucket": "reports", "MD5Checksum": md5(content), "Key": key}
            )
    schema = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
    manifest = {"Format": "Report_CSV_20180820", "Results": results, "ReportSchema": schema}
    return _manifest(folder / "manifest.json", manifest, checksum="manifest.json.md5")


# All of them.


def rewrite_manifest(path: Path, **changes: Any) -> None:
    """Change fields of a manifest, and its checksum."""
    manifest = json.loads(path.read_text()) | changes
    checksum = path.with_suffix(".checksum")
    _manifest(path, manifest, checksum=checksum.name if checksum.exists() else None)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def _manifest(path: Path, manifest: Any, *, checksum: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest, indent=1))
    if checksum is not None:
        path.with_name(checksum).write_text(md5(path.read_bytes()))
    return path


def _csv(rows: Any, **options: Any) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n", **options).writerows(rows)
    return file.getvalue().encode()


def _table(columns: dict[str, list[Any]], file_format: str) -> bytes:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({name: _column(pa, values) for name, values in columns.items()})
    sink = io.BytesIO()
    if file_format == "parquet":
        from pyarrow import parquet

        parquet.write_table(table, sink)
    else:
        from pyarrow import orc

        orc.write_table(table, sink)
    return sink.getvalue()


def _column(pa: Any, values: list[Any]) -> Any:
    if any(isinstance(value, datetime) for value in values):
        return pa.array(values, pa.timestamp("ms", tz="UTC"))
    return pa.array(values, pa.string()) if all(value is None for value in values) else pa.array(values)
