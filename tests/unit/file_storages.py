"""Writes to a `FileStorage`, and what is in its folder afterwards."""

import hashlib

import pytest

from lakery_cloud import DigestingStream, digest_data

CONTENT = b"content of a file, long enough for several parts"
HASH = hashlib.sha256(CONTENT).hexdigest()


async def write(storage, data=CONTENT, tags=None):
    digest = await digest_data({"data": data, "content_type": "text/plain", "content_encoding": None})
    return await storage.write_data(data, digest, tags or {})


async def write_stream(storage, data=CONTENT, tags=None):
    async def chunks():
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    stream = DigestingStream({"data_stream": chunks(), "content_type": "text/plain", "content_encoding": None})
    return await storage.write_data_stream(stream, stream.get_digest, tags or {})


WRITES = pytest.mark.parametrize("save", [write, write_stream], ids=["blob", "stream"])


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
