"""What the toy store's refusals mean to the engine."""

import json
from contextlib import suppress
from functools import partial

from lakery_cloud.engine.error_messages import Failure, RefusalRules
from lakery_cloud.engine.model import KeyExists, KeyMissing, UploadGone, VersionChanged
from lakery_cloud.http.exchange import BufferedResponse

SET_TOKEN = "Give the store's token"

RULES = RefusalRules(
    signals={
        ("", "KeyExists"): KeyExists,
        ("", "NoUpload"): UploadGone,
        ("", "OtherVersion"): VersionChanged,
        ("copy", "NoKey"): VersionChanged,
        ("", "NoKey"): KeyMissing,
    },
    outcomes={
        "NoBucket": Failure.no_bucket,
        "WrongToken": partial(Failure.credentials_refused, remedy=SET_TOKEN),
        "WrongChecksum": Failure.damaged,
    },
    grant="Ask the store's owner",
    set_credentials=SET_TOKEN,
)


def code_of(response: BufferedResponse) -> str:
    """The store's code in a refusal; the answer to HEAD has none."""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(response.body)["code"])
    return "NoKey" if response.status == 404 else ""
