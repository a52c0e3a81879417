"""What the toy store's refusals mean to the engine."""

import json
from contextlib import suppress

from lakery_cloud.engine.model import KeyExists, KeyMissing, UploadGone, VersionChanged
from lakery_cloud.engine.refusals import RefusalRow, RefusalRules
from lakery_cloud.errors import BucketNotFound, CredentialsError, IntegrityError
from lakery_cloud.http.exchange import BufferedResponse

SET_TOKEN = "Give the store's token"

RULES = RefusalRules(
    signals={
        **{(operation, "KeyExists"): KeyExists for operation in ("put", "complete", "copy")},
        **{(operation, "NoUpload"): UploadGone for operation in ("part", "complete", "abort")},
        **{(operation, "OtherVersion"): VersionChanged for operation in ("get", "copy")},
        ("copy", "NoKey"): VersionChanged,
        **{(operation, "NoKey"): KeyMissing for operation in ("get", "head", "delete", "tags")},
    },
    table=(
        RefusalRow("NoBucket", 404, BucketNotFound, "Create it", "this store"),
        RefusalRow("WrongToken", 401, CredentialsError, SET_TOKEN, "this store"),
        RefusalRow("WrongChecksum", 400, IntegrityError, "Write again", "this store"),
    ),
    grant="Ask the store's owner",
    set_credentials=SET_TOKEN,
)


def code_of(response: BufferedResponse) -> str:
    """The store's code in a refusal; the answer to HEAD has none."""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(response.body)["code"])
    return "NoKey" if response.status == 404 else ""
