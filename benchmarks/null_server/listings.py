"""Pages of listings, the same for each API: keys with a prefix, grouped by a delimiter, a limited number at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.null_server.objects import Stored
from benchmarks.null_server.simulated import SimulatedObjects

LARGEST_PAGE = 1000
"""Entries of a page (S3 API Reference, "ListObjectsV2"; Cloud Storage and Blob Storage allow as many or more)."""


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing.

    Attributes:
        objects: Keys and their objects.
        folders: Common prefixes of further keys.
        after: Last key or folder of the page, if another page follows.
    """

    objects: list[tuple[str, Stored]]
    folders: list[str]
    after: str | None


def page_of(
    objects: Mapping[str, Stored], *, prefix: str = "", delimiter: str = "", after: str = "", limit: str | None = None
) -> Page:
    """Return the entries after a key or folder."""
    left = min(int(limit or LARGEST_PAGE), LARGEST_PAGE)
    page, last = Page([], [], None), after
    for key in _keys(objects, prefix, after):
        folder, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        entry = prefix + folder + found if found else key
        if found and (entry == after or page.folders[-1:] == [entry]):
            continue
        if not left:
            return Page(page.objects, page.folders, last)
        if found:
            page.folders.append(entry)
        else:
            page.objects.append((key, objects[key]))
        left, last = left - 1, entry
    return page


def _keys(objects: Mapping[str, Stored], prefix: str, after: str) -> Iterable[str]:
    """Return the keys after a key, in their order."""
    if isinstance(objects, SimulatedObjects):
        return objects.keys_after(prefix, after)
    return sorted(key for key in objects if key.startswith(prefix) and key > after)
