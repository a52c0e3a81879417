"""What clients have sent to a null server: proof of their writes, and their checksums, conditions and copies."""

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.null_server.messages import Answer, Request
from benchmarks.payload import KiB

PATH = "/.counts"
"""Path of the counts: GET returns them as JSON, DELETE sets them to zero. No bucket has such a name."""

CHECKSUMS = {
    b"\r\ncontent-md5:": "MD5",
    b"\r\nx-ms-content-crc64:": "CRC-64",
    b"\r\nx-goog-hash: crc32c=": "CRC-32C",
    b"\r\nx-goog-hash: md5=": "MD5",
    b"x-amz-checksum-crc32:": "CRC-32",
    b"x-amz-checksum-crc32c:": "CRC-32C",
    b"x-amz-checksum-crc64nvme:": "CRC-64",
    b"x-amz-checksum-sha256:": "SHA-256",
    b"\r\nx-amz-trailer: x-amz-checksum-crc32\r": "CRC-32",
    b"\r\nx-amz-trailer: x-amz-checksum-crc32c\r": "CRC-32C",
    b"\r\nx-amz-trailer: x-amz-checksum-crc64nvme\r": "CRC-64",
}
"""Headers of requests with a body -> the checksum."""
IN_METADATA = {b'"crc32c"': "CRC-32C", b'"md5Hash"': "MD5"}
"""Fields of the metadata that come before content in one body (Cloud Storage, "Multipart uploads")."""
METADATA = 2048
"""Bytes of a body that are searched for metadata."""
SMALL = 64 * KiB
"""Of requests with smaller bodies, only one in `SAMPLE` is searched for checksums, so that the server stays fast."""
SAMPLE = 16
SHA256_DIGITS = 64


@dataclass(slots=True)
class Counts:
    """Sums over all requests since the last reset.

    Attributes:
        requests: Number of requests.
        received: Bytes of their bodies.
        sent: Bytes of the bodies of responses.
        copied: Bytes that the server copied.
        copies: Number of requests that copied.
        create_only: Number of requests that may not replace an object.
        checksums: Checksums of bodies.
    """

    requests: int = 0
    received: int = 0
    sent: int = 0
    copied: int = 0
    copies: int = 0
    create_only: int = 0
    checksums: set[str] = field(default_factory=set)

    def add(self, request: Request, answer: Answer) -> None:
        """Count a request and its response."""
        if request.path == PATH:
            return
        self.requests += 1
        self.received += request.size
        if request.method != "HEAD":
            self.sent += len(answer.body) or answer.stop - answer.start
        if answer.copied:
            self.copies += 1
            self.copied += answer.copied
        if request.method == "GET":
            return
        if b"\r\nif-none-match: *" in request.lower or "ifGenerationMatch=0" in request.query:
            self.create_only += 1
        if request.size > SMALL or (request.size and self.requests % SAMPLE == 1):
            self.checksums |= _checksums(request)

    def reset(self) -> None:
        """Set all sums to zero."""
        self.requests = self.received = self.sent = self.copied = self.copies = self.create_only = 0
        self.checksums.clear()

    def as_json(self) -> dict[str, Any]:
        """Return the sums as JSON data."""
        return {**asdict(self), "checksums": sorted(self.checksums)}


def _checksums(request: Request) -> set[str]:
    """Return the checksums that a request has for its body."""
    head = request.lower + b"\r"
    found = {name for mark, name in CHECKSUMS.items() if mark in head}
    signed = request.header("x-amz-content-sha256")
    if signed is not None and len(signed) == SHA256_DIGITS:  # not UNSIGNED-PAYLOAD and the like
        found.add("SHA-256 in the signature")
    if b"multipart/related" in head and request.body:
        found |= {name for mark, name in IN_METADATA.items() if mark in request.body[:METADATA]}
    return found
