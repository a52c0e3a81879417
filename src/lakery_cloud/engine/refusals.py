"""The codes by which a store refuses requests: for each one its error and its advice, as a table."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lakery_cloud.engine.error_messages import LATER, RENEW, Failure
from lakery_cloud.engine.model import Archived, Full, Signal, Uncertain, Unsupported
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidTags,
    LakeryCloudError,
    StorageUnavailable,
)


class RefusalRow(NamedTuple):
    """One line of the table.

    Attributes:
        code: The store's code; empty for responses that have only a status.
        status: The HTTP status of the response.
        error: Class of the error.
        advice: What to do, a sentence. Empty for `AccessDenied` if it depends on the request.
        source: Title of the page of documentation, or a public report.
    """

    code: str
    status: int
    error: type[LakeryCloudError]
    advice: str
    source: str


_MAKERS: Mapping[type[LakeryCloudError], Callable[[Failure, str], LakeryCloudError]] = {
    AccessDenied: Failure.denied,
    Archived: Failure.archived,
    BucketNotFound: Failure.no_bucket,
    ConfigError: Failure.misconfigured,
    CredentialsError: Failure.credentials_refused,
    Full: Failure.full,
    IntegrityError: Failure.damaged,
    InvalidTags: Failure.wrong_tags,
    LakeryCloudError: Failure.refused,
    StorageUnavailable: Failure.unavailable,
    Uncertain: lambda failure, _: failure.unusable(),
    Unsupported: Failure.unsupported,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalRules:
    """What the refusals of one provider's API mean. The store's own code counts first, its status only without one.

    Attributes:
        signals: (operation, code) -> signal. Only operations whose callers react to it have one.
        table: All other codes.
        words: As `table`, with a regular expression for the message instead of a code. It counts before `table`, for
            refusals by one of `vague_codes`. Its groups may be part of the advice, as in `Grant {action}`.
        vague_codes: The codes that say less than the store's message.
        grants: Operation -> the sentence that says which permission it needs.
        grant: The same for every other operation.
        set_credentials: The sentence that says how to configure credentials.
    """

    signals: Mapping[tuple[str, str], type[Signal]]
    table: Sequence[RefusalRow]
    words: Sequence[RefusalRow] = ()
    vague_codes: frozenset[str] = frozenset()
    grants: Mapping[str, str] = field(default_factory=dict)
    grant: str
    set_credentials: str
    _rows: Mapping[str, RefusalRow] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", {row.code or str(row.status): row for row in self.table})

    def error(self, failure: Failure, *, code: str, status: int, message: str = "") -> Exception:
        """The signal or error for a refusal.

        Args:
            failure: The failed request.
            code: The store's code; empty, or the status, without one.
            status: HTTP status.
            message: The store's message.
        """
        if signal := self.signals.get((failure.operation, code)):
            return failure.signal(signal)
        row = self._row_of_words(code, message) or self._rows.get(code) or self._row_of_status(code, status)
        return _MAKERS[row.error](failure, row.advice or self.grants.get(failure.operation, self.grant))

    def _row_of_words(self, code: str, message: str) -> RefusalRow | None:
        for row in self.words if code in self.vague_codes else ():
            if found := re.search(row.code, message, re.IGNORECASE):
                return row._replace(advice=row.advice.format(**found.groupdict()))
        return None

    def _row_of_status(self, code: str, status: int) -> RefusalRow:
        """The meaning of a code that is not in the table."""
        if status < 400 or status == 504:  # a redirect, a success of the wrong kind, a proxy without an answer
            return RefusalRow(code, status, Uncertain, "", "")
        has_code = code not in ("", str(status))
        if status == 401:
            return RefusalRow(code, status, CredentialsError, f"{RENEW}. {self.set_credentials}", "")
        if status == 403:
            advice = "Look up the code in the documentation of the store" if has_code else ""
            return RefusalRow(code, status, AccessDenied, advice, "")
        if status == 501:
            return RefusalRow(code, status, Unsupported, "Leave out the setting or the tags that need it", "")
        if status == 507:
            return RefusalRow(code, status, Full, "Free some space, or raise the quota", "")
        if status >= 500 or status in (408, 429):
            return RefusalRow(code, status, StorageUnavailable, LATER, "")
        advice = "Look up the code in the documentation of the store"
        return RefusalRow(code, status, LakeryCloudError, advice if has_code else "Check endpoint_url", "")
