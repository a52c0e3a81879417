"""The manifests of S3 Inventory.

Sources: Amazon S3 User Guide, "Cataloging and analyzing your data with S3 Inventory", "Locating your inventory list" and
"Amazon S3 Inventory list".
"""

import re
from collections.abc import Mapping
from typing import Any

from lakery_cloud.errors import ConfigError, brief
from lakery_cloud.maintenance.inventories.report import Columns, CSVForm, DataFile, FileFormat, Report, required

KIND = "S3 Inventory"
COLUMNS = Columns(
    key="key",
    size="size",
    modified="lastmodifieddate",
    version="etag",
    bucket="bucket",
    storage_class="storageclass",
    noncurrent={"islatest": frozenset({"false"}), "isdeletemarker": frozenset({"true"})},
)
FORMATS: Mapping[str, FileFormat] = {"CSV": "csv", "Parquet": "parquet", "ORC": "orc"}

_MD5 = re.compile(r"[0-9a-fA-F]{32}")


def is_manifest(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is such a manifest."""
    return "fileSchema" in document


def read_manifest(document: Mapping[str, Any], *, where: str) -> Report:
    """Read a manifest.

    Raises:
        ConfigError: It is malformed, or of an unknown format.
    """
    file_format = required(document, "fileFormat", str, where=where)
    if file_format not in FORMATS:
        raise ConfigError(f"{where} is of the format {brief(file_format)}; known are {', '.join(FORMATS)}")
    schema = required(document, "fileSchema", str, where=where)
    return Report(
        kind=KIND,
        files=tuple(_file(each, where=where) for each in required(document, "files", list, where=where)),
        file_format=FORMATS[file_format],
        columns=COLUMNS,
        bucket=required(document, "sourceBucket", str, where=where),
        # Keys of CSV files are URL-encoded, and a space is a plus sign (cloud-custodian, issue 1997).
        csv=CSVForm(columns=[column.strip() for column in schema.split(",")], is_key_encoded=True),
        checksum_ending=".checksum",
    )


def _file(entry: Any, *, where: str) -> DataFile:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"a file of {where} must be an object, not {brief(entry)}")
    md5 = required(entry, "MD5checksum", str, where=where)
    if not _MD5.fullmatch(md5):
        raise ConfigError(f"the field 'MD5checksum' of {where} must be an MD5 in hexadecimal, not {brief(md5)}")
    return DataFile(required(entry, "key", str, where=where), required(entry, "size", int, where=where), md5.lower())
