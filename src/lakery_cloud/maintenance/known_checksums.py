"""Checksums of content that were kept beside its records, by content hash, on disk.

They let `verify --by-checksum` compare objects on stores that have no checksum of the content hash's algorithm.
"""

from collections.abc import Iterable, Mapping

from lakery_cloud.engine.checksums import DIGITS, header_to_hex
from lakery_cloud.engine.keys import check_hash
from lakery_cloud.errors import ConfigError, InvalidRecord, brief
from lakery_cloud.maintenance.shards import Shard
from lakery_cloud.maintenance.spool import Spooled

Checksums = Mapping[str, str]
"""Algorithm -> checksum in hexadecimal."""


class KnownChecksums(Spooled):
    """Checksums by content hash. Use it in a `with` block, which removes its files.

    Attributes:
        count: Number of contents that were added.
    """

    def add(self, content_hash: str, checksums: Mapping[str, str]) -> None:
        """Add the checksums of one content.

        Args:
            content_hash: Its hash.
            checksums: Algorithm, a key of `DIGITS` -> checksum, in hexadecimal or in base64.

        Raises:
            InvalidRecord: The hash or a checksum is malformed.
        """
        check_hash(content_hash)
        found = {algorithm: as_hex(algorithm, checksum) for algorithm, checksum in checksums.items()}
        self._spool.add(f"{content_hash}\t{join(found)}")

    def add_all(self, source: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """Add all content hashes of a source with their checksums.

        Raises:
            InvalidRecord: As for `add`.
            Exception: The source's own errors.
        """
        for content_hash, checksums in source:
            self.add(content_hash, checksums)

    def lines_of(self, shard: Shard) -> list[str]:
        """The checksums of a shard, as `read_lines` reads them. Any thread may ask."""
        return self._spool.lines_of(shard.hash_prefix)


def read_lines(lines: Iterable[str]) -> dict[str, dict[str, str]]:
    """The checksums in the lines of a shard: content hash -> algorithm -> checksum in hexadecimal.

    Raises:
        InvalidRecord: Two sources have different checksums of one content.
    """
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        content_hash, _, text = line.partition("\t")
        known = found.setdefault(content_hash, {})
        for algorithm, checksum in split(text).items():
            if not is_same(algorithm, known.setdefault(algorithm, checksum), checksum):
                raise InvalidRecord(
                    f"{content_hash} has the {algorithm} {known[algorithm]} in one row and {checksum} in another; remove "
                    "the wrong one"
                )
    return found


def is_same(algorithm: str, one: str, other: str) -> bool:
    """Whether two checksums in hexadecimal are the same.

    CRC64 is written with either byte first: Azure's header has the lowest one first, S3's the highest one. Microsoft does
    not document the order in inventories.
    """
    return one == other or (algorithm == "crc64nvme" and bytes.fromhex(one)[::-1].hex() == other)


def join(checksums: Checksums) -> str:
    """Checksums as one text without white space."""
    return ",".join(f"{algorithm}:{checksum}" for algorithm, checksum in checksums.items())


def split(text: str) -> dict[str, str]:
    """The checksums that `join` has joined."""
    return dict(each.split(":", 1) for each in text.split(",")) if text else {}


def as_hex(algorithm: str, checksum: str) -> str:
    """A checksum in hexadecimal or base64, as hexadecimal.

    Raises:
        ConfigError: The algorithm is unknown.
        InvalidRecord: It is no such checksum.
    """
    digits = DIGITS.get(algorithm)
    if digits is None:
        raise ConfigError(f"checksums are {', '.join(DIGITS)}, not {brief(algorithm)}")
    if isinstance(checksum, str):
        try:
            # Base64 of these sizes ends in "=", which no hexadecimal number does.
            found = header_to_hex(checksum) if checksum.endswith("=") else bytes.fromhex(checksum).hex()
        except ValueError:
            found = ""
        if len(found) == digits:
            return found
    raise InvalidRecord(f"{brief(checksum)} is no {algorithm} in hexadecimal or base64")
