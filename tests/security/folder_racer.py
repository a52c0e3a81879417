"""One of several processes that write, read and delete the same few contents in one folder.

It prints each false error, and each read of wrong content. Any error that is none of the library's ends it.
"""

import asyncio
import random
import sys
from collections.abc import AsyncGenerator

from lakery_cloud import DigestingStream, FileStorage, IntegrityError, LakeryCloudError, StorageUnavailable
from lakery_cloud.storage import SerializedDataStream
from lakery_cloud.testing import content, digest_of

CONTENTS = [content(size, seed=size) for size in (1, 2000, 9000)]
PART_SIZE = 4096
OPERATIONS = 8
"""Concurrent operations of a round."""


async def race(root: str, seed: int, rounds: int) -> list[str]:
    """Use the folder at random; return what must not happen."""
    chance, faults = random.Random(seed), []
    storage = FileStorage(root, part_size=PART_SIZE)

    async def once() -> None:
        data = chance.choice(CONTENTS)
        digest = digest_of(data)
        action = chance.choice(("write", "stream", "read", "read", "stat", "delete", "list"))
        try:
            if action == "write":
                await storage.write_data(data, digest, {"a": "b"})
            elif action == "stream":
                stream = DigestingStream(
                    SerializedDataStream(data_stream=_chunks(data), content_type="x/y", content_encoding=None)
                )
                await storage.write_data_stream(stream, stream.get_digest, {})
            elif action == "read":
                if await storage.read_data(storage.storage_data_of(digest)) != data:
                    faults.append("read: other content")
            elif action == "stat":
                await storage.stat(storage.storage_data_of(digest))
            elif action == "delete":
                await storage.delete(storage.storage_data_of(digest))
            else:
                [info async for info in storage.list()]
        except (IntegrityError, StorageUnavailable) as error:  # nothing is damaged, and no other writer fails
            faults.append(f"{action}: {error!r}")
        except LakeryCloudError:
            pass

    for _ in range(rounds):
        await asyncio.gather(*(once() for _ in range(OPERATIONS)))
    return faults


async def _chunks(data: bytes) -> AsyncGenerator[bytes]:
    yield data


if __name__ == "__main__":
    found = asyncio.run(race(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    print("\n".join(sorted(set(found))))
    sys.exit(bool(found))
