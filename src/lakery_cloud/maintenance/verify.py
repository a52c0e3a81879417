"""`verify` reads all content of a storage, and finds objects whose bytes don't match the hash in their key."""

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from lakery_cloud.digest import DEFAULT_ALGORITHM
from lakery_cloud.engine.attributes import METADATA_ALGORITHM, METADATA_HASH, METADATA_SIZE
from lakery_cloud.engine.checksums import DIGITS
from lakery_cloud.engine.model import Archived, ObjectInfo
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.reader import UnverifiedRead
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import ConfigError, IntegrityError, NoStorageData
from lakery_cloud.maintenance.jobs import Job, StorageSource
from lakery_cloud.maintenance.known_checksums import Checksums, KnownChecksums, is_same, read_lines
from lakery_cloud.maintenance.shards import EVERYTHING, Shard, ShardResult, listed
from lakery_cloud.streams.hashing import THREAD_THRESHOLD, new_hasher, update_hash
from lakery_cloud.streams.tasks import side_by_side

READS_AT_A_TIME = 32
SHA256_DIGITS = 64


class Problem(StrEnum):
    """A problem of a stored object."""

    DAMAGED = "damaged"
    """The hash of its bytes differs from the hash in its key."""
    TRUNCATED = "truncated"
    """It has fewer bytes than were written."""
    MISPLACED = "misplaced"
    """It is intact, but at the key of other content."""
    CHANGED = "changed"
    """It was replaced during the read, by another program: this library never replaces content."""
    ARCHIVED = "archived"
    """It was not read, since it is archived. Restore it, and verify it then."""
    NOT_COMPARABLE = "not comparable"
    """It was not read, and the store has no checksum to compare with its hash or a known checksum. Verify it by a read."""


@dataclass(frozen=True, slots=True)
class Verified:
    """One object that was read, or whose checksum was compared.

    Attributes:
        info: Its properties in the store.
        content_hash: The hash in its key.
        problem: Its problem, or None if it is intact.
        compared: The algorithms of the checksums that were compared; none if it was read.
    """

    info: ObjectInfo
    content_hash: str
    problem: Problem | None
    compared: tuple[str, ...] = ()


async def verify(
    storage: ObjectStorage[Any],
    *,
    after: str = "",
    at_a_time: int = READS_AT_A_TIME,
    shard: Shard = EVERYTHING,
    since: datetime | None = None,
    by_checksum: bool = False,
    known: Mapping[str, Checksums] = {},
    is_wanted: Callable[[str], bool] = lambda _: True,
) -> AsyncGenerator[Verified]:
    """Read and hash all content of a storage, several objects at a time, in the order of their keys.

    Objects that are deleted during the run are skipped. To resume an earlier run, pass the last content hash that it
    yielded as `after`.

    Args:
        storage: The storage to read. Its temporary keys are skipped.
        after: Skip content up to this hash.
        at_a_time: Number of objects to read at a time.
        shard: The content to read.
        since: Skip content that was written earlier, by the store's clock.
        by_checksum: Read nothing. Compare the checksums that the store or an inventory has with the hash, or else with the
            known checksums.
        known: Content hash -> the checksums of this content.
        is_wanted: Called with each content hash; content for which it returns False is skipped.

    Raises:
        BucketNotFound: The bucket does not exist.
        AccessDenied: The permission to list or read objects is missing.
        CredentialsError: Credentials are missing or refused.
        StorageUnavailable: The store could not be reached, or failed.
    """
    verifier = _Verifier(await storage.transport(), known)
    check = verifier.compare if by_checksum else verifier.check

    async def wanted() -> AsyncGenerator[tuple[str, ObjectInfo]]:
        async with aclosing(listed(storage, shard, described=by_checksum)) as objects:
            async for content_hash, info in objects:
                is_recent = since is None or info.modified is None or info.modified >= since
                if content_hash > after and is_recent and is_wanted(content_hash):
                    yield content_hash, info

    async with aclosing(side_by_side(check, wanted(), limit=at_a_time)) as checked:
        async for verified in checked:
            if verified is not None:
                yield verified


class VerifyJob(Job):
    """`verify` as a job. It counts `objects`, `bytes` and each kind of problem, and reports each object with a problem.

    With `by_checksum` it counts intact objects as `by <algorithm>` too, by the strongest checksum that was compared.

    Args:
        source: The storage to read.
        after: As for `verify`.
        at_a_time: Number of objects of a shard to read at a time.
        since: As for `verify`.
        sample: The share of the objects to read, from 0 to 1.
        seed: Chooses the sample.
        by_checksum: As for `verify`.
        known: The known checksums that `verify` compares.
        reports_all: Report intact objects too.
    """

    def __init__(
        self,
        source: StorageSource,
        *,
        after: str = "",
        at_a_time: int = READS_AT_A_TIME,
        since: datetime | None = None,
        sample: float = 1,
        seed: int = 0,
        by_checksum: bool = False,
        known: KnownChecksums | None = None,
        reports_all: bool = False,
    ) -> None:
        super().__init__(source)
        if known is not None and not by_checksum:
            raise ConfigError("known checksums are only compared with by_checksum")
        if not 0 < sample <= 1:
            raise ConfigError(f"a sample is more than 0 and at most 1, not {sample}")
        self._after, self._at_a_time, self._since = after, at_a_time, since
        self._sample, self._seed, self._reports_all = sample, seed, reports_all
        self._by_checksum = by_checksum
        self._known = known

    def description(self) -> Mapping[str, Any]:
        return {
            "name": "verify",
            "storage": repr(self.storage),
            "after": self._after,
            "since": self._since and self._since.isoformat(),
            "sample": [self._sample, self._seed],
            "reports_all": self._reports_all,
            **({"by_checksum": True} if self._by_checksum else {}),
            **({"known": self._known.fingerprint()} if self._known is not None else {}),
        }

    def payload(self, shard: Shard) -> bytes:
        """The known checksums of a shard."""
        return b"" if self._known is None else "\n".join(self._known.lines_of(shard)).encode()

    async def run(self, shard: Shard, payload: bytes = b"") -> ShardResult:
        counts: Counter[str] = Counter()
        findings = []
        objects = verify(
            self.storage,
            after=self._after,
            at_a_time=self._at_a_time,
            shard=shard,
            since=self._since,
            by_checksum=self._by_checksum,
            known=read_lines(payload.decode().splitlines()),
            is_wanted=self._is_sampled,
        )
        async with aclosing(objects) as checked:
            async for verified in checked:
                counts.update(objects=1, bytes=verified.info.size)
                self.watch(1, verified.info.size)
                if verified.problem is not None:
                    counts[verified.problem] += 1
                elif verified.compared:
                    counts[f"by {verified.compared[0]}"] += 1
                if verified.problem is not None or self._reports_all:
                    findings.append(_finding(verified))
        return ShardResult(shard, counts, findings)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_known": None}

    def _is_sampled(self, content_hash: str) -> bool:
        if self._sample == 1:
            return True
        # Hashed again, since shards and routes go by the first digits of the hash itself.
        drawn = hashlib.blake2b(content_hash.encode(), digest_size=8, key=self._seed.to_bytes(8)).digest()
        return int.from_bytes(drawn) < self._sample * 2**64


def _finding(verified: Verified) -> dict[str, Any]:
    finding = {"content_hash": verified.content_hash, "size": verified.info.size, "problem": verified.problem}
    return finding | ({"compared": list(verified.compared)} if verified.compared else {})


class _Verifier:
    """Reads objects of one storage, or compares their checksums. Most of them have hashes of the same algorithm."""

    def __init__(self, transport: Transport, known: Mapping[str, Checksums]) -> None:
        self._transport = transport
        self._known = known
        self._algorithms = {SHA256_DIGITS: DEFAULT_ALGORITHM}  # by the number of digits

    async def check(self, entry: tuple[str, ObjectInfo]) -> Verified | None:
        """Compare an object with its hash, with one request if it is intact."""
        content_hash, listed_info = entry
        address = listed_info.address
        algorithm = self._algorithms.get(len(content_hash), DEFAULT_ALGORITHM)
        try:
            info, found = await hash_object(self._transport, listed_info, algorithm)
            if found == content_hash:
                return Verified(info, content_hash, None)
            # Only the metadata, which not every response to a read has, tells the algorithm.
            described = await self._transport.head(address)
            if described is None:
                return None
            written_with = described.metadata.get(METADATA_ALGORITHM, DEFAULT_ALGORITHM)
            if written_with != algorithm:
                info, found = await hash_object(self._transport, listed_info, written_with)
                if found == content_hash:
                    self._algorithms[len(content_hash)] = written_with
                    return Verified(info, content_hash, None)
        except IntegrityError:
            return Verified(listed_info, content_hash, Problem.CHANGED)
        except Archived:
            return Verified(listed_info, content_hash, Problem.ARCHIVED)
        except NoStorageData:
            return None
        return Verified(info, content_hash, _problem(described, found))

    async def compare(self, entry: tuple[str, ObjectInfo]) -> Verified | None:
        """Compare the checksums of an object, with one request unless the listing suffices."""
        content_hash, listed_info = entry
        reported, known = _checksums_of(listed_info), self._known.get(content_hash, {})
        if (proof := _proof(content_hash, reported, known)) is not None:
            return Verified(listed_info, content_hash, None, proof)
        info = listed_info
        if METADATA_ALGORITHM not in info.metadata:  # which alone tells the algorithm of the hash
            described = await self._transport.head(info.address)
            if described is None:
                return None
            info, reported = described, {**_checksums_of(described), **reported}
        algorithm = info.metadata.get(METADATA_ALGORITHM, DEFAULT_ALGORITHM)
        if algorithm in reported:
            found = reported[algorithm]
            compared: tuple[str, ...] = (algorithm,)
            problem = None if found == content_hash else _problem(info, found)
        else:
            compared = _common(reported, known)
            is_intact = _agree(reported, known, compared)
            problem = (None if is_intact else _problem(info, "")) if compared else Problem.NOT_COMPARABLE
        written = info.metadata.get(METADATA_SIZE, "")
        if problem is None and written.isdecimal() and int(written) != info.size:
            problem = Problem.TRUNCATED
        return Verified(info, content_hash, problem, compared)


def _proof(content_hash: str, reported: Checksums, known: Checksums) -> tuple[str, ...] | None:
    """The checksums that prove content whatever the algorithm of its hash is; None without any."""
    if (algorithm := next((each for each in reported if reported[each] == content_hash), None)) is not None:
        return (algorithm,)
    may_be_wrong = any(len(checksum) == len(content_hash) for checksum in reported.values())
    compared = () if may_be_wrong else _common(reported, known)
    return compared if compared and _agree(reported, known, compared) else None


def _common(reported: Checksums, known: Checksums) -> tuple[str, ...]:
    """The algorithms that both have, the strongest first."""
    return tuple(each for each in DIGITS if each in reported and each in known)


def _agree(reported: Checksums, known: Checksums, algorithms: Iterable[str]) -> bool:
    return all(is_same(each, reported[each], known[each]) for each in algorithms)


def _checksums_of(info: ObjectInfo) -> dict[str, str]:
    algorithm, _, checksum = (info.content_hash or "").partition(":")
    return {**info.checksums, **({algorithm: checksum} if checksum else {})}


async def hash_object(transport: Transport, listed_info: ObjectInfo, algorithm: str) -> tuple[ObjectInfo, str]:
    """Read an object; return its description and hash. Errors are those of `UnverifiedRead`.

    Args:
        transport: The store.
        listed_info: What a listing says of the object.
        algorithm: The algorithm of the hash.
    """
    hasher, reading = new_hasher(algorithm), UnverifiedRead(transport, listed_info.address)
    if listed_info.size < THREAD_THRESHOLD:
        with suppress(IntegrityError):  # it has another size than in the listing
            hasher.update(await reading.whole(listed_info.size))
            assert reading.info is not None
            return reading.info, hasher.hexdigest()
    async with aclosing(reading.chunks()) as chunks:
        async for chunk in chunks:
            await update_hash(hasher, chunk)
    assert reading.info is not None
    return reading.info, hasher.hexdigest()


def _problem(info: ObjectInfo, found: str) -> Problem:
    if found == info.metadata.get(METADATA_HASH):
        return Problem.MISPLACED
    written = info.metadata.get(METADATA_SIZE, "")
    return Problem.TRUNCATED if written.isdecimal() and info.size < int(written) else Problem.DAMAGED
