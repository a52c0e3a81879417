"""The record that a proxy keeps of each request. It keeps credentials, but its repr masks them."""

import re
from dataclasses import dataclass

from lakery_cloud.testing.faults.rules import Fault

_MASK = "***"
_SECRET_HEADERS = re.compile(r"authorization|cookie|security-token|encryption-(customer-)?key$")
_SECRET_PARAMETERS = re.compile(
    r"(?<=[?&])(sig|signature|[\w-]+-signature|[\w-]+-credential|[\w-]+-security-token|access_token|key|upload_id)=[^&]*",
    re.IGNORECASE,
)
"""Signatures, tokens, and the upload ids of Cloud Storage, which work without further credentials."""


@dataclass(slots=True, repr=False)
class Exchange:
    """A request that reached the proxy. Its repr masks credentials.

    Attributes:
        method: HTTP method.
        target: Path and query as sent.
        headers: Headers with lower-case names.
        sent_bytes: Bytes of the request body that the proxy received.
        received_bytes: Bytes of the response body that the proxy sent to the client.
        status: Status sent to the client; None if the client got no response.
        operation: The provider's name of the operation, such as `put_object`; empty if unknown.
        neutral: The name shared by all clouds, such as `put`; empty if there is none.
        key: Decoded key of the object; empty if the request does not show it.
        fault: The fault that took effect, or None.
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
