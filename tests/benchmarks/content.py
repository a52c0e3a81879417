"""Content for these tests."""

import hashlib

MiB = 1024**2


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
