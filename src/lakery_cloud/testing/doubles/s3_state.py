"""The state of a double of S3: buckets, versions of objects, unfinished uploads."""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lakery_cloud.testing.doubles.s3_profiles import S3Profile


class Refusal(Exception):
    """An error response.

    Args:
        status: HTTP status.
        code: S3's code.
        message: S3's message.
        condition: The condition that failed.
        region: The region of the bucket.
    """

    def __init__(self, status: int, code: str, message: str = "", *, condition: str = "", region: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.condition = condition
        self.region = region


@dataclass(slots=True)
class DoubleVersion:
    """One version of an object.

    Attributes:
        data: Its bytes; None for a delete marker.
        headers: The headers that were stored with it.
        tags: Its tags.
        version_id: Name of the version.
        modified: Time of the write.
        etag: Its ETag, with quotes.
        checksums: The checksums that the store has computed, as headers.
    """

    data: bytes | None
    headers: Mapping[str, str]
    tags: Mapping[str, str]
    version_id: str
    modified: datetime
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class DoubleUpload:
    """A multipart upload.

    Attributes:
        key: Key of its object.
        headers: The headers that are stored with the object.
        tags: The object's tags.
        has_checksums: Whether it was begun with a checksum algorithm.
        is_whole: Whether that is a checksum of the whole object.
        begun: Its beginning.
        parts: Number -> bytes.
        made: The object, once the upload is completed.
    """

    key: str
    headers: Mapping[str, str]
    tags: Mapping[str, str]
    has_checksums: bool
    is_whole: bool
    begun: datetime
    parts: dict[int, bytes] = field(default_factory=dict)
    made: DoubleVersion | None = None


class S3State:
    """The contents of a double.

    Attributes:
        profile: The store that the double behaves as.
        bucket_profiles: Bucket -> another profile, of which the bucket has versions and locks.
        buckets: Bucket -> key -> versions, the newest last.
        uploads: Bucket -> id -> upload.
        lifecycle: Bucket -> its lifecycle configuration, in XML.
    """

    def __init__(self, profile: S3Profile) -> None:
        self.profile = profile
        self.bucket_profiles: dict[str, S3Profile] = {}
        self.buckets: dict[str, dict[str, list[DoubleVersion]]] = {}
        self.uploads: dict[str, dict[str, DoubleUpload]] = {}
        self.lifecycle: dict[str, bytes] = {}
        self._numbers = itertools.count(1)

    def profile_of(self, bucket: str) -> S3Profile:
        """The profile whose versions and locks a bucket has."""
        return self.bucket_profiles.get(bucket, self.profile)

    def make_bucket(self, bucket: str, profile: S3Profile | None = None) -> None:
        """Make a bucket."""
        if profile is not None:
            self.bucket_profiles[bucket] = profile
        self.buckets.setdefault(bucket, {})
        self.uploads.setdefault(bucket, {})

    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket with all that is in it."""
        del self.buckets[bucket], self.uploads[bucket]
        self.lifecycle.pop(bucket, None)

    def current(self, bucket: str, key: str) -> DoubleVersion | None:
        """The current version of an object; None if it does not exist."""
        versions = self.buckets.get(bucket, {}).get(key)
        return versions[-1] if versions and versions[-1].data is not None else None

    def find(self, bucket: str, key: str, version_id: str | None = None) -> DoubleVersion:
        """A version of an object, by default the current one.

        Raises:
            Refusal: It does not exist.
        """
        if bucket not in self.buckets:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        found = self.current(bucket, key)
        if version_id is not None:
            versions = self.buckets[bucket].get(key, ())
            found = next((each for each in versions if each.version_id == version_id), None)
            if found is not None and found.data is None:
                raise Refusal(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        if found is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        return found

    def store(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        headers: Mapping[str, str],
        tags: Mapping[str, str],
        etag: str = "",
        checksums: Mapping[str, str],
    ) -> DoubleVersion:
        """Make a new version of an object."""
        etag = etag or etag_of(data)
        made = DoubleVersion(data, headers, tags, self.number(), datetime.now(UTC), etag, checksums)
        self._add(bucket, key, made)
        return made

    def delete(self, bucket: str, key: str, version_id: str | None = None) -> DoubleVersion | None:
        """Delete a version, or the object; return the delete marker that this makes."""
        versions = self.buckets[bucket].get(key, [])
        if version_id is not None:
            found = [each for each in versions if each.version_id == version_id]
            if self.profile_of(bucket).locked and found and found[0].data is not None:
                raise Refusal(403, "AccessDenied", "Access Denied because object protected by object lock.")
            versions[:] = [each for each in versions if each not in found]
            marker = None
        elif self.profile_of(bucket).versioned:
            marker = DoubleVersion(None, {}, {}, self.number(), datetime.now(UTC), "")
            self._add(bucket, key, marker)
        else:
            versions.clear()
            marker = None
        if not self.buckets[bucket].get(key, [marker]):
            del self.buckets[bucket][key]
        return marker

    def _add(self, bucket: str, key: str, made: DoubleVersion) -> None:
        versions = self.buckets[bucket].setdefault(key, [])
        if not self.profile_of(bucket).versioned:
            versions.clear()
        versions.append(made)

    def number(self) -> str:
        """A new name, for a version or an upload."""
        return f"n{next(self._numbers):08d}"


def etag_of(data: bytes) -> str:
    """The ETag of an object that was stored by one request."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
