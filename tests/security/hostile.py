"""Storage data as an attacker would write it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lakery_cloud import ObjectStorage
from lakery_cloud.storage import Digest

MB = 1024**2

WRONG_TYPES: tuple[Any, ...] = (None, 0, 1, True, 1.5, float("nan"), [], {}, ["a"], {"a": "b"}, b"bytes", "")
NO_KEYS = (
    *("..", ".", "../secret", "a/../../secret", "a/..", "./a", "a/./b", "/..", "../"),
    *("..\\secret", "a\\..\\b", "a/..\\b", "a\\.", "\\..\\"),
    *("a\0b", "\0", "a\nb", "a\x7f", "\x1b[2J", "a\x85b", "\ud800", "a\udfff", "\ufffe", "\uffff"),
    *("a" * 1025, "é" * 1025, "a/" * 600, "a" * 3 * MB),
    *(".tmp/20240102T030405Z-abc", "prefix/.tmp/20240102T030405Z-abc", ".tmp/20240102T030405Z-abc.000001"),
)
NO_BUCKETS = (
    *("..", ".", "../other", "a/b", "a/", "/a", "//evil.example.com", "http://evil.example.com", "a?x=y", "a#b", "a b"),
    *(
        "me@evil.example.com",
        "evil.example.com:80",
        "a%2fb",
        "a\\b",
        "a\0b",
        "a\nb",
        "\ud800",
        "bücket",
        "-a",
        "x" * 256,
    ),
    *("arn:aws:s3:us-west-2:123456789012:accesspoint/evil", "arn:aws:s3-outposts:us-west-2:123456789012:outpost/a/b/c"),
    "x" * 3 * MB,
)
NO_HASHES: tuple[Any, ...] = (
    *(0, 5, True, 1.5, [], {}, b"sha256:ab", ""),
    *("sha256", "sha256:", ":ab", "sha256:xyz", "sha256:ab:cd", "sha256:../..", "sha 256:ab", "\ud800:ab", "é:ab"),
    *("sha256:" + "a" * MB, "a" * MB, "sha256:ab\n"),
)
NO_SIZES: tuple[Any, ...] = (-1, -(10**30), True, False, 1.5, "5", float("inf"), float("nan"), [], {}, 2**63, 10**5000)
JUNK: Mapping[str, Any] = {
    **dict.fromkeys(
        ("endpoint_url", "endpoint", "url", "base_url", "host", "proxy", "api_endpoint"), "http://127.0.0.2:9"
    ),
    **dict.fromkeys(("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile"), "evil"),
    **dict.fromkeys(("account_name", "account_key", "connection_string", "sas_token", "credential", "token"), "evil"),
    **dict.fromkeys(
        ("region", "region_name", "project", "prefix", "root", "version", "client", "session", "fs"), "../.."
    ),
    "settings": {"endpoint_url": "http://127.0.0.2:9", "verify": False},
    "verify": False,
    "": None,
    "__class__": {"__init__": "evil"},
}
"""Settings of a storage, which storage data must not change."""


def refused(good: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return label -> malformed storage data, made from valid storage data."""
    *bucket_name, key_name = names
    found: dict[str, Any] = {
        f"no object: {value!r}": value for value in (*WRONG_TYPES, [good], "x" * MB) if value != {}
    }
    found["empty"] = {}
    for name in names:
        found[f"no {name}"] = {other: value for other, value in good.items() if other != name}
        for value in WRONG_TYPES:
            found[f"{name}: {value!r}"] = {**good, name: value}
    places = {key_name: NO_KEYS, **dict.fromkeys(bucket_name, NO_BUCKETS), "hash": NO_HASHES, "size": NO_SIZES}
    for name, values in places.items():
        for number, value in enumerate(values):
            found[f"{name} {number}"] = {**good, name: value}
    return found


def uses(storage: ObjectStorage[Any], digest: Digest) -> dict[str, Callable[[Any], Awaitable[Any]]]:
    """Return all operations on storage data."""

    async def stream(storage_data: Any) -> list[bytes]:
        return [chunk async for chunk in storage.read_data_stream(storage_data)]

    async def complete(storage_data: Any) -> Any:
        return storage.complete_storage_data(storage_data, digest)

    return {
        "read_data": storage.read_data,
        "read_data_stream": stream,
        "stat": storage.stat,
        "delete": storage.delete,
        "complete_storage_data": complete,
    }
