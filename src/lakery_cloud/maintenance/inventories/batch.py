"""The reports of S3 Batch Operations jobs that compute checksums, read as inventories with checksums.

Source: Amazon S3 User Guide, "Compute checksums" and "Examples: S3 Batch Operations completion reports". Reports have no
sizes and times. Tasks that have failed have no checksum.
"""

import json
from collections.abc import Mapping
from typing import Any

from lakery_cloud.engine.checksums import DIGITS
from lakery_cloud.errors import ConfigError, brief
from lakery_cloud.maintenance.inventories.report import Columns, CSVForm, DataFile, Report, required

KIND = "report of S3 Batch Operations"
FORMAT = "Report_CSV_20180820"


def is_manifest(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is such a manifest."""
    return "ReportSchema" in document


def read_manifest(document: Mapping[str, Any], *, where: str) -> Report:
    """Read a manifest.

    Raises:
        ConfigError: It is malformed, or of an unknown format.
    """
    if document.get("Format") != FORMAT:
        raise ConfigError(f"{where} is of the format {brief(document.get('Format'))}; known is {FORMAT}")
    schema = required(document, "ReportSchema", str, where=where)
    return Report(
        kind=KIND,
        files=tuple(_file(each, where=where) for each in required(document, "Results", list, where=where)),
        file_format="csv",
        columns=COLUMNS,
        # The messages of failed tasks are not quoted as CSV is.
        csv=CSVForm(columns=[column.strip() for column in schema.split(",")], is_key_encoded=True, is_ragged=True),
        checksum_ending=".json.md5",
    )


def _file(entry: Any, *, where: str) -> DataFile:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"a result of {where} must be an object, not {brief(entry)}")
    md5 = required(entry, "MD5Checksum", str, where=where)
    return DataFile(required(entry, "Key", str, where=where), md5=md5.lower())


def _checksum(message: Any) -> tuple[str, str] | None:
    """The checksum in the message of a task, if the task has computed one of a whole object."""
    try:
        result = json.loads(message)
    except (TypeError, ValueError, RecursionError):
        return None
    if not isinstance(result, Mapping) or result.get("checksumType") != "FULL_OBJECT":
        return None
    algorithm, found = str(result.get("checksumAlgorithm")).lower(), str(result.get("checksum_hex")).lower()
    return (algorithm, found) if len(found) == DIGITS.get(algorithm) else None


COLUMNS = Columns(key="key", bucket="bucket", checksums={"resultmessage": _checksum})
