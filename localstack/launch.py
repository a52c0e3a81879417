"""Runs LocalStack in the foreground without Docker: `python localstack/launch.py --bucket lakery-test`.

It installs LocalStack into the user's cache on its first run, and keeps no data.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence

import boto3
from botocore.config import Config

from lakery_cloud.emulators import EmulatorError, LocalStack

WAIT_STEP = 1.0
"""Seconds between two looks for a signal, where waiting for a process can't be interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start LocalStack, make the buckets, and wait for Ctrl-C."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an ordinary kill stops it as cleanly as Ctrl-C
    server = LocalStack(port=options.port)
    try:
        server.install(report=tell)
        with server:
            make_buckets(server, options.bucket)
            describe(server)
            return run(server)
    except EmulatorError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        tell("stopped")
        return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run LocalStack's S3 without Docker until Ctrl-C.")
    parser.add_argument("--port", type=int, default=4566, help="port of 127.0.0.1 to listen on (4566)")
    parser.add_argument("--bucket", action="append", default=[], help="bucket to make; may be given several times")
    return parser.parse_args(arguments)


def make_buckets(server: LocalStack, buckets: Sequence[str]) -> None:
    """Make each bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        region_name=server.region,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
        tell(f"made bucket {bucket}")


def describe(server: LocalStack) -> None:
    """Print where the server is and what points other programs to it."""
    print(f"LocalStack {server.version} listens on {server.endpoint_url}\n")
    for name, value in server.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"export LAKERY_CLOUD_LOCALSTACK_URL={shlex.quote(server.endpoint_url)}\n")
    print("Ctrl-C stops it and forgets its data.", flush=True)


def run(server: LocalStack) -> int:
    """Wait until LocalStack ends; Ctrl-C interrupts."""
    while (code := server.wait(WAIT_STEP)) is None:
        pass
    tell(f"LocalStack ended by itself with exit code {code}")
    return 1


def tell(message: str) -> None:
    """Say what goes on, beside the output that may be evaluated by a shell."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
