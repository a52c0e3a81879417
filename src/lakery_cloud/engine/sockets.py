"""Sockets that notice when what they send is not taken: HTTP clients have time-outs for answers only."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

AddressInfo = tuple[int, int, int, str, Sequence[Any]]
"""What `socket.getaddrinfo` says of one address."""


def socket_factory(seconds: float) -> Callable[[AddressInfo], socket.socket]:
    """Makes TCP sockets that break when the other side takes nothing of what is sent for so many seconds.

    Linux counts that for each connection (tcp(7), TCP_USER_TIMEOUT). Other systems give up later, by rules of their own.

    Args:
        seconds: How long.
    """

    def make(address: AddressInfo) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
        return made

    return make
