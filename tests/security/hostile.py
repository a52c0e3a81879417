"""Storage data as an attacker would write it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hypothesis import strategies as st

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


# Names that an SDK, a URL parser or a server may give a meaning.

_BEGINNINGS = (
    "",
    "a",
    "a-b",
    "own-bucket",
    "127.0.0.1",
    "localhost",
    "evil.example.com",
    "xn--a",
    "s3",
    "$root",
    "A_b",
)
_MEANINGS = (
    *("--op-s3", "-o0b1d075431d83bebde8xz5w8ijx1qzlbp3i3kuse10--op-s3", "-e0000000000--op-s3"),
    *(
        "--usw2-az1--x-s3",
        "--x-s3",
        "--usw2-az1--xa-s3",
        "-s3alias",
        "--ol-s3",
        "--table-s3",
        ".mrap",
        "-s3-accesspoint",
    ),
    *(
        ".s3.amazonaws.com",
        ".s3-accesspoint.us-west-2.amazonaws.com",
        ".s3-website",
        ":80",
        ":bucket",
        "@evil",
        "%40evil",
    ),
    *(
        "#x",
        "?x=y",
        "/x",
        "//x",
        "\\x",
        "%2f..%2fx",
        "%2e%2e",
        "..",
        ".",
        ";x",
        "&x",
        "%00",
        "%0d%0aHost:evil",
        " ",
        "\t",
    ),
    *("?versionId=1", "?uploads", "?comp=list", "?acl", "/o/x", "/../other/x"),
)
_ARNS = (
    *(
        "arn:aws:s3:::evil",
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/evil",
        "arn:aws:s3-outposts:us-west-2:1:outpost/a",
    ),
    "arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/evil",
    "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
)

bucket_names: st.SearchStrategy[str] = st.one_of(
    st.sampled_from(_ARNS),
    st.builds("".join, st.lists(st.sampled_from((*_BEGINNINGS, *_MEANINGS)), min_size=1, max_size=4)),
    st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,30}(?:-[a-z0-9]{1,5}){0,3}(?:--[a-z]{1,2}-s3|-s3[a-z]{1,6})?", fullmatch=True),
    st.text("ab01.-_:@/?#%$\\\r\n é", min_size=1, max_size=20),
)
"""Names of buckets, most of which mean something to somebody."""

key_names: st.SearchStrategy[str] = st.one_of(
    st.just("key"),
    st.builds("".join, st.lists(st.sampled_from((*_BEGINNINGS, *_MEANINGS, "key", "/")), min_size=1, max_size=4)),
    st.text(min_size=1, max_size=20),
)
"""Names of objects."""
