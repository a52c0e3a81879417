"""Servers that store almost nothing, so that a measurement shows the client."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Conditions:
    """How a server is reached.

    Attributes:
        tls: Whether by TLS.
        latency: Milliseconds that each answer waits.
        rate: MB/s that one connection carries; 0 is no limit.
        copy_rate: MB/s that the server copies for one request; 0 is no limit.
    """

    tls: bool = False
    latency: float = 0
    rate: float = 0
    copy_rate: float = 0


@dataclass(frozen=True)
class Running:
    """A running server.

    Attributes:
        url: Where it listens.
        certificate: The certificate to trust, where it speaks TLS.
        pid: Its process.
    """

    url: str
    certificate: Path | None
    pid: int


@contextmanager
def null_server(api: str, conditions: Conditions = Conditions()) -> Iterator[Running]:
    """A null server in a process of its own, on a free port of 127.0.0.1."""
    with tempfile.TemporaryDirectory(prefix="null-server-") as folder:
        command = [sys.executable, "-m", "benchmarks.null_server", "--api", api]
        command += ["--latency", str(conditions.latency), "--rate", str(conditions.rate)]
        command += ["--copy-rate", str(conditions.copy_rate)]
        certificate = None
        if conditions.tls:
            from benchmarks.null_server.certificates import make_certificate

            certificate, shown = make_certificate(Path(folder))
            command += ["--certificate", str(shown)]
        process = subprocess.Popen(  # noqa: S603, our own module
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"the null server ended with exit code {process.wait()}")
            yield Running(url, certificate, process.pid)
        finally:
            process.stdin.close()
            process.wait(10)
            process.stdout.close()
