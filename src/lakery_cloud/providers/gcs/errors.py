"""The engine's errors for refusals of Cloud Storage, in each of its formats."""

import json
import re
import zlib
from html import unescape
from typing import Any, NamedTuple

from lakery_cloud.engine.error_messages import Failure
from lakery_cloud.engine.keys import Address
from lakery_cloud.http.exchange import MAX_BUFFERED, BufferedResponse
from lakery_cloud.providers.gcs.refusals import LOG_IN, RULES, code_of

_PAGE = re.compile(rb"\s*<(!doctype html|html)\b", re.IGNORECASE)
_ELEMENT = re.compile(r"<(Code|Message|Details)>([^<]*)</\1>")


class Refusal(NamedTuple):
    """A response that refuses a request.

    Attributes:
        status: HTTP status.
        reasons: Cloud Storage's reasons, the most exact one first.
        message: Cloud Storage's message; the body where the response has none.
        is_page: Whether the body is a page of HTML, which Cloud Storage's API does not send.
    """

    status: int
    reasons: list[str]
    message: str
    is_page: bool = False

    @classmethod
    def of_response(cls, response: BufferedResponse) -> "Refusal":
        """A refusal from a response: JSON with `details` or `errors`, XML, or any text."""
        body = _decoded(response)
        if is_page(body):
            return cls(response.status, [], "", is_page=True)
        text = body.decode(errors="replace")
        try:
            reasons, message = _json(json.loads(text)) if body[:1] == b"{" else _xml(text)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            reasons, message = [], text
        return cls(response.status, reasons, message)

    def error(self, operation: str, address: Address, *, endpoint: str, is_anonymous: bool) -> Exception:
        """The engine's signal or error.

        Args:
            operation: The API's name of the request.
            address: Bucket and key.
            endpoint: URL of the API.
            is_anonymous: Whether the request had no credentials.
        """
        if self.status < 400 or (self.is_page and self.status < 500):
            kind = "page of HTML with status" if self.is_page else "response"
            return Failure(operation, address, endpoint, f"a {kind} {self.status}").unusable()
        said = f"Cloud Storage answered {' '.join([str(self.status), *self.reasons[:1]])}"
        failure = Failure(operation, address, endpoint, f"{said}: {self.message}" if self.message else said)
        if self.status == 401 and is_anonymous:
            return failure.no_credentials(LOG_IN)
        return RULES.error(failure, code=code_of(self.status, self.reasons, self.message), status=self.status)


def is_page(body: bytes) -> bool:
    """Whether a body is a page of HTML: a login page, or a message of a proxy."""
    return _PAGE.match(body) is not None


def _json(content: Any) -> tuple[list[str], str]:
    """Reasons and message of a refusal in JSON (Google AIP-193, "Errors"; Cloud Storage's status codes)."""
    error = content["error"]
    details = [each for each in error.get("details") or () if isinstance(each.get("reason"), str)]
    errors = [each for each in error.get("errors") or () if isinstance(each.get("reason"), str)]
    return [each["reason"] for each in (*details, *errors)], str(error.get("message") or "")


def _xml(text: str) -> tuple[list[str], str]:
    """Code and message of a refusal in XML, read without a parser: it is not trusted."""
    found = {name: unescape(value).strip() for name, value in _ELEMENT.findall(text)}
    words = [found[name] for name in ("Message", "Details") if found.get(name)]
    return [found["Code"]], " ".join(words)


def _decoded(response: BufferedResponse) -> bytes:
    """The body. Requests for content accept gzip, and so does the body of a refusal then."""
    if response.headers.get("content-encoding") != "gzip":
        return response.body
    try:
        return zlib.decompressobj(wbits=31).decompress(response.body, MAX_BUFFERED)
    except zlib.error:
        return response.body
