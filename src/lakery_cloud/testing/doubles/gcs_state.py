"""The state of a double of Cloud Storage: buckets, objects and their versions, resumable uploads."""

import base64
import hashlib
import itertools
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import google_crc32c

from lakery_cloud.testing.doubles.gcs_profiles import GCSProfile

KiB = 1024
MAX_METADATA = 8 * KiB
"""Bytes of the names and values of custom metadata: Cloud Storage, "Quotas & limits"."""
_KEPT = ("contentType", "contentEncoding", "metadata", "storageClass")


class Refusal(Exception):
    """An error response.

    Args:
        status: HTTP status.
        reason: Cloud Storage's reason.
        message: Cloud Storage's message.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class DoubleObject:
    """A stored object.

    Attributes:
        data: Its bytes, as sent.
        generation: Version of the object; a new one each time the object is replaced.
        resource: Its fields `contentType`, `contentEncoding`, `metadata` and `storageClass`.
        updated: Time of the write.
        metageneration: Version of its fields.
    """

    data: bytes
    generation: int
    resource: Mapping[str, Any]
    updated: str
    metageneration: int = 1


@dataclass(slots=True)
class DoubleBucket:
    """What a bucket has beside its objects.

    Attributes:
        metageneration: Version of its fields.
        lifecycle: The bucket's lifecycle configuration.
        noncurrent: Noncurrent versions: names and objects.
        soft_deleted: What soft delete keeps: names and objects.
    """

    metageneration: int = 1
    lifecycle: Mapping[str, Any] | None = None
    noncurrent: list[tuple[str, DoubleObject]] = field(default_factory=list)
    soft_deleted: list[tuple[str, DoubleObject]] = field(default_factory=list)


@dataclass(slots=True)
class DoubleSession:
    """A resumable upload.

    Attributes:
        bucket: Bucket of the new object.
        name: Name of the new object.
        query: Query parameters of the first request, with its preconditions.
        resource: Fields of the new object.
        data: The bytes received so far.
        made: The object, once the upload is complete.
        is_cancelled: Whether the client cancelled the upload.
    """

    bucket: str
    name: str
    query: Mapping[str, str]
    resource: Mapping[str, Any]
    data: bytearray = field(default_factory=bytearray)
    made: DoubleObject | None = None
    is_cancelled: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the upload is neither complete nor cancelled."""
        return self.made is None and not self.is_cancelled


class GCSState:
    """The contents of a double.

    Attributes:
        profile: The store that the double behaves as.
        bucket_profiles: Bucket -> another profile, which says what the bucket keeps of deleted objects.
        buckets: Bucket -> name -> live object.
        described: Bucket -> its fields, and the versions that it keeps.
        sessions: Resumable uploads by id, including complete and cancelled ones.
    """

    def __init__(self, profile: GCSProfile) -> None:
        self.profile = profile
        self.bucket_profiles: dict[str, GCSProfile] = {}
        self.buckets: dict[str, dict[str, DoubleObject]] = {}
        self.described: defaultdict[str, DoubleBucket] = defaultdict(DoubleBucket)
        self.sessions: dict[str, DoubleSession] = {}
        self._generations = itertools.count(1_700_000_000_000_000)
        self._changes: dict[tuple[str, str], float] = {}

    def objects(self, bucket: str) -> dict[str, DoubleObject]:
        """The live objects of a bucket.

        Raises:
            Refusal: The bucket does not exist.
        """
        try:
            return self.buckets[bucket]
        except KeyError:
            raise Refusal(404, "notFound", "The specified bucket does not exist.") from None

    def find(self, bucket: str, name: str, query: Mapping[str, str], *, operation: str) -> DoubleObject:
        """The live object, or the generation that a query names, if it meets the preconditions.

        Raises:
            Refusal: It does not exist, or does not meet them.
        """
        is_source = operation in ("objects.rewrite", "objects.move")
        found = self.objects(bucket).get(name)
        wanted = query.get("sourceGeneration" if is_source else "generation")
        if wanted is not None and (found is None or str(found.generation) != wanted):
            kept = self.described[bucket].noncurrent
            found = next((each for key, each in kept if key == name and str(each.generation) == wanted), None)
        if found is None:
            raise Refusal(404, "notFound", f"No such object: {bucket}/{name}")
        self.check_conditions(found, query, operation=operation, prefix="ifSource" if is_source else "if")
        return found

    def check_conditions(
        self, found: DoubleObject | None, query: Mapping[str, str], *, operation: str, prefix: str = "if"
    ) -> None:
        """Refuse a request whose preconditions don't hold; a missing object has generation 0."""
        if operation in self.profile.ignores_conditions:
            return
        generation = str(found.generation) if found else "0"
        wanted, unwanted = query.get(f"{prefix}GenerationMatch"), query.get(f"{prefix}GenerationNotMatch")
        metageneration = query.get(f"{prefix}MetagenerationMatch")
        is_changed = found is not None and metageneration not in (None, str(found.metageneration))
        if wanted not in (None, generation) or unwanted == generation or is_changed:
            raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")

    def store(
        self,
        bucket: str,
        name: str,
        data: bytes,
        resource: Mapping[str, Any],
        query: Mapping[str, str],
        *,
        operation: str = "objects.insert",
    ) -> DoubleObject:
        """Store an object if the preconditions hold, the checksums match, and nothing keeps an object that it replaces."""
        objects = self.objects(bucket)
        self._check_rate(bucket, name)
        self.check_conditions(objects.get(name), query, operation=operation)
        self._check_policy()
        if not self.profile.ignores_checksums:
            _check_checksums(data, resource)
        _check_metadata(resource)
        self._retire(bucket, name)
        kept = {key: resource[key] for key in _KEPT if resource.get(key)}
        made = objects[name] = DoubleObject(data, next(self._generations), kept, datetime.now(UTC).isoformat())
        self._changes[bucket, name] = time.monotonic()
        return made

    def delete(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        """Delete the live object, or one generation of it for good."""
        found = self.find(bucket, name, query, operation="objects.delete")
        self._check_rate(bucket, name)
        if self.objects(bucket).get(name) is found:
            self._retire(bucket, name, is_final="generation" in query)
        else:
            self._check_kept(bucket, name)
            described = self.described[bucket]
            described.noncurrent = [each for each in described.noncurrent if each[1] is not found]
            self._bury(bucket, name, found)
        self._changes[bucket, name] = time.monotonic()

    def move(self, bucket: str, source: str, name: str, query: Mapping[str, str]) -> DoubleObject:
        """Rename an object. Soft delete does not keep it at its old name (Cloud Storage, "Objects: move")."""
        found = self.find(bucket, source, query, operation="objects.move")
        self._check_rate(bucket, source)
        self._check_kept(bucket, source)
        made = self.store(bucket, name, found.data, found.resource, query, operation="objects.move")
        del self.objects(bucket)[source]
        if self.profile_of(bucket).moves_keep_versions:
            self.described[bucket].noncurrent.append((source, found))
        self._changes[bucket, source] = time.monotonic()
        return made

    def note_change(self, bucket: str, name: str) -> None:
        """Note a change of an object's fields.

        Raises:
            Refusal: Another change was too short ago.
        """
        self._check_rate(bucket, name)
        self._changes[bucket, name] = time.monotonic()

    def profile_of(self, bucket: str) -> GCSProfile:
        """The profile that says what a bucket keeps of deleted objects."""
        return self.bucket_profiles.get(bucket, self.profile)

    def _retire(self, bucket: str, name: str, *, is_final: bool = False) -> None:
        """Take away the live object, if there is one; the bucket may keep it as a noncurrent or soft-deleted one."""
        objects = self.objects(bucket)
        if name not in objects:
            return
        if not self.profile_of(bucket).versioned or is_final:
            self._check_kept(bucket, name)
        found = objects.pop(name)
        if self.profile_of(bucket).versioned and not is_final:
            self.described[bucket].noncurrent.append((name, found))
        else:
            self._bury(bucket, name, found)

    def _bury(self, bucket: str, name: str, found: DoubleObject) -> None:
        if self.profile_of(bucket).soft_delete:
            self.described[bucket].soft_deleted.append((name, found))

    def _check_rate(self, bucket: str, name: str) -> None:
        last = self._changes.get((bucket, name))
        if last is not None and time.monotonic() - last < self.profile.seconds_per_change:
            raise Refusal(
                429,
                "rateLimitExceeded",
                f"The object {bucket}/{name} exceeded the rate limit for object mutation operations (create, update, and "
                "delete). Please reduce your request rate. See https://cloud.google.com/storage/docs/gcs429.",
            )

    def _check_policy(self) -> None:
        if self.profile.policy:
            raise Refusal(412, "orgPolicyConstraintFailed", f"Request violates constraint '{self.profile.policy}'")

    def _check_kept(self, bucket: str, name: str) -> None:
        profile = self.profile_of(bucket)
        if profile.retained:
            raise Refusal(
                403,
                "retentionPolicyNotMet",
                f"Object '{bucket}/{name}' is subject to bucket's retention policy or object retention and cannot be "
                "deleted or overwritten until 2099-12-31T00:00:00-08:00",
            )
        if profile.hold:
            raise Refusal(
                403,
                "forbidden",
                f"Object '{bucket}/{name}' is under active {profile.hold} hold and cannot be deleted, overwritten or "
                "archived until hold is removed.",
            )


def checksums_of(data: bytes) -> dict[str, str]:
    """The fields of an object with its checksums."""
    crc32c = google_crc32c.value(data).to_bytes(4, "big")
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return {"crc32c": base64.b64encode(crc32c).decode(), "md5Hash": base64.b64encode(md5).decode()}


def _check_checksums(data: bytes, resource: Mapping[str, Any]) -> None:
    for checksum, computed in checksums_of(data).items():
        given = resource.get(checksum)
        if given not in (None, computed):
            word = "CRC32C" if checksum == "crc32c" else "MD5 hash"
            raise Refusal(400, "invalid", f'Provided {word} "{given}" doesn\'t match calculated {word} "{computed}".')


def _check_metadata(resource: Mapping[str, Any]) -> None:
    metadata = resource.get("metadata") or {}
    if any(not isinstance(value, str) for value in metadata.values()):
        raise Refusal(400, "invalid", "Metadata values must be strings.")
    if sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items()) > MAX_METADATA:
        raise Refusal(400, "invalid", "The metadata is too large.")
