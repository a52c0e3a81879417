"""What servers need of the system: free ports, small requests, process groups that end with all they started."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import NamedTuple

from lakery_cloud.errors import LakeryCloudError

HOST = "127.0.0.1"
PORTS = range(12_000, 22_000)
"""Where free ports are looked for: these and the ports 10,000 above (SeaweedFS' gRPC) lie below Linux'
range for outgoing connections, so that no client connection takes them."""
LOG_TAIL_LINES = 30
HTTP_TIMEOUT = 5.0

# Proxies are for the world outside; a check of our own machine must not go through one.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EmulatorError(LakeryCloudError, RuntimeError):
    """A local server could not be installed or started; the message holds the tail of what it said."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    body: bytes


def clean_environment(*prefixes: str) -> dict[str, str]:
    """Our environment without what would change another Python, AWS settings, and the given prefixes."""
    unwanted = ("PYTHON", "VIRTUAL_ENV", "AWS_", *prefixes)
    return {key: value for key, value in os.environ.items() if not key.upper().startswith(unwanted)}


def tail(text: str) -> str:
    """The last lines of a log, for an error message."""
    return "\n".join(text.rstrip().splitlines()[-LOG_TAIL_LINES:]) or "(empty)"


def free_ports(count: int, *, offset: int = 0) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, each with its neighbour at `offset`.

    Raises:
        EmulatorError: There are not enough of them.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        if can_bind(port) and (not offset or can_bind(port + offset)):
            found.append(port)
    if len(found) < count:
        raise EmulatorError(f"{HOST} has no {count} free ports between {PORTS.start} and {PORTS.stop - 1}")
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
    """Whether anyone listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def http_status(url: str, *, method: str = "GET", data: bytes | None = None) -> int | None:
    """The status of one small request, or None if nobody answered."""
    with contextlib.suppress(OSError):
        return http_answer(url, method=method, data=data).status
    return None


def http_answer(
    url: str, *, method: str = "GET", data: bytes | None = None, content_type: str = "application/octet-stream"
) -> Answer:
    """Status and body of one small request.

    Raises:
        OSError: Nobody answered.
    """
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310, always our own server
    if data is not None:
        request.add_header("Content-Type", content_type)
    try:
        with _opener.open(request, timeout=HTTP_TIMEOUT) as response:
            return Answer(response.status, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())


def end_process_group(process: subprocess.Popen[bytes], *, grace: float) -> None:
    """End a process and all that it started: SIGTERM, `grace` seconds, SIGKILL."""
    if grace and process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    _kill_group(process)
    process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if sys.platform == "win32":
        process.terminate()
    else:
        # The group outlives its leader as long as a child is left; when all are gone there is nothing to do.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
