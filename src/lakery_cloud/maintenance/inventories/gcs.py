"""The manifests of inventory reports of Cloud Storage (Storage Insights).

Source: Google Cloud, "Inventory reports" (overview, manifest file, metadata fields). Neither manifests nor files have
checksums; a manifest is written when all files are complete, and has the number of their rows.
"""

from collections.abc import Mapping
from typing import Any

from lakery_cloud.errors import ConfigError, IntegrityError, brief
from lakery_cloud.maintenance.inventories.report import ANY, Columns, CSVForm, DataFile, Report, in_base64, required

KIND = "inventory report of Cloud Storage"
COLUMNS = Columns(
    key="name",
    size="size",
    modified="updated",
    version="generation",
    bucket="bucket",
    content_type="contenttype",
    storage_class="storageclass",
    noncurrent={"timedeleted": ANY},
    checksums={"md5hash": in_base64("md5"), "crc32c": in_base64("crc32c")},
    is_version_quoted=False,
)


def is_manifest(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is such a manifest."""
    return "report_shards_file_names" in document


def read_manifest(document: Mapping[str, Any], *, where: str) -> Report:
    """Read a manifest.

    Raises:
        ConfigError: It is malformed.
        IntegrityError: It names fewer files than it counts.
    """
    names = required(document, "report_shards_file_names", list, where=where)
    for each in names:
        if not isinstance(each, str):
            raise ConfigError(f"the name of a file of {where} must be a string, not {brief(each)}")
    count = required(document, "shard_count", int, where=where)
    if count != len(names):
        raise IntegrityError(f"{where} names {len(names)} files and counts {count}; use another inventory")
    config = required(document, "report_config", dict, where=where)
    options = required(config, "object_metadata_report_options", dict, where=where)
    filters = options.get("storage_filters")
    bucket = filters.get("bucket") if isinstance(filters, Mapping) else None
    is_parquet = "parquet_options" in config or bool(names and all(each.endswith(".parquet") for each in names))
    return Report(
        kind=KIND,
        files=tuple(DataFile(each) for each in names),
        file_format="parquet" if is_parquet else "csv",
        columns=COLUMNS,
        bucket=bucket if isinstance(bucket, str) else None,
        csv=_csv_form(config.get("csv_options") or {}, options, where=where),
        rows=required(document, "records_processed", int, where=where),
    )


def _csv_form(csv_options: Mapping[str, Any], report_options: Mapping[str, Any], *, where: str) -> CSVForm:
    delimiter = csv_options.get("delimiter") or ","
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ConfigError(f"the delimiter of {where} must be one character, not {brief(delimiter)}")
    if csv_options.get("header_required"):
        return CSVForm(delimiter=delimiter)
    # Without a header, columns are in the order of the configuration.
    fields = report_options.get("metadata_fields")
    if not isinstance(fields, list) or not all(isinstance(each, str) for each in fields):
        raise ConfigError(f"the field 'metadata_fields' of {where} must be a list of names, not {brief(fields)}")
    return CSVForm(delimiter=delimiter, columns=fields)
