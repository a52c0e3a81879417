"""`emulators list|up|down|env`: local servers for S3, Cloud Storage and Blob Storage without Docker or an account."""

import json
import selectors
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lakery_cloud.cli.common import Json, Quiet, Repeated
from lakery_cloud.emulators import EMULATORS
from lakery_cloud.emulators.background import client_settings, state
from lakery_cloud.emulators.background.launch import Launch
from lakery_cloud.emulators.background.state import Running
from lakery_cloud.emulators.emulator import check_bucket_name
from lakery_cloud.engine.urls import nearest
from lakery_cloud.errors import ConfigError

DEFAULT_BUCKET = "lakery"
LARGEST_PORT = 65_535

app = App(name="emulators")


@app.command(name="list")
def list_(*, quiet: Quiet = False, as_json: Json = False) -> None:
    """List the available servers, whether they are installed, and where they run.

    Example: `lakery-cloud emulators list`

    Args:
        quiet: Print only the names of the running servers.
        as_json: Print JSON, one object a line.
    """
    for name, kind in EMULATORS.items():
        server, running = kind(), state.find(name)
        if as_json:
            facts = {"name": name, "api": kind.api, "version": server.release, "installed": server.is_installed}
            print(json.dumps({**facts, "running": running and running.to_dict()}))
        elif quiet:
            if running:
                print(name)
        else:
            installed = "installed" if server.is_installed else "not installed"
            print(f"{name:<10}  {kind.api:<13}  {server.release:<7}  {installed:<13}  {_describe(running)}".rstrip())


@app.command
def up(
    *names: str,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    port: Repeated = (),
    bucket: Annotated[Repeated, Parameter(name=["--bucket", "-b"])] = (),
    detach: Annotated[bool, Parameter(name=["--detach", "-d"], negative="")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Start servers, create buckets on them, and print the configuration that points to them.

    Servers are installed on first use, listen on 127.0.0.1 only, and lose their data when they stop. Ctrl-C stops them.

    Example: `lakery-cloud emulators up moto --bucket my-bucket`

    Args:
        names: moto, localstack, seaweedfs, ministack, fake-gcs, azurite.
        every: Start all servers.
        port: Port to listen on, as NAME=PORT, or PORT for a single server; repeat it for more servers. Defaults to a free
            port.
        bucket: Bucket to create on each server; repeat it for more buckets. Defaults to one named lakery.
        detach: Return when the servers are ready, and keep them running until `emulators down`.
        as_json: Print JSON, one object a line.
        quiet: Show no progress and no configuration.
    """
    chosen = _chosen(names, every=every)
    if not chosen:
        raise ConfigError(f"no server given; name some of {', '.join(EMULATORS)}, or add --all")
    ports = _ports(port, chosen)
    buckets = [check_bucket_name(each) for each in dict.fromkeys(bucket)] or [DEFAULT_BUCKET]
    print_note = _note_printer(quiet=quiet)
    present = {running.name: running for running in map(state.find, chosen) if running is not None} if detach else {}
    _check_ports_of_running(present, ports)
    starting = [name for name in chosen if name not in present]
    _install(starting, quiet=quiet)
    with ExitStack() as stack:
        launches = [
            stack.enter_context(Launch(name, port=ports.get(name), buckets=buckets, background=detach))
            for name in starting
        ]
        started = {launch.name: launch.ready() for launch in launches}
        servers = [started.get(name) or _add_buckets(present[name], buckets) for name in chosen]
        _print_servers(servers, as_json=as_json, quiet=quiet)
        if detach:
            for launch in launches:
                launch.detach()
            print_note("Stop the servers with `lakery-cloud emulators down`.")
            return
        try:
            print_note("Ctrl-C stops the servers and deletes their data.")
            _wait(launches, print_note)
        except KeyboardInterrupt:
            print_note("stopped")


@app.command
def down(*names: str, as_json: Json = False, quiet: Quiet = False) -> None:
    """Stop the named servers of `emulators up`, or all of them. A server that is not running is not an error.

    Example: `lakery-cloud emulators down moto`

    Args:
        names: moto, localstack, seaweedfs, ministack, fake-gcs, azurite.
        as_json: Print JSON, one object a line.
        quiet: Print nothing.
    """
    for name in _chosen(names, every=not names):
        running = state.find(name)
        is_stopped = running is not None and state.end(running)
        result = "stopped" if is_stopped else "not running"
        if as_json:
            print(json.dumps({"name": name, "result": result}))
        elif not quiet and (is_stopped or names):
            print(f"{result}  {name}")


@app.command
def env(
    *names: str,
    toml: Annotated[bool, Parameter(name="--toml", negative="")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print shell exports that point programs to the named running servers, or to all of them.

    Example: `eval "$(lakery-cloud emulators env)"`

    Args:
        names: moto, localstack, seaweedfs, ministack, fake-gcs, azurite.
        toml: Print a lakery-cloud.toml instead.
        quiet: Print nothing; the exit code is 0 if the servers are running.
        as_json: Print the variables as one JSON object.
    """
    servers = []
    for name in _chosen(names, every=not names):
        running = state.find(name)
        if running is not None:
            servers.append(running)
        elif names:
            raise ConfigError(f"{name} is not running; start it with `lakery-cloud emulators up {name} -d`")
    if not servers:
        raise ConfigError("no server is running; start one with `lakery-cloud emulators up moto -d`")
    if toml:
        print(client_settings.toml(servers), end="")
    elif as_json:
        print(json.dumps(client_settings.merged_environment(servers)))
    elif not quiet:
        print(client_settings.exports(client_settings.merged_environment(servers)), end="")


def _chosen(names: Sequence[str], *, every: bool) -> list[str]:
    """Check the given names and remove repeated ones; with `every`, return all names."""
    for name in names:
        if name not in EMULATORS:
            raise ConfigError(f"unknown server {name!r}{nearest(name, EMULATORS)}")
    return list(EMULATORS) if every else list(dict.fromkeys(names))


def _ports(given: Sequence[str], chosen: Sequence[str]) -> dict[str, int]:
    """Parse --port options into name -> port."""
    ports: dict[str, int] = {}
    for text in given:
        name, found, number = text.rpartition("=")
        if not found and len(chosen) > 1:
            raise ConfigError(f"--port {text}: add the server's name, such as {chosen[0]}={text}")
        name = name or chosen[0]
        if name not in chosen:
            raise ConfigError(f"--port {text}: this command does not start {name!r}{nearest(name, chosen)}")
        if not (number.isascii() and number.isdigit() and 0 < int(number) <= LARGEST_PORT):
            raise ConfigError(f"--port {text}: a port is a number from 1 to {LARGEST_PORT}")
        ports[name] = int(number)
    if len(set(ports.values())) < len(ports):
        raise ConfigError("--port: two servers have the same port; give each its own")
    return ports


def _check_ports_of_running(present: Mapping[str, Running], ports: Mapping[str, int]) -> None:
    for name, running in present.items():
        if name in ports and not running.endpoint_url.endswith(f":{ports[name]}"):
            raise ConfigError(
                f"--port {name}={ports[name]}: {name} is already running on {running.endpoint_url}; stop it first with "
                f"`lakery-cloud emulators down {name}`"
            )


def _install(names: Sequence[str], *, quiet: bool) -> None:
    """Install missing servers one after another, and show the progress."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    print_note = _note_printer(quiet=quiet or console.is_terminal)
    progress = Progress(*columns, console=console, transient=True)
    with progress if console.is_terminal and not quiet else nullcontext():  # rich 13.7 prints a line if disabled
        for name in names:
            task = progress.add_task(name, total=None, visible=False)

            def report(step: str, task: Any = task) -> None:
                print_note(step)
                progress.update(task, description=step, visible=True)

            EMULATORS[name]().install(report)
            progress.remove_task(task)


def _add_buckets(running: Running, buckets: Sequence[str]) -> Running:
    """Create buckets on a running server, and return its updated state."""
    for bucket in buckets:
        client_settings.server_of(running).make_bucket(bucket)
    return state.add_buckets(running.name, buckets) or running


def _print_servers(servers: Sequence[Running], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        for running in servers:
            print(json.dumps({**running.to_dict(), "environment": client_settings.environment_of(running)}))
    elif not quiet:
        print(f"# lakery-cloud.toml\n{client_settings.toml(servers)}")
        print("# or, in a shell")
        first = {EMULATORS[running.name].api: running for running in reversed(servers)}
        print(
            client_settings.exports(
                client_settings.merged_environment([each for each in servers if each in first.values()])
            ),
            end="",
        )
        for running in servers:
            if running not in first.values():
                print(f'# eval "$(lakery-cloud emulators env {running.name})"')
    sys.stdout.flush()


def _wait(launches: Sequence[Launch], print_note: Callable[[str], None]) -> None:
    """Wait until `emulators down` in other processes has stopped all servers."""
    with selectors.DefaultSelector() as selector:
        for launch in launches:
            selector.register(launch, selectors.EVENT_READ, launch)
        while selector.get_map():
            for key, _ in selector.select():
                ended: Launch = key.data
                selector.unregister(ended)
                ended.wait()
                print_note(f"{ended.name} was stopped by another process")


def _describe(running: Running | None) -> str:
    if running is None:
        return ""
    return f"{running.endpoint_url}  {', '.join(running.buckets)}  pid {running.pid}"


def _note_printer(*, quiet: bool) -> Callable[[str], None]:
    """Return a function that prints to standard error, or one that does nothing if `quiet`."""
    return (lambda _: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True))
