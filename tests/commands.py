"""The `lakery-cloud` command, and scripts, in processes that start at once: forks of one process that has imported them.

Imports take most of the time of a command. Each run of pytest has one such process, which ends with it.
"""

import atexit
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

PROGRAM = """
import atexit, gc, importlib, json, os, socket, sys, threading, types

importlib.import_module("lakery_cloud.cli.main").app.resolved_commands()
for name in (
    *("config.building", "providers.file", "providers.s3.sdk", "providers.s3.storage", "providers.gcs.storage"),
    *("providers.azure.storage", "testing.calls", "testing.wire"),
):
    importlib.import_module(f"lakery_cloud.{name}")
# What the SDK reads to make a client of S3 takes as long as all else in a command.
sdk = sys.modules["lakery_cloud.providers.s3.sdk"]
sdk._load_descriptions(sdk.new_session(None))
gc.freeze()  # so that the forks share its memory
orders = socket.socket(fileno=int(sys.argv[1]))
while True:
    order, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 3)
    if not order:
        sys.exit()
    while not order.endswith(b"\\n"):
        order += orders.recv(1 << 20)
    if not os.fork():
        break
    for descriptor in descriptors:
        os.close(descriptor)
    orders.send(b"%d\\n" % os.waitstatus_to_exitcode(os.wait()[1]))

orders.close()
for target, descriptor in enumerate(descriptors):
    os.dup2(descriptor, target)
    os.close(descriptor)
given = json.loads(order)
os.umask(given["umask"])
os.chdir(given["folder"])
os.environ.clear()
os.environ.update(given["environment"])
encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8:strict").partition(":")
for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
    setattr(sys, name, open(number, mode, encoding=encoding, errors=errors, closefd=False))
sys.stderr.reconfigure(line_buffering=True)
sys.argv[:] = ["lakery-cloud", *given["arguments"]]
code = 0
try:
    if given["script"]:
        sys.modules["__main__"] = module = types.ModuleType("__main__")
        exec(compile(given["script"], "<script>", "exec"), vars(module))
    else:
        importlib.import_module("lakery_cloud.cli.main").main()
except SystemExit as end:
    code = end.code or 0
# What an interpreter does at its end, but without taking all modules apart, which takes longer than most commands.
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""


class Forks:
    """The process that has imported the command. It runs one command at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", PROGRAM, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        atexit.register(self._end)

    def _end(self) -> None:
        self._orders.close()
        self._process.wait()

    def run(
        self,
        arguments: list[str],
        *,
        folder: str,
        environment: Mapping[str, str],
        data: bytes = b"",
        script: str = "",
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command, or a script, with the bytes on its standard input."""
        umask = os.umask(0)
        os.umask(umask)
        order = {"arguments": arguments, "folder": folder, "environment": dict(environment), "umask": umask}
        order["script"] = script
        (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
        with self._lock, ThreadPoolExecutor(3) as threads:
            threads.submit(_write, to_stdin, data)
            output, errors = threads.submit(_read, from_stdout), threads.submit(_read, from_stderr)
            try:
                socket.send_fds(self._orders, [json.dumps(order).encode() + b"\n"], [stdin, stdout, stderr])
            finally:
                for descriptor in (stdin, stdout, stderr):
                    os.close(descriptor)
            code = int(self._orders.recv(100))
            return subprocess.CompletedProcess(arguments, code, output.result(), errors.result())


def _write(descriptor: int, data: bytes) -> None:
    with suppress(BrokenPipeError), open(descriptor, "wb") as file:
        file.write(data)


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


forks = functools.cache(Forks)
