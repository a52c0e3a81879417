"""What a fault proxy must know of one cloud's API."""

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
"""The names that all clouds share: the methods of `lakery_cloud.engine.transport.Transport`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What an operation is recognised by.

    Attributes:
        method: HTTP method.
        path: Path as it was sent, percent-encoded.
        query: Parameters, decoded; those without a value have an empty one.
        headers: Headers, names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str]) -> "Request":
        """The request with this target, which is path and query as they were sent."""
        path, _, query = target.partition("?")
        return cls(method, path, dict(parse_qsl(query, keep_blank_values=True)), headers)


@dataclass(frozen=True, slots=True)
class Dialect:
    """An API: its operations and its errors.

    Attributes:
        name: What it is called here.
        operations: Each operation, with its name of `NEUTRAL_OPERATIONS`; empty if it has none.
        recognise: A request -> operation and key of the object that it makes, reads or deletes. Both are empty where
            the request does not tell.
        error: Status, code and message -> headers and body of the API's error answer.
        codes: Status -> the code that the API most often gives with it.
        expired: Status, code and message for credentials that have expired.
    """

    name: str
    operations: Mapping[str, str]
    recognise: Callable[[Request], tuple[str, str]]
    error: Callable[[int, str, str], tuple[dict[str, str], bytes]]
    codes: Mapping[int, str]
    expired: tuple[int, str, str]

    def code(self, status: int) -> str:
        """The code for a status, in the API's words where it has some."""
        try:
            return self.codes.get(status) or HTTPStatus(status).phrase.replace(" ", "")
        except ValueError:
            return "UnknownError"
