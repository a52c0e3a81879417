"""Buckets that pretend to hold any number of objects: their keys are made from their numbers, so they need no memory."""

from collections.abc import Iterator

from benchmarks.null_server.objects import Stored

PREFIX = "simulated-"
"""A bucket of this name and a number pretends to hold so many objects."""
SIZE = 1024
DIGITS = 64

_STORED = Stored(SIZE, None, {})


class SimulatedObjects(dict[str, Stored]):
    """Objects whose keys are evenly spread hashes. Those that a client writes are kept beside them, and not listed.

    Args:
        number: The number of objects.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def __len__(self) -> int:
        return self._number

    def keys_after(self, prefix: str, after: str) -> Iterator[str]:
        """Return the keys that begin with a prefix and follow a key, in their order."""
        first = self._number_of(prefix) if prefix > after else self._number_of(after)
        for number in range(first, self._number):
            key = key_of(number, self._number)
            if not key.startswith(prefix):
                return
            if key > after:
                yield key

    def __getitem__(self, key: str) -> Stored:
        return super().get(key, _STORED)

    def _number_of(self, text: str) -> int:
        """Return the number of the first key that is not before a text."""
        try:
            value = int(text[:DIGITS].ljust(DIGITS, "0"), 16)
        except ValueError:  # no hash: only the folder of quarantine is asked for, which is before all of them
            return self._number
        return -(-value * self._number // 16**DIGITS)


def key_of(number: int, of: int) -> str:
    """Return a key by its number."""
    return f"{number * 16**DIGITS // of:064x}"


def objects_of(bucket: str) -> dict[str, Stored]:
    """Return the objects of a new bucket."""
    return SimulatedObjects(int(bucket.removeprefix(PREFIX))) if bucket.startswith(PREFIX) else {}


def live_keys(number: int, *, every: int) -> Iterator[str]:
    """Return each so-manieth key, as records that name some of the content."""
    return (key_of(position, number) for position in range(0, number, every))
