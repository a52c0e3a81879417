"""The lifecycle rules of Azure Blob Storage, which its API for blobs can't set, and the retention of a container."""

import hashlib
from collections.abc import Mapping
from typing import Any

from lakery_cloud.engine.keys import KeySpace
from lakery_cloud.errors import ConfigError


def lifecycle_rules(keys: KeySpace, days: int, *, has_versions: bool) -> dict[str, Any]:
    """The policy for `az storage account management-policy create --policy`: temporary blobs are deleted.

    With versions, so are those that deleted temporary blobs left. Accounts with a hierarchical namespace know no versions.

    There is no rule for uncommitted blocks: Azure discards them a week after the last of them (Microsoft Learn, "Put
    Block").
    """
    actions = {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}}
    if has_versions:
        actions["version"] = {"delete": {"daysAfterCreationGreaterThan": days}}
    return {"rules": [_rule(f"{container}/{keys.temporary_root}", actions) for container in keys.buckets]}


def _rule(root: str, actions: Mapping[str, Any]) -> dict[str, Any]:
    """The rule of one container and prefix."""
    return {
        "enabled": True,
        # One name for each container and prefix; it may have letters, digits and dashes.
        "name": f"lakery-cloud-temporary-blobs-{hashlib.sha256(root.encode()).hexdigest()[:32]}",
        "type": "Lifecycle",
        "definition": {
            "actions": actions,
            "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [root]},
        },
    }


def not_applicable(account_name: str) -> ConfigError:
    """The error that says how to set the rules of an account."""
    account = f"--account-name {account_name} --resource-group <group>"
    return ConfigError(
        "lifecycle rules belong to the account, and only Azure's management API can set them. Save the output of "
        "`lakery-cloud lifecycle` as policy.json; add the rules that "
        f"`az storage account management-policy show {account}` prints, since the command replaces all rules; then run: "
        f"az storage account management-policy create {account} --policy @policy.json"
    )


# Microsoft Learn, "Get Container Properties".
_RETENTION = {
    "x-ms-has-immutability-policy": "a retention policy",
    "x-ms-has-legal-hold": "a legal hold",
    "x-ms-immutable-storage-with-versioning-enabled": "a retention of versions",
}


def retention_of(headers: Mapping[str, str]) -> str | None:
    """What forbids deletions in a container; empty for nothing, None if a response about it does not tell."""
    if "x-ms-has-immutability-policy" not in headers:
        return None
    return " and ".join(text for name, text in _RETENTION.items() if headers.get(name) == "true")
