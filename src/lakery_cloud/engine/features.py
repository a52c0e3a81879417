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
        try:
            return await send(self.supported)
        except Unsupported as refusal:
            return await self._send_without(send, optional, refusal, frozenset())

    async def _send_without(
        self, send: Send[T], optional: Sequence[str], refusal: Unsupported, refused: frozenset[str]
    ) -> T:
        reason = refusal
        sent = [name for name in optional if name in self.supported - refused]
        if refusal.headers:
            trials = [{name} for name in sent if any(header.startswith(name) for header in refusal.headers)]
        else:
            trials = [*({name} for name in sent), *([set(sent)] if len(sent) > 1 else [])]
        for trial in trials:
            without = refused | trial
            try:
                result = await send(self.supported - without)
            except Unsupported as another:
                if refusal.headers:
                    return await self._send_without(send, optional, another, without)
                reason = another if another.headers else reason
                continue
            self.supported -= without
            return result
        raise reason
