"""What a proxy notes of a request. Credentials are kept, and never shown."""

import re
from dataclasses import dataclass

from lakery_cloud.testing.faults.rules import Fault

_MASK = "***"
_SECRET_HEADERS = re.compile(r"authorization|cookie|security-token|encryption-(customer-)?key$")
_SECRET_PARAMETERS = re.compile(
    r"(?<=[?&])(sig|signature|[\w-]+-signature|[\w-]+-credential|[\w-]+-security-token|access_token|key|upload_id)=[^&]*",
    re.IGNORECASE,
)
"""Signatures, tokens, and the addresses of Cloud Storage's uploads, which are credentials of their own."""


@dataclass(slots=True, repr=False)
class Exchange:
    """One request that reached the proxy. Its repr shows no credentials.

    Attributes:
        method: HTTP method.
        target: Path and query as they were sent.
        headers: Headers, names in lower case.
        sent_bytes: Bytes of the request's body that have arrived.
        received_bytes: Bytes of the answer's body that were passed on.
        status: Status that the client got; None if it got none.
        operation: What the provider calls the request, such as `put_object`; empty if it is none that is known.
        neutral: The name that all clouds share, such as `put`; empty if there is none.
        key: Key of the object, decoded; empty if the request does not tell.
        fault: The fault that took effect, if any did.
    """

    method: str
    target: str
    headers: dict[str, str]
    sent_bytes: int = 0
    received_bytes: int = 0
    status: int | None = None
    operation: str = ""
    neutral: str = ""
    key: str = ""
    fault: Fault | None = None

    def __repr__(self) -> str:
        headers = {
            name: _MASK if _SECRET_HEADERS.search(name) else _masked(value) for name, value in self.headers.items()
        }
        return (
            f"Exchange({self.method} {_masked(self.target)}, operation={self.operation!r}, key={self.key!r}, "
            f"sent_bytes={self.sent_bytes}, status={self.status}, fault={self.fault}, headers={headers})"
        )


def _masked(target: str) -> str:
    return _SECRET_PARAMETERS.sub(lambda found: f"{found[1]}={_MASK}", target)
