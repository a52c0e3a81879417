"""Listings by pages. A store that repeats a page ends in an error, not in an endless loop."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from lakery_cloud.engine.keys import Address
from lakery_cloud.errors import StorageUnavailable

T = TypeVar("T")
Token = TypeVar("Token")


async def in_pages(
    read: Callable[[Token | None], Awaitable[tuple[Iterable[T], Token | None]]], address: Address
) -> AsyncIterator[T]:
    """The entries of a listing.

    Args:
        read: Reads a page by its token, the first one without: its entries, and the token of the next page or None.
        address: What is listed, for messages.

    Raises:
        StorageUnavailable: A page has the token of an earlier one, so that the listing would never end.
    """
    token: Token | None = None
    seen: set[int] = set()
    while True:
        entries, token = await read(token)
        for entry in entries:
            yield entry
        if token is None:
            return
        if (mark := hash(token)) in seen:
            raise StorageUnavailable(
                f"listing {address} does not end: the store sent the token of an earlier page. Check that endpoint_url is "
                "this store's API, and that no proxy changes its responses"
            )
        seen.add(mark)
