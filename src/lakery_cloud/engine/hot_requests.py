"""The fast lane: hot requests sent as they are, without an SDK's call around them. It knows no cloud and no SDK.

The first request of each kind to a bucket goes the SDK's way, and the lane learns from what the SDK sent. It takes plain
successes, and hands everything else to the SDK's own call, as the outcome of that call's first attempt: so attempts are
counted together, and retries, redirects, refreshed credentials and errors stay the SDK's.
"""

import abc
import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import SplitResult

from lakery_cloud.http.connection import HTTPError, UnsupportedResponse
from lakery_cloud.http.pool import Answer, ConnectionPool, Origin, Sockets

logger = logging.getLogger("lakery_cloud")

MAX_WAIT = 0.1
"""Seconds that a call waits for what another one is about to learn."""
MAX_IN_VAIN = 5
"""Calls of one kind that may teach nothing, before the SDK is left alone with them."""
MAX_ERROR = 1024 * 1024
"""Bytes of an answer that is no object; those of errors are less than 10 KiB."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BufferedResponse:
    """An answer in full, for the SDK.

    Attributes:
        status: Its status.
        headers: Name in lower case -> value.
        body: Its body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        """The body, as HTTP libraries give it out."""
        return self.body


Outcome = BufferedResponse | HTTPError


@dataclass(slots=True)
class SDKCall:
    """A call of the SDK, as its HTTP session sees it.

    Attributes:
        first: The outcome of its first attempt, where the lane has made that.
        sent: The last request that it sent, or would have sent.
        sender: The HTTP session.
    """

    first: Outcome | None = None
    sent: Any = None
    sender: Any = None

    def note(self, request: Any, sender: Any) -> None:
        """Note a request that the SDK wants to send."""
        self.sent, self.sender = request, sender

    def take_first(self) -> Outcome | None:
        """The outcome of this attempt, if it was made already."""
        first, self.first = self.first, None
        return first


current_call: ContextVar[SDKCall | None] = ContextVar("lakery_cloud_sdk_call", default=None)
"""Where the SDK's HTTP session finds the call that it is part of."""


class Unusual(Exception):
    """The SDK does what the lane can't; the message says what."""


class NotNow(Exception):
    """Nothing can be learned from what the SDK sent; perhaps from the next call."""


class FastLane(abc.ABC, Generic[R]):
    """Hot operations of one client, on one event loop. A provider says how they are written, signed and read.

    Args:
        sockets: Makes the sockets, and those of the SDK.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for the next bytes of an answer.
    """

    elsewhere: ClassVar[frozenset[int]] = frozenset()
    """Statuses after which the lane must learn anew where requests go."""

    def __init__(self, *, sockets: Sockets, connect_timeout: float, read_timeout: float) -> None:
        self._sockets = sockets
        self._timeouts = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
        self._connections: dict[Origin, ConnectionPool] = {}
        self._routes: dict[tuple[str, str], R | None] = {}
        self._learning: dict[tuple[str, str], asyncio.Event] = {}
        self._in_vain: Counter[tuple[str, str]] = Counter()

    @abc.abstractmethod
    async def _send(self, route: R, operation: str, parameters: Mapping[str, Any]) -> Answer | None:
        """Write, sign and send a request; None where that can't be done here."""

    @abc.abstractmethod
    async def _read(self, operation: str, answer: Answer) -> Any:
        """What the SDK's call would return; None if the answer is no plain success, and then it is still open.

        Raises:
            UnsupportedResponse: It is a success that isn't plain. It is closed.
        """

    @abc.abstractmethod
    async def _route(self, call: SDKCall, parameters: Mapping[str, Any]) -> R:
        """What is learned from a call of the SDK.

        Raises:
            Unusual, NotNow: See there.
        """

    def _raise_plain(self, operation: str, refusal: BufferedResponse) -> None:
        """Raise what the SDK would raise of a refusal that the algorithm meets every day."""

    async def call(
        self, operation: str, bucket: str, parameters: Mapping[str, Any], *, ask: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Do an operation.

        Args:
            operation: Its name.
            bucket: Where.
            parameters: Those of the SDK's call.
            ask: Makes the SDK's call.
        """
        place = operation, bucket
        if place in self._learning:
            # Many calls that begin at once need not all go the SDK's way.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._learning[place].wait(), MAX_WAIT)
        if place not in self._routes and place not in self._learning:
            return await self._learn(place, parameters, ask, SDKCall())
        route = self._routes.get(place)
        if route is None:
            return await ask()
        try:
            answer = await self._send(route, operation, parameters)
            if answer is None:
                return await ask()
            found = await self._read(operation, answer)
            if found is not None:
                return found
            first: Outcome = await held(answer)
        except HTTPError as error:
            first = error
        except UnsupportedResponse as odd:
            self._leave(place, str(odd))
            return await ask()
        if isinstance(first, BufferedResponse):
            self._raise_plain(operation, first)
            if first.status in self.elsewhere:
                return await self._learn(place, parameters, ask, SDKCall(first))
        return await _within(SDKCall(first), ask)

    def close(self) -> None:
        """Close the connections."""
        for connections in self._connections.values():
            connections.close()
        self._connections.clear()
        self._routes.clear()

    def _connections_to(self, url: SplitResult, tls: ssl.SSLContext | None) -> ConnectionPool:
        """The connections to where a URL leads.

        Raises:
            Unusual: It holds credentials, or certificates are not to be checked.
        """
        is_tls = url.scheme == "https"
        if "@" in url.netloc:
            raise Unusual("there are credentials in the URL")
        if is_tls and tls is None:
            raise Unusual("certificates are not checked")
        origin = Origin(url.hostname or "", url.port or (443 if is_tls else 80), is_tls)
        if origin not in self._connections:
            self._connections[origin] = ConnectionPool(origin, tls=tls, sockets=self._sockets, **self._timeouts)
        return self._connections[origin]

    async def _learn(
        self,
        place: tuple[str, str],
        parameters: Mapping[str, Any],
        ask: Callable[[], Awaitable[Any]],
        call: SDKCall,
    ) -> Any:
        """Ask the SDK, and learn from what it sent where the answer is what was wanted."""
        learned = self._learning[place] = asyncio.Event()
        try:
            answer = await _within(call, ask)
            try:
                self._routes[place] = await self._route(call, parameters)
            except Unusual as reason:
                self._leave(place, str(reason))
            except NotNow:
                self._routes.pop(place, None)
                self._in_vain[place] += 1
                if self._in_vain[place] == MAX_IN_VAIN:
                    self._leave(place, "nothing can be learned from what the SDK sends")
        finally:
            if self._learning.get(place) is learned:
                del self._learning[place]
            learned.set()
        return answer

    def _leave(self, place: tuple[str, str], reason: str) -> None:
        self._routes[place] = None
        logger.info("%s in bucket %r goes without the fast lane: %s", *place, reason)


async def _within(call: SDKCall, ask: Callable[[], Awaitable[Any]]) -> Any:
    token = current_call.set(call)
    try:
        return await ask()
    finally:
        current_call.reset(token)


async def held(answer: Answer) -> BufferedResponse:
    """The whole of an answer that is no object."""
    try:
        return BufferedResponse(answer.status, answer.headers, await answer.read_all(MAX_ERROR))
    finally:
        answer.close()
