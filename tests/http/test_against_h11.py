"""Our reader of responses beside h11's: what h11 refuses we refuse, and what both accept is the same, however it arrives."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import pairwise
from random import Random

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud.http.connection import MAX_HEAD
from lakery_cloud.http.exchange import HTTPError
from tests.attack.cases import cases, counted
from tests.http.raw import Outcome, read_over_wire

METHODS = ("GET", "PUT", "HEAD", "DELETE")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

Read = tuple[int, dict[str, str], bytes]


def read_with_h11(stream: bytes, method: str) -> tuple[Read | None, bool, bool]:
    """The response that h11 reads, or None; whether the connection can be used again; whether bytes follow the response."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    client.send(h11.Request(method=method, target="/key", headers=[("Host", "a"), ("Content-Length", "0")]))
    client.send(h11.EndOfMessage())
    client.receive_data(stream)
    response, body, has_ended = None, b"", False
    try:
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                if has_ended:
                    return None, False, False
                client.receive_data(b"")
                has_ended = True
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            elif not isinstance(event, h11.InformationalResponse):
                return None, False, False
    except h11.RemoteProtocolError:
        return None, False, False
    assert response is not None
    headers: dict[str, list[bytes]] = {}
    for name, value in response.headers:
        headers.setdefault(name.decode(), []).append(value)
    joined = {name: b", ".join(values).decode(errors="replace") for name, values in headers.items()}
    return (response.status_code, joined, bytes(body)), client.their_state is h11.DONE, bool(client.trailing_data[0])


def outcome_or_refusal(read: Outcome | BaseException) -> Outcome | type[HTTPError]:
    if isinstance(read, Outcome):
        return read
    if isinstance(read, HTTPError):
        return type(read)
    raise read


def comparable(outcome: Outcome) -> Read:
    headers = outcome.headers
    if "transfer-encoding" in headers:  # h11 has it in lower case
        headers = headers | {"transfer-encoding": headers["transfer-encoding"].lower()}
    return outcome.status, headers, outcome.body


async def compare(stream: bytes, method: str, splits: Iterable[list[bytes]]) -> Outcome | None:
    """Read a stream with both in each of the splits, and return our outcome; None if we refuse the response."""
    expected, can_be_reused, has_more = read_with_h11(stream, method)
    reads = [read_over_wire(split, method) for split in splits]
    outcomes = [outcome_or_refusal(read) for read in await asyncio.gather(*reads, return_exceptions=True)]
    for outcome in outcomes:
        if isinstance(outcome, Outcome):
            assert expected is not None, "h11 refuses it"
            assert comparable(outcome) == expected
            if outcome.is_reusable:
                assert can_be_reused
                assert not has_more
    if not has_more:  # with more bytes, it depends on the segments whether they arrive in time to refuse the response
        assert all(outcome == outcomes[0] for outcome in outcomes)
    counted["responses read beside h11"] += len(outcomes)
    return outcomes[0] if isinstance(outcomes[0], Outcome) else None


def all_splits(stream: bytes) -> Iterator[list[bytes]]:
    """In one piece, in all two pieces, and byte by byte."""
    yield [stream]
    for cut in range(1, len(stream)):
        yield [stream[:cut], stream[cut:]]
    yield [stream[place : place + 1] for place in range(len(stream))]


# Texts from which responses are made: the usual ones, and those that have fooled parsers.

names = st.sampled_from([b"ETag", b"x-amz-meta-a", b"Date", b"!#$%&'*+-.^_`|~", b"A"])
values = st.sampled_from([b"", b"x", b'"a,b"', b" \ta\t b ", b"a:b", b"\xc3\xa9", b"bytes 0-1/2"])
headers = st.builds(lambda name, value, space: name + b":" + space + value + b"\r\n", names, values, st.sampled_from([b"", b" ", b"\t"]))  # fmt: skip
connections = st.sampled_from(
    [b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n", b"connection:TE, Close\r\n"]
)
reasons = st.sampled_from([b" OK", b" ", b"", b" Not\tFound \xc3\xa9"])
interims = st.lists(
    st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 \r\nA: b\r\n\r\n", b"HTTP/1.1 103\r\nContent-Length: 5\r\n\r\n"]),
    max_size=2,
)  # fmt: skip
bodies = st.binary(max_size=20) | st.sampled_from([b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"])


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> bytes:
    """A body in chunks."""
    written, place = [], 0
    while place < len(body):
        size = draw(st.integers(1, len(body) - place))
        digits = draw(st.sampled_from(["%x", "%X", "0%x"])) % size
        extension = draw(st.sampled_from(["", "", ";a", ';a="b"', "; a = b ;c ", "\t", "  "]))
        written.append(f"{digits}{extension}\r\n".encode() + body[place : place + size] + b"\r\n")
        place += size
    return b"".join(written) + draw(st.sampled_from([b"0", b"000", b"0;a"])) + b"\r\n\r\n"


@st.composite
def well_formed(draw: st.DrawFn) -> tuple[str, bytes]:
    """A method, and a response to it as object stores send them."""
    method = draw(st.sampled_from(METHODS))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    status = draw(st.sampled_from([200, 201, 204, 206, 301, 304, 400, 403, 404, 412, 500, 503, 599]))
    lines = draw(st.lists(headers, max_size=3))
    lines.append(draw(connections))
    body = draw(bodies)
    is_empty = method == "HEAD" or status in (204, 304)
    if draw(st.booleans()):
        framing, content = b"Content-Length: %d\r\n" % len(body), body
    else:
        framing = draw(st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:\tChunked \r\n"]))
        content = draw(chunks(body))
    if not is_empty or draw(st.booleans()):
        lines.append(framing)
    head = version + b" %d" % status + draw(reasons) + b"\r\n" + b"".join(draw(st.permutations(lines))) + b"\r\n"
    return method, b"".join(draw(interims)) + head + (b"" if is_empty else content)


ODD_LINES = (
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 99 A\r\n", b"HTTP/1.1 600 A\r\n", b"HTTP/2.0 200 OK\r\n", b"HTTP/1.2 200 OK\r\n",
    b"HTTP/1.1  200 OK\r\n", b"HTTP/1.1 2000 OK\r\n", b"HTTP/1.1 200 O\0K\r\n", b"HTTP/1.1 200\tOK\r\n", b"\r\n",
    b"http/1.1 200 OK\r\n", b" HTTP/1.1 200 OK\r\n", b"HTTP/1.1 +20 OK\r\n", b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n",
    b"HTTP/1.1 101 Switch\r\n\r\n", b"HTTP/1.1 100 A\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 200 OK\n",
    b"Content-Length: 5\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: 5,6\r\n", b"Content-Length: +5\r\n",
    b"Content-Length: 05\r\n", b"Content-Length: -5\r\n", b"Content-Length: 5 \r\n", b"Content-Length: 0x5\r\n",
    b"Content-Length:\r\n", b"Content-Length: \xd9\xa5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 5_0\r\n",
    b"Content-Length : 5\r\n", b"Content-Length\r\n", b" Content-Length: 5\r\n", b"A: b\r\n folded\r\n", b"A: b\r\n\tfolded: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: chunked;a=b\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding: xchunked\r\n", b"Transfer_Encoding: chunked\r\n", b"Transfer-Encoding:\r\n", b": b\r\n", b"A\0: b\r\n",
    b"A: \x0b\r\n", b"A: \x0c\r\n", b"A: \x01\r\n", b"A: \x7f\r\n", b"A: \x80\r\n", b"A: b\rc\r\n", b"A: b\n", b"A b: c\r\n", b"\xc3\xa9: b\r\n",
    b"\r\n", b"\n\n", b"\r\n\r\n", b"\n", b"\r",
    b"5\r\nhello\r\n", b"5;a\r\nhello\r\n", b"5;\0\r\nhello\r\n", b"05\r\nhello\r\n", b"0x5\r\nhello\r\n", b"5 \r\nhello\r\n",
    b"+5\r\nhello\r\n", b"5\nhello\r\n", b"5\r\nhello", b"5\r\nhello\n", b"5\r\nhelloxy", b"g\r\n", b"\r\n", b"-1\r\n",
    b"FFFFFFFF\r\n", b"100000000000000000\r\n", b"5;" + b"a" * 300 + b"\r\nhello\r\n", b"0\r\n", b"0\r\nTrailer: a\r\n\r\n", b"0\r\n\r\n", b"hello",
)  # fmt: skip
"""Lines and pieces of heads and bodies, many of which are malformed or only nearly well-formed."""

characters = st.sampled_from([*b"\r\n\0\t \x0b\x0c\x1c\x7f\x80\x85\xa0\xff", *b":;,=05aAfFxz-" * 3])


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A method, and a response with some changes."""
    method, stream = draw(well_formed())
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        place = draw(st.integers(0, len(stream)))
        end = min(len(stream), place + draw(st.integers(0, 3)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            stream = stream[:place] + bytes([draw(characters)]) + stream[place:]
        elif kind == 1:
            stream = stream[:place] + bytes([draw(characters)]) + stream[place + 1 :]
        elif kind == 2:
            stream = stream[:place] + stream[end:]
        else:
            begin = stream.rfind(b"\n", 0, place) + 1
            stream = stream[:begin] + draw(st.sampled_from(ODD_LINES)) + stream[begin:]
    return method, stream + draw(st.sampled_from([*[b""] * 9, b"\r\n", b"x", OK + b"\r\n"]))


@st.composite
def assembled(draw: st.DrawFn) -> tuple[str, bytes]:
    """A method, and a response assembled from odd lines."""
    begin = draw(st.sampled_from([OK, OK, b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 404\r\n", b""]))
    head = draw(st.lists(st.sampled_from(ODD_LINES), max_size=4))
    rest = draw(st.lists(st.sampled_from(ODD_LINES), max_size=4))
    return draw(st.sampled_from(METHODS)), begin + b"".join(head) + b"\r\n" + b"".join(rest)


def random_splits(stream: bytes, seed: int) -> Iterator[list[bytes]]:
    """In one piece, and in some random ones."""
    random = Random(seed)
    yield [stream]
    for _ in range(5):
        cuts = sorted(random.choices(range(len(stream) + 1), k=random.randrange(1, 12)))
        yield [stream[begin:end] for begin, end in pairwise([0, *cuts, len(stream)])]


seeds = st.integers(0, 2**32)


@cases(200)
@given(well_formed(), seeds)
async def test_well_formed_response_is_read_as_h11_reads_it(case: tuple[str, bytes], seed: int) -> None:
    method, stream = case
    assert await compare(stream, method, [*all_splits(stream), *random_splits(stream, seed)]) is not None


@cases(200)
@given(mutated() | assembled())
async def test_response_that_h11_refuses_is_refused_in_every_split(case: tuple[str, bytes]) -> None:
    method, stream = case
    await compare(stream, method, all_splits(stream))


@cases(1000)
@given(mutated() | mutated() | assembled(), seeds)
async def test_response_that_h11_refuses_is_refused_in_random_splits(case: tuple[str, bytes], seed: int) -> None:
    method, stream = case
    await compare(stream, method, random_splits(stream, seed))


@cases(200)
@given(st.sampled_from(METHODS), st.sampled_from([b"", OK, CHUNKED]), st.binary(max_size=60))
async def test_any_bytes_are_read_as_h11_reads_them_or_refused(method: str, begin: bytes, rest: bytes) -> None:
    await compare(begin + rest, method, all_splits(begin + rest))


@pytest.mark.parametrize(
    ("method", "stream"),
    [
        ("HEAD", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
        ("HEAD", OK + b"Transfer-Encoding: chunked;a=b\r\n\r\n"),
        ("HEAD", OK + b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", OK + b"Content-Length:\r\n\r\n"),
        ("HEAD", OK + b"Content-Length: 5,6\r\n\r\n"),
        ("HEAD", OK + b"Content-Length: 0x5\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: \xd9\xa5\r\n\r\n"),
        ("PUT", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5 4\r\n\r\n"),
        ("PUT", b"HTTP/1.1 304 Not Modified\r\nContent-Length::0\r\n\r\n"),
        ("GET", b"HTTP/1.1 103\r\nContent-Length: +5\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 103\r\nTransfer-Encoding: gzip\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 103 \x0c\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 O\x0bK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\xc2\x85\x1d\r\nContent-Length: 0\r\n\r\n"),
        ("GET", OK + b"A: \x0b\r\nContent-Length: 0\r\n\r\n"),
        ("GET", OK + b"A: \x0c\r\nContent-Length: 0\r\n\r\n"),
        ("GET", CHUNKED + b"3 ;a=b;c\r\n\0\0\0\r\n0\r\n\r\n"),
        ("GET", CHUNKED + b"3\t;a\r\nabc\r\n0\r\n\r\n"),
        ("GET", CHUNKED + b"3;a\0\r\nabc\r\n0\r\n\r\n"),
        ("GET", CHUNKED + b"3\r\nabc\r\n0\r\nTrailer: a\r\n\r\n"),
        ("GET", CHUNKED + b"3\r\nabcxy0\r\n\r\n"),
    ],
)
async def test_response_that_was_once_read_or_is_read_by_others_is_refused(method: str, stream: bytes) -> None:
    assert await compare(stream, method, all_splits(stream)) is None
