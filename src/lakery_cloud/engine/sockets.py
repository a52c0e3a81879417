"""Sockets that notice when what they send is not taken, and that know how many they are: HTTP clients do neither."""

import socket
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

AddressInfo = tuple[int, int, int, str, Sequence[Any]]
"""What `socket.getaddrinfo` says of one address."""


class Sockets:
    """Makes the TCP sockets of one client: those of its SDK, and those of the fast lane.

    A socket breaks when the other side takes nothing of what is sent for a while. Linux counts that for each connection
    (tcp(7), TCP_USER_TIMEOUT). Other systems give up later, by rules of their own.

    Args:
        limit: How many may be open, of which the idle ones of the fast lane are closed first.
        seconds: How long the other side may take nothing.

    Attributes:
        spare: Each closes a connection that nobody needs, and says whether there was one.
    """

    def __init__(self, *, limit: int, seconds: float) -> None:
        self.spare: list[Callable[[], bool]] = []
        self._limit = limit
        self._milliseconds = round(seconds * 1000)
        self._made: WeakSet[socket.socket] = WeakSet()

    @property
    def are_too_many(self) -> bool:
        """Whether more are open than may be."""
        return len(self._made) > self._limit and sum(made.fileno() >= 0 for made in self._made) > self._limit

    def forget(self, made: socket.socket) -> None:
        """Count a socket no more, which is about to be closed."""
        self._made.discard(made)

    def make(self, address: AddressInfo) -> socket.socket:
        """A socket that is about to be connected."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._milliseconds)
        self._made.add(made)
        if self.are_too_many:
            any(close() for close in self.spare)
        return made
