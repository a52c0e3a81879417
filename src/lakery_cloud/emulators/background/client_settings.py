"""Settings that point programs to running servers: tables of `lakery-cloud.toml`, and environment variables."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence

from lakery_cloud.emulators import EMULATORS, Emulator
from lakery_cloud.emulators.background.state import Running
from lakery_cloud.errors import ConfigError


def server_of(running: Running) -> Emulator:
    """Return the emulator of a running server, to make buckets on it or to get its settings."""
    return EMULATORS[running.name].at(running.endpoint_url)


def environment_of(running: Running) -> dict[str, str]:
    """Return the variables that point to a server: the SDK's own, and `LAKERY_CLOUD_STORAGE` for the first bucket."""
    server = server_of(running)
    ours = {"LAKERY_CLOUD_STORAGE": server.url(running.buckets[0])} if running.buckets else {}
    return {**ours, **server.environment()}


def merged_environment(servers: Sequence[Running]) -> dict[str, str]:
    """Return the variables that point to all of the servers; `LAKERY_CLOUD_STORAGE` is for the first one.

    Raises:
        ConfigError: Two servers are for the same cloud, and an SDK uses only one.
    """
    merged: dict[str, str] = {}
    seen: dict[str, str] = {}
    for running in servers:
        api = EMULATORS[running.name].api
        if api in seen:
            raise ConfigError(f"{seen[api]} and {running.name} both serve {api}: name the one to use")
        seen[api] = running.name
        for name, value in environment_of(running).items():
            merged.setdefault(name, value)
    return merged


def exports(environment: Mapping[str, str]) -> str:
    """Return `export` lines for a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def toml(servers: Sequence[Running]) -> str:
    """Return a `lakery-cloud.toml` with a storage on each bucket of the servers. The first storage is the default.

    The storage on a server's first bucket has the server's name (`fake_gcs`), on others also the bucket's
    (`moto_my_bucket`).
    """
    tables = [(name, settings) for running in servers for name, settings in _storages(running)]
    lines = [f"default = {json.dumps(tables[0][0])}"] if tables else []
    schemes: set[str] = set()
    for name, settings in tables:
        lines += ["", f"[storages.{name}]"]
        scheme = settings["url"].partition(":")[0]
        # Storages of the same class need different permanent names.
        own = {"name": f"local.{name}@v1"} if scheme in schemes else {}
        schemes.add(scheme)
        lines += [f"{key} = {json.dumps(value)}" for key, value in {**settings, **own}.items()]
    return "\n".join([*lines, ""])


def _storages(running: Running) -> Iterable[tuple[str, Mapping[str, str]]]:
    server = server_of(running)
    for number, bucket in enumerate(running.buckets):
        name = f"{running.name}-{bucket}" if number else running.name
        yield name.replace("-", "_"), server.settings(bucket)  # names of environment variables can't contain dashes
