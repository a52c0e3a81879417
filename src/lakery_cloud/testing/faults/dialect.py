"""What a fault proxy knows about one cloud's API.

The proxy recognises an operation by method, target and headers alone, without reading the body.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl

NEUTRAL_OPERATIONS = frozenset(
    {
        "put",
        "get",
        "head",
        "delete",
        "copy",
        "begin_upload",
        "upload_part",
        "copy_part",
        "complete_upload",
        "abort_upload",
        "list",
        "list_uploads",
        "tags",
        "has_bucket",
    }
)
"""Operation names that are the same for every cloud: the methods of `lakery_cloud.engine.transport.Transport`."""


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of an HTTP request that show its operation.

    Attributes:
        method: HTTP method.
        path: Path as sent, percent-encoded.
        query: Decoded parameters; a parameter without a value has an empty one.
        headers: Headers with lower-case names.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str]) -> "Request":
        """Make a request from its target: path and query as sent."""
        path, _, query = target.partition("?")
        return cls(method, path, dict(parse_qsl(query, keep_blank_values=True)), headers)


@dataclass(frozen=True, slots=True)
class Dialect:
    """An API: its operations and its errors.

    Attributes:
        name: Short name of the API.
        operations: The provider's operation name -> the shared name from `NEUTRAL_OPERATIONS`, or an empty string.
        recognise: Request -> operation, and key of the object that it creates, reads or deletes. Either is empty if the
            request does not show it.
        error: Status, code and message -> headers and body of an error response.
        codes: Status -> the error code that the API sends most often with it.
        expired: Status, code and message for expired credentials.
    """

    name: str
    operations: Mapping[str, str]
    recognise: Callable[[Request], tuple[str, str]]
    error: Callable[[int, str, str], tuple[dict[str, str], bytes]]
    codes: Mapping[int, str]
    expired: tuple[int, str, str]

    def code(self, status: int) -> str:
        """The error code for a status: the API's own, or the HTTP reason phrase."""
        try:
            return self.codes.get(status) or HTTPStatus(status).phrase.replace(" ", "")
        except ValueError:
            return "UnknownError"
