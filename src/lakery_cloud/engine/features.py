"""The optional headers of requests: a store that refuses one gets the request without it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from lakery_cloud.engine.model import Unsupported

T = TypeVar("T")

Send = Callable[[frozenset[str]], Awaitable[T]]
"""Sends a request with those of its optional headers that are in the set."""


class Features:
    """The optional headers that an endpoint supports: all, until it refuses one.

    Args:
        supported: Names of headers in lower case, or what several names start with.

    Attributes:
        supported: The same, without the headers that the endpoint has refused.
    """

    def __init__(self, supported: Iterable[str]) -> None:
        self.supported = frozenset(supported)

    async def adapt(self, send: Send[T], optional: Sequence[str]) -> T:
        """Send a request with the headers that the endpoint supports, and again without those that it refuses.

        A refusal may name the header. If it names none, each header is left out in turn, then all of them. Later requests
        change only after a request has succeeded without a header.

        Args:
            send: Sends the request.
            optional: Its optional headers.

        Raises:
            Unsupported: The endpoint refuses something else in the request.
        """
        supported = self.supported
        try:
            return await send(supported)
        except Unsupported as refusal:
            if self.supported != supported:  # another request has learned more meanwhile
                return await self.adapt(send, optional)
            return await self._send_without(send, optional, refusal, supported)

    async def _send_without(
        self,
        send: Send[T],
        optional: Sequence[str],
        refusal: Unsupported,
        supported: frozenset[str],
        refused: frozenset[str] = frozenset(),
    ) -> T:
        """Send a request again after a refusal. Only success says what the endpoint does not support."""
        sent = [name for name in optional if name in supported - refused]
        if refusal.headers:
            trials = [{name} for name in sent if any(header.startswith(name) for header in refusal.headers)]
        else:
            trials = [*({name} for name in sent), *([set(sent)] if len(sent) > 1 else [])]
        named = refusal
        for trial in trials:
            without = refused | trial
            try:
                result = await send(supported - without)
            except Unsupported as another:
                if refusal.headers:
                    return await self._send_without(send, optional, another, supported, without)
                named = another if another.headers else named
                continue
            self.supported -= without
            return result
        raise named
