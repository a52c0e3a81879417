"""`ContentRecord`: describes saved content."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from lakery_cloud.digest import check_digest
from lakery_cloud.errors import InvalidRecord, brief
from lakery_cloud.storage import Digest, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentRecord:
    """All that is needed to load saved content. Keep it in a database, a file or a message; it contains no secret.

    Attributes:
        content_type: Media type.
        content_encoding: Content coding, or None.
        content_hash: Hash in lower-case hexadecimal.
        content_hash_algorithm: Name of the hash.
        content_size: Size in bytes.
        storage_name: Permanent name of the storage that wrote the content.
        storage_data: The storage's own data about the content, as serialized by `Storage.serialize_storage_data`.
    """

    content_type: str
    content_encoding: str | None
    content_hash: str
    content_hash_algorithm: str
    content_size: int
    storage_name: str
    storage_data: str

    @classmethod
    def of(cls, storage: Storage[Any], digest: Digest, storage_data: Any) -> Self:
        """Make the record of content that a storage has saved.

        Args:
            storage: The storage.
            digest: The content's digest.
            storage_data: The storage data that the write returned.
        """
        return cls(
            content_type=digest["content_type"],
            content_encoding=digest["content_encoding"],
            content_hash=digest["content_hash"],
            content_hash_algorithm=digest["content_hash_algorithm"],
            content_size=digest["content_size"],
            storage_name=storage.name,
            storage_data=storage.serialize_storage_data(storage_data),
        )

    @property
    def digest(self) -> Digest:
        """The record's digest."""
        return Digest(
            content_type=self.content_type,
            content_encoding=self.content_encoding,
            content_hash_algorithm=self.content_hash_algorithm,
            content_hash=self.content_hash,
            content_size=self.content_size,
        )

    def to_json(self) -> str:
        """Return the record as one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record from the output of `to_json`. The text may be untrusted.

        Raises:
            InvalidRecord: The text is not JSON, a field is missing or unknown, or a value is malformed.
            ConfigError: The hash algorithm is unknown.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRecord(f"the record is not JSON: {error}") from None
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise InvalidRecord(f"the record must be a JSON object with the fields {', '.join(sorted(names))}")
        record = cls(**values)
        record.check()
        return record

    def check(self) -> None:
        """Refuse values that no save can produce.

        Raises:
            InvalidRecord: A value has the wrong type or form.
            ConfigError: The hash algorithm is unknown.
        """
        check_digest(self.digest)
        for name, value in (("storage_name", self.storage_name), ("storage_data", self.storage_data)):
            if not isinstance(value, str):
                raise InvalidRecord(f"{name} must be a string, not {brief(value)}")
