"""Operating-system helpers for local servers: free ports, small HTTP requests, process groups, file locks."""

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lakery_cloud.errors import LakeryCloudError

HOST = "127.0.0.1"
PORTS = range(12_000, 22_000)
"""The range of free ports to choose from. These ports and those 10,000 above them (for SeaweedFS' gRPC) are below Linux'
range for outgoing connections, so no client connection uses them."""
LOG_TAIL_LINES = 30
HTTP_TIMEOUT = 5.0

# Requests to our own machine must not go through a proxy.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EmulatorError(LakeryCloudError, RuntimeError):
    """A local server could not be installed or started; the message has the end of its output."""


class Response(NamedTuple):
    """The response to a small request."""

    status: int
    body: bytes


def clean_environment(*prefixes: str) -> dict[str, str]:
    """Return our environment variables without those for Python, for AWS, and with the given prefixes."""
    unwanted = ("PYTHON", "VIRTUAL_ENV", "AWS_", *prefixes)
    return {key: value for key, value in os.environ.items() if not key.upper().startswith(unwanted)}


def tail(text: str) -> str:
    """Return the last lines of a log, for an error message."""
    return "\n".join(text.rstrip().splitlines()[-LOG_TAIL_LINES:]) or "(empty)"


def free_ports(count: int, *, offset: int = 0) -> list[int]:
    """Choose ports of 127.0.0.1 that are free, and whose neighbours at `offset` are free too.

    Raises:
        EmulatorError: Too few ports are free.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        if can_bind(port) and (not offset or can_bind(port + offset)):
            found.append(port)
    if len(found) < count:
        raise EmulatorError(f"{HOST} has fewer than {count} free ports from {PORTS.start} to {PORTS.stop - 1}")
    return found


def can_bind(port: int) -> bool:
    """Whether the port is free now."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def is_answering(port: int) -> bool:
    """Whether a server listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def http_status(url: str, *, method: str = "GET", data: bytes | None = None) -> int | None:
    """Send one small request and return the status; None without a response."""
    with contextlib.suppress(OSError):
        return http_response(url, method=method, data=data).status
    return None


def http_response(
    url: str, *, method: str = "GET", data: bytes | None = None, content_type: str = "application/octet-stream"
) -> Response:
    """Send one small request.

    Raises:
        OSError: There was no response.
    """
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310, always our own server
    if data is not None:
        request.add_header("Content-Type", content_type)
    try:
        with _opener.open(request, timeout=HTTP_TIMEOUT) as response:
            return Response(response.status, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, error.read())


def end_process_group(process: subprocess.Popen[bytes], *, grace: float) -> None:
    """End a process and its children: SIGTERM, then SIGKILL after `grace` seconds."""
    if grace and process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    # The group exists until its last process has ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock between processes. The system releases it when its holder ends."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file releases the lock
