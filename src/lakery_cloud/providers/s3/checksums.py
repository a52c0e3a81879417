"""The checksums that S3 compares with the body of a request."""

from collections.abc import Collection

from lakery_cloud.engine.attributes import METADATA_ALGORITHM, METADATA_HASH, ObjectAttributes
from lakery_cloud.engine.checksums import crc32c_header, header_to_hex, hex_to_header, md5_header
from lakery_cloud.errors import IntegrityError
from lakery_cloud.streams.hashing import new_hasher, update_hash
from lakery_cloud.streams.parts import Pieces

SHA256, CRC32C, MD5 = "x-amz-checksum-sha256", "x-amz-checksum-crc32c", "content-md5"
CHECKSUMS = "x-amz-checksum-"
"""The beginning of these headers, except of MD5: an endpoint may refuse all of them."""

Supported = Collection[str]
"""The optional headers that a request may have."""


async def checksum_of(
    pieces: Pieces, supported: Supported, attributes: ObjectAttributes | None = None
) -> dict[str, str]:
    """The checksum that the store compares with the body: the content hash if it can, MD5 if it knows nothing else."""
    sha256 = content_checksum(attributes) if attributes is not None else None
    if CHECKSUMS in supported:
        return {SHA256: sha256} if sha256 else {CRC32C: await crc32c_header(*pieces)}
    if sha256:
        await _check_sha256(pieces, header_to_hex(sha256))
    return {MD5: await md5_header(*pieces)}


async def _check_sha256(pieces: Pieces, expected: str) -> None:
    """Compare bytes with their content hash, in place of a store that can't."""
    hasher = new_hasher("sha256")
    await update_hash(hasher, *pieces)
    if hasher.hexdigest() != expected:
        raise IntegrityError(
            f"the data has the hash sha256:{hasher.hexdigest()}, but its digest says sha256:{expected}"
        )


def content_checksum(attributes: ObjectAttributes) -> str | None:
    """The content hash as a checksum of S3, if it is a SHA-256."""
    is_sha256 = attributes.metadata.get(METADATA_ALGORITHM) == "sha256"
    return hex_to_header(attributes.metadata[METADATA_HASH]) if is_sha256 else None
