"""The lifecycle rules of Azure Blob Storage, which belong to the account and which its API for blobs can't set."""

import hashlib
from typing import Any

from lakery_cloud.engine.keys import KeySpace
from lakery_cloud.errors import ConfigError


def lifecycle_rules(keys: KeySpace, days: int) -> dict[str, Any]:
    """The policy for `az storage account management-policy create --policy`: temporary blobs are deleted.

    There is no rule for uncommitted blocks: Azure discards them a week after the last of them (Microsoft Learn, "Put
    Block").
    """
    root = f"{keys.bucket}/{keys.temporary_root}"
    return {
        "rules": [
            {
                "enabled": True,
                # One rule for each container and prefix; its name may have letters, digits and dashes.
                "name": f"lakery-cloud-temporary-blobs-{hashlib.sha256(root.encode()).hexdigest()[:32]}",
                "type": "Lifecycle",
                "definition": {
                    "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}},
                    "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [root]},
                },
            }
        ]
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
