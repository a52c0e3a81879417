"""The CRC-32C of an object: Cloud Storage compares it with the bytes that arrive, and says it of what it has stored."""

from lakery_cloud.engine.checksums import as_header
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.errors import IntegrityError, StorageUnavailable
from lakery_cloud.providers.gcs.answers import StoredObject


def checksum_headers(crc32c: str | None) -> dict[str, str]:
    """The header by which Cloud Storage verifies an upload; none without a checksum."""
    return {} if crc32c is None else {"x-goog-hash": f"crc32c={crc32c}"}


def compare(address: Address, stored: StoredObject | None, size: int, checksum: int) -> ObjectInfo:
    """Compare an object with the bytes that were sent; return its description.

    Raises:
        IntegrityError: They differ.
        StorageUnavailable: The store does not say what it has.
    """
    if stored is not None and stored.crc32c is None:
        raise StorageUnavailable(
            f"the response about {address} has no crc32c, so that nothing proves what was stored; write the stream again. "
            "Check that endpoint_url is this store's API, and that no proxy answers in its place"
        )
    if stored is None or (stored.info.size, stored.crc32c) != (size, as_header(checksum)):
        found = stored and f"{stored.info.size} bytes with the CRC32C {stored.crc32c}"
        raise IntegrityError(
            f"{size} bytes with the CRC32C {as_header(checksum)} were sent to {address}, which now has {found}; nothing "
            "was stored, write the stream again"
        )
    return stored.info
