"""A null server as a process: it prints its address, and serves until its standard input ends."""

import argparse
import asyncio
import gc
import ssl
import sys
from pathlib import Path

from benchmarks.null_server.azure import Azure
from benchmarks.null_server.gcs import GCS
from benchmarks.null_server.s3 import S3
from benchmarks.null_server.wire import Connection

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

DIALECTS: dict[str, type[S3]] = {
    "s3": S3,
    "start": S3,
    "gcs": GCS,
    "start-gcs": GCS,
    "azure": Azure,
    "start-azure": Azure,
}


async def serve(options: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    dialect = DIALECTS[options.api]()
    tls = None
    if options.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)
    rates = {"rate": options.rate * 1e6, "copy_rate": options.copy_rate * 1e6}
    server = await loop.create_server(
        lambda: Connection(dialect, latency=options.latency / 1000, **rates),
        "127.0.0.1",
        0,
        ssl=tls,
        backlog=4096,
    )
    host, port = server.sockets[0].getsockname()
    print(f"{'https' if tls else 'http'}://{host}:{port}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_server", description=__doc__)
    parser.add_argument("--api", choices=DIALECTS, default="s3")
    parser.add_argument("--latency", type=float, default=0, help="milliseconds that each answer waits")
    parser.add_argument("--rate", type=float, default=0, help="MB/s that each connection carries; 0 is no limit")
    parser.add_argument("--copy-rate", type=float, default=0, help="MB/s of a copy for one request; 0 is no limit")
    parser.add_argument("--certificate", type=Path, help="certificate and key; speaks TLS")
    options = parser.parse_args()
    gc.freeze()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
