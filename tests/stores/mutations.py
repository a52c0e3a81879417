"""Responses of stores, mutated on their way to the storage."""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import aiohttp
from aiohttp import web
from hypothesis import strategies as st

from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.flows import RequestBody
from lakery_cloud.testing.faults.forwarding import NO_FAULT, ForwardingProxy
from lakery_cloud.testing.faults.rules import FaultMatch

PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><p>Please sign in.</p></body></html>"
STATUSES = (
    *(
        200,
        201,
        202,
        203,
        204,
        206,
        300,
        301,
        302,
        303,
        304,
        307,
        308,
        400,
        401,
        403,
        404,
        405,
        408,
        409,
        410,
        411,
        412,
    ),
    *(413, 416, 418, 429, 499, 500, 501, 502, 503, 504, 507, 599),
)
DIGITS = "9" * 5000
"""A number that Python refuses to parse (Python documentation, "Integer string conversion length limitation")."""
VALUES = (
    DIGITS,
    "\u00e9",
    "AAAA\u00e9==",
    "\u0665",
    "",
    "null",
    "-1",
    "0",
    "abc",
    "99999999999999999999",
    "bytes a-b/*",
    "bytes */5",
    'W/"x"',
    "\xff",
    "1, 2",
    "gzip",
)
ENTITIES = b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(12))
BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">%b]><Error><Code>&m;</Code></Error>' % ENTITIES
"""Entities that a parser may expand to 10 TB."""
EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><Error><Code>&a;</Code></Error>'
COMPRESSORS = {"gzip": gzip.compress, "deflate": zlib.compress}
"""Encoding -> what compresses so."""
BODIES = (
    BOMB,
    EXTERNAL,
    DIGITS.encode(),
    b'{"size": %b, "generation": %b}' % (DIGITS.encode(), DIGITS.encode()),
    b'{"a":' * 10_000,
    b"<a>" * 10_000,
    b"",
    b"null",
    b"{}",
    b"[]",
    b'"text"',
    b"<a/>",
    b"<Error/>",
    b"\xff\xfe\x00",
    b"[" * 10_000,
    PAGE,
)
JSON_VALUES = (DIGITS, None, "", "text", -1, 10**30, 1.5, True, [], {}, [None], {"a": {}})
HEADERS = (
    ("Location", "http://127.0.0.1:1/elsewhere"),
    ("Location", "//"),
    ("Content-Encoding", "gzip"),
    ("Content-Encoding", "br"),
    ("Transfer-Encoding", "gzip"),
    ("Content-Range", "bytes 5-1/3"),
    ("Retry-After", "soon"),
    ("Retry-After", "-1"),
    ("x-amz-bucket-region", "elsewhere"),
    ("x-ms-error-code", "BlobNotFound"),
)


@cache
def expanding(encoding: str) -> bytes:
    """64 MiB, compressed to 64 KiB."""
    return COMPRESSORS[encoding](bytes(64 * 1024**2), 9)


@dataclass(frozen=True)
class Reply:
    """A response.

    Attributes:
        status: Its status.
        headers: Names and values, in order, without the length of the body.
        body: Its body.
        length: The length in its header; None is the length of the body, a negative number omits the header.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int | None = None

    def encoded(self, *, has_body: bool) -> bytes:
        """Its bytes on the connection, which ends after it."""
        length = len(self.body) if self.length is None else self.length
        headers = [*self.headers, ("Connection", "close")]
        if length >= 0:
            headers.append(("Content-Length", str(length)))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"HTTP/1.1 {self.status} Mutated\r\n{head}\r\n".encode(errors="surrogateescape") + (
            self.body if has_body else b""
        )


Mutate = Callable[[Reply, Mapping[str, Reply]], Reply]
"""Changes a response, with recorded responses to each operation at hand."""


@dataclass(frozen=True)
class Mutation:
    """A change of responses.

    Attributes:
        label: What it does, for messages.
        mutate: Makes the mutated response.
        times: How many responses it changes.
    """

    label: str
    mutate: Mutate
    times: int

    def __repr__(self) -> str:
        return f"{self.label} x{self.times}"


class MutatingProxy(ForwardingProxy):
    """A proxy that mutates the responses to one operation.

    Attributes:
        replies: The last response to each operation, as the server sent it.
        mutated: The operation and the sent status of each mutated response.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.replies: dict[str, Reply] = {}
        self.mutated: list[tuple[str, int]] = []
        self._operation, self._nth, self._mutation = "", 0, Mutation("nothing", lambda reply, _: reply, 0)

    def mutate(self, operation: str, nth: int, mutation: Mutation) -> None:
        """Mutate responses to an operation, from the nth on; forget earlier mutations and exchanges."""
        self._operation, self._nth, self._mutation = operation, nth, mutation
        self.exchanges.clear()
        self.mutated.clear()

    async def match_fault(self, exchange: Exchange, body: RequestBody) -> FaultMatch:
        self.exchanges.append(exchange)
        return NO_FAULT

    async def _relay(
        self, request: web.Request, upstream: aiohttp.ClientResponse, exchange: Exchange, found: FaultMatch
    ) -> web.StreamResponse:
        exchange.status = upstream.status
        left_out = ("connection", "transfer-encoding", "content-length", "keep-alive")
        headers = tuple((name, value) for name, value in upstream.headers.items() if name.lower() not in left_out)
        is_head = exchange.method == "HEAD"
        length = int(upstream.headers["Content-Length"]) if is_head and "Content-Length" in upstream.headers else None
        reply = Reply(upstream.status, headers, await upstream.read(), -1 if upstream.status == 204 else length)
        name = exchange.operation
        self._nth -= name == self._operation
        if name == self._operation and self._nth <= 0 and len(self.mutated) < self._mutation.times:
            reply = self._mutation.mutate(reply, self.replies)
            self.mutated.append((name, reply.status))
        elif not self._mutation.times:
            self.replies[name] = reply
        if request.transport is not None:  # the client waits
            request.transport.write(reply.encoded(has_body=not is_head))
            request.transport.close()
        return web.Response()


def _status(status: int) -> Mutate:
    return lambda reply, _: replace(reply, status=status)


def _body(body: bytes) -> Mutate:
    return lambda reply, _: replace(reply, body=body, length=None)


def _compressed(encoding: str, *, is_cut: bool, status: int) -> Mutate:
    def mutate(reply: Reply, _: Mapping[str, Reply]) -> Reply:
        body = expanding(encoding)
        headers = (*reply.headers, ("Content-Encoding", encoding))
        return replace(reply, status=status, headers=headers, body=body[: len(body) // 2] if is_cut else body)

    return mutate


def _page(status: int) -> Mutate:
    return lambda *_: Reply(status, (("Content-Type", "text/html"),), PAGE)


def _without_header(number: int) -> Mutate:
    def mutate(reply: Reply, _: Mapping[str, Reply]) -> Reply:
        at = number % (len(reply.headers) + 1)
        if at == len(reply.headers):
            return replace(reply, length=-1)
        return replace(reply, headers=reply.headers[:at] + reply.headers[at + 1 :])

    return mutate


def _with_value(number: int, value: str, *, twice: bool) -> Mutate:
    def mutate(reply: Reply, _: Mapping[str, Reply]) -> Reply:
        if not reply.headers:
            return reply
        at = number % len(reply.headers)
        name, old = reply.headers[at]
        changed = ((name, old), (name, value)) if twice else ((name, value),)
        return replace(reply, headers=reply.headers[:at] + changed + reply.headers[at + 1 :])

    return mutate


def _with_header(header: tuple[str, str]) -> Mutate:
    return lambda reply, _: replace(reply, headers=(*reply.headers, header))


def _truncated(fraction: float, *, keep_length: bool) -> Mutate:
    def mutate(reply: Reply, _: Mapping[str, Reply]) -> Reply:
        body = reply.body[: int(len(reply.body) * fraction)]
        return replace(reply, body=body, length=len(reply.body) if keep_length else None)

    return mutate


def _swapped(number: int) -> Mutate:
    def mutate(_: Reply, replies: Mapping[str, Reply]) -> Reply:
        return replies[sorted(replies)[number % len(replies)]]

    return mutate


def _field(number: int, action: str, value: Any) -> Mutate:
    def mutate(reply: Reply, _: Mapping[str, Reply]) -> Reply:
        try:
            body = _in_json(reply.body, number, action, value)
        except ValueError:
            body = _in_xml(reply.body, number, action, value)
        return replace(reply, body=body, length=None)

    return mutate


def _in_json(body: bytes, number: int, action: str, value: Any) -> bytes:
    tree = json.loads(body)
    places = list(_places(tree))
    if not places:
        return json.dumps(value).encode()
    container, key = places[number % len(places)]
    if action == "remove":
        del container[key]
    elif action == "duplicate" and isinstance(container, list):
        container.append(container[key])
    else:
        container[key] = value
    return json.dumps(tree).replace(json.dumps(DIGITS), DIGITS).encode()  # as a number


def _places(tree: Any) -> list[tuple[Any, Any]]:
    keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    return [place for key in keys for place in ((tree, key), *_places(tree[key]))]


_ELEMENT = re.compile(rb"<(?P<name>[\w:]+)[^<>]*>(?P<text>[^<>]*)</(?P=name)>|<(?P<empty>[\w:]+)[^<>]*/>")


def _in_xml(body: bytes, number: int, action: str, value: Any) -> bytes:
    """Change an element that contains only text; flip a byte of a body without any."""
    found = list(_ELEMENT.finditer(body))
    if not found:
        at = number % len(body) if body else 0
        return body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :] if body else b"x"
    element = found[number % len(found)]
    name = element["name"] or element["empty"]
    text = str(value).encode()
    changed = {
        "remove": b"",
        "duplicate": element[0] * 2,
        "set": b"<%s>%s</%s>" % (name, b"" if value is None else text.replace(b"<", b"").replace(b"&", b""), name),
    }[action]
    return body[: element.start()] + changed + body[element.end() :]


_numbers = st.integers(0, 40)


def _labelled(label: str, make: Callable[..., Mutate], *arguments: Any, **keywords: Any) -> st.SearchStrategy[Any]:
    built = st.tuples(st.tuples(*arguments), st.fixed_dictionaries(keywords))
    return built.map(lambda given: (f"{label} {given}", make(*given[0], **given[1])))


mutations: st.SearchStrategy[Mutation] = st.builds(
    lambda labelled, times: Mutation(*labelled, times),
    st.one_of(
        _labelled("status", _status, st.sampled_from(STATUSES)),
        _labelled("body", _body, st.sampled_from(BODIES)),
        _labelled(
            "compressed",
            _compressed,
            st.sampled_from(sorted(COMPRESSORS)),
            is_cut=st.booleans(),
            status=st.sampled_from((200, 206, 400, 403, 500)),
        ),
        _labelled("page", _page, st.sampled_from((200, 403, 404, 503))),
        _labelled("without header", _without_header, _numbers),
        _labelled("header", _with_value, _numbers, st.sampled_from(VALUES), twice=st.booleans()),
        _labelled("another header", _with_header, st.sampled_from(HEADERS)),
        _labelled("truncated", _truncated, st.sampled_from((0.0, 0.5, 0.99)), keep_length=st.booleans()),
        _labelled("response to another operation", _swapped, _numbers),
        _labelled(
            "field", _field, _numbers, st.sampled_from(("remove", "duplicate", "set")), st.sampled_from(JSON_VALUES)
        ),
    ),
    st.sampled_from((1, 1, 2, 1000)),
)
"""Mutations of one response, of those to two attempts, or of all."""
