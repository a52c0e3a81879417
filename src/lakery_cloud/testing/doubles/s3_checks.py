"""The checks of a double of S3 before it acts: unsupported headers, checksums, conditions, encryption."""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from contextvars import ContextVar
from urllib.parse import parse_qsl

import google_crc32c
from aiohttp import web

from lakery_cloud.testing.doubles.s3_state import DoubleVersion, Refusal, S3State

CHECKSUM = "x-amz-checksum-"
METADATA = "x-amz-meta-"
MAX_KEY = 1024
"""Bytes; S3 User Guide, "Naming Amazon S3 objects"."""
MAX_METADATA = 2048
"""Bytes of names and values; S3 User Guide, "Working with object metadata"."""
MAX_TAGS = 10
"""S3 User Guide, "Categorizing your objects using tags"."""

_KEPT = ("content-type", "content-encoding", "x-amz-storage-class", "x-amz-server-side-encryption")
_NAMED = "Header '{}' with value '{}' not implemented"
_UNNAMED = "A header you provided implies functionality that is not implemented"
_INVALID = "Unsupported header '{}' received for this API call."


_ignored: ContextVar[frozenset[str]] = ContextVar("ignored")


class S3Checks:
    """The checks of one double."""

    def __init__(self, state: S3State) -> None:
        self._state = state

    def check_support(self, request: web.Request, operation: str) -> None:
        """Refuse headers that the store does not support, and note those that it ignores."""
        if operation in self._state.profile.no_operations:
            raise Refusal(501, "NotImplemented", f"{operation} not implemented")
        ignored = set()
        for name, value in request.headers.items():
            match self._answer(name.lower(), operation):
                case "named":
                    raise Refusal(501, "NotImplemented", _NAMED.format(name.lower(), value))
                case "unnamed":
                    raise Refusal(501, "NotImplemented", _UNNAMED)
                case "invalid":
                    raise Refusal(400, "InvalidArgument", _INVALID.format(name.lower()))
                case "ignored":
                    ignored.add(name.lower())
        _ignored.set(frozenset(ignored))

    def is_ignored(self, header: str) -> bool:
        """Whether the store ignores a header of the request that it is answering."""
        return header in _ignored.get()

    def _answer(self, header: str, operation: str) -> str:
        for rule in self._state.profile.headers:
            if header.startswith(rule.header) and (not rule.operations or operation in rule.operations):
                return rule.answer
        return ""

    def check_payer(self, request: web.Request) -> None:
        """Refuse requests without a payer."""
        if self._state.profile.requester_pays and request.headers.get("x-amz-request-payer") != "requester":
            raise Refusal(403, "AccessDenied", "Access Denied")

    def check_key(self, key: str) -> None:
        """Refuse a key that is too long."""
        if len(key.encode()) > MAX_KEY:
            raise Refusal(400, "KeyTooLongError", "Your key is too long")

    def check_write(self, request: web.Request) -> None:
        """Refuse a write that a policy or the metadata forbids."""
        demanded = self._state.profile.encryption
        if demanded and request.headers.get("x-amz-server-side-encryption") != demanded:
            raise Refusal(403, "AccessDenied", "with an explicit deny in a resource-based policy")
        metadata = {k: v for k, v in request.headers.items() if k.lower().startswith(METADATA)}
        if sum(len(name) - len(METADATA) + len(value) for name, value in metadata.items()) > MAX_METADATA:
            raise Refusal(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")

    def check_absent(self, request: web.Request, bucket: str, key: str) -> None:
        """Refuse a create-only write to a key that has an object."""
        if "if-none-match" not in request.headers or self.is_ignored("if-none-match"):
            return
        if request.headers["if-none-match"] != "*":
            raise Refusal(501, "NotImplemented", _UNNAMED)
        if self._state.current(bucket, key) is not None:
            raise Refusal(412, "PreconditionFailed", condition="If-None-Match")

    def check_if_match(self, request: web.Request, header: str, found: DoubleVersion) -> None:
        """Refuse a request that is pinned to another version. The comparison is strong (RFC 9110, section 13.1.1)."""
        if request.headers.get(header, found.etag) != found.etag:
            raise Refusal(412, "PreconditionFailed", condition=header)

    def check_body(self, request: web.Request, body: bytes) -> dict[str, str]:
        """Compare a body with its checksums; return those that were sent, as headers."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        sha256 = hashlib.sha256(body).digest()
        if len(headers.get("x-amz-content-sha256", "")) == 64 and headers["x-amz-content-sha256"] != sha256.hex():
            raise Refusal(400, "XAmzContentSHA256Mismatch", "The provided header does not match what was computed.")
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        if headers.get("content-md5", in_base64(md5)) != in_base64(md5):
            raise Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        sent = {name: value for name, value in headers.items() if name in (CHECKSUM + each for each in ALGORITHMS)}
        for name, value in sent.items():
            if value != checksum_of(body, name.removeprefix(CHECKSUM)):
                raise Refusal(400, "BadDigest", f"The {name} you specified did not match the calculated checksum.")
        return sent

    def check_has_checksum(self, request: web.Request, *, md5: bool) -> None:
        """Refuse a request without a checksum, or without an MD5 at a store that wants it.

        Args:
            request: The request.
            md5: Whether a store that `needs_md5` wants it here.
        """
        if "content-md5" in request.headers:
            return
        if md5 and self._state.profile.needs_md5:
            raise Refusal(400, "InvalidRequest", "Missing required header for this request: Content-MD5")
        if not any(name.lower().startswith(CHECKSUM) for name in request.headers):
            raise Refusal(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required")

    def tags_of(self, request: web.Request) -> dict[str, str]:
        """The tags that a request sets."""
        tags = dict(parse_qsl(request.headers.get("x-amz-tagging", ""), keep_blank_values=True))
        if len(tags) > MAX_TAGS:
            raise Refusal(400, "BadRequest", "Object tags cannot be greater than 10")
        if any(len(key) > 128 or len(value) > 256 for key, value in tags.items()):
            raise Refusal(400, "InvalidTag", "The TagValue you have provided is invalid")
        return tags


ALGORITHMS = ("sha256", "crc32c", "crc32")


def checksum_of(data: bytes, algorithm: str) -> str:
    """A checksum as it stands in a header."""
    if algorithm == "sha256":
        return in_base64(hashlib.sha256(data).digest())
    value = google_crc32c.value(data) if algorithm == "crc32c" else zlib.crc32(data)
    return in_base64(value.to_bytes(4, "big"))


def kept_headers(request: web.Request) -> Mapping[str, str]:
    """The headers that S3 stores with an object."""
    return {
        name.lower(): value
        for name, value in request.headers.items()
        if name.lower() in _KEPT or name.lower().startswith(METADATA)
    }


def in_base64(digest: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(digest).decode()
