"""The manifests of Azure Blob Storage inventories.

Source: Microsoft, "Azure Storage blob inventory" (inventory files, manifest, custom schema fields). Blob names begin with
their container. Files have no checksums of their own.
"""

from collections.abc import Mapping
from typing import Any

from lakery_cloud.errors import ConfigError, brief
from lakery_cloud.maintenance.inventories.report import ANY, Columns, DataFile, Report, in_base64, required

KIND = "Azure Blob Storage inventory"
COLUMNS = Columns(
    key="name",
    size="contentlength",
    modified="lastmodified",
    version="etag",
    content_type="contenttype",
    storage_class="accesstier",
    noncurrent={
        "snapshot": ANY,
        "iscurrentversion": frozenset({"false"}),
        "deleted": frozenset({"true"}),
        "hdiisfolder": frozenset({"true"}),
    },
    checksums={
        "contentmd5": in_base64("md5"),
        "contentcrc64": in_base64("crc64nvme"),
    },
)


def is_manifest(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is such a manifest."""
    return "ruleDefinition" in document


def read_manifest(document: Mapping[str, Any], *, where: str) -> Report:
    """Read a manifest.

    Raises:
        ConfigError: It is malformed, of containers, or of a run that is not complete.
    """
    status = required(document, "status", str, where=where)
    if status != "Succeeded":
        raise ConfigError(
            f"the status of {where} is {brief(status)}, not 'Succeeded'; use the inventory of another run"
        )
    rule = required(document, "ruleDefinition", dict, where=where)
    if rule.get("objectType") != "blob":
        raise ConfigError(f"{where} lists objects of the type {brief(rule.get('objectType'))}, not 'blob'")
    file_format = required(rule, "format", str, where=where).lower()
    if file_format not in ("csv", "parquet"):
        raise ConfigError(f"{where} is of the format {brief(rule['format'])}; known are csv and parquet")
    summary = document.get("summary")
    count = summary.get("objectCount") if isinstance(summary, Mapping) else None
    return Report(
        kind=KIND,
        files=tuple(_file(each, where=where) for each in required(document, "files", list, where=where)),
        file_format=file_format,
        columns=COLUMNS,
        rows=count if isinstance(count, int) else None,
        checksum_ending=".checksum",
    )


def _file(entry: Any, *, where: str) -> DataFile:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"a file of {where} must be an object, not {brief(entry)}")
    return DataFile(required(entry, "blob", str, where=where), required(entry, "size", int, where=where))
