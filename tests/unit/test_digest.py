"""Digests: the hash is hashlib's whichever way the bytes come, and what can't be true of content is refused."""

import asyncio
import hashlib
import importlib.util
import string
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakery_cloud import (
    ConfigError,
    DigestingStream,
    IntegrityError,
    InvalidRecord,
    MissingDependency,
    digest_data,
)
from lakery_cloud.digest import check_digest, compare
from lakery_cloud.streams.chunks import as_bytes
from lakery_cloud.streams.hashing import (
    THREAD_THRESHOLD,
    HashingAhead,
    new_hasher,
    update_hash,
)
from lakery_cloud.testing import stream_of
from tests.helpers import each

ALGORITHMS = ["sha256", "sha512", "md5", "blake2b"]
CHUNKS = st.lists(st.binary(max_size=50))
LARGE = bytes(range(256)) * (THREAD_THRESHOLD // 256 + 1)
GOOD = {
    "content_type": "text/plain",
    "content_encoding": None,
    "content_hash_algorithm": "sha256",
    "content_hash": hashlib.sha256(b"content").hexdigest(),
    "content_size": 7,
}

relaxed = settings(deadline=None)


def digesting(chunks, algorithm="sha256"):
    source = each(chunks)
    return DigestingStream(
        {"data_stream": source, "content_type": "a/b", "content_encoding": "gzip"}, algorithm=algorithm
    )


def is_true_of(digest, data, algorithm="sha256"):
    return digest == {
        "content_type": "a/b",
        "content_encoding": "gzip",
        "content_hash_algorithm": algorithm,
        "content_hash": hashlib.new(algorithm, data).hexdigest(),
        "content_size": len(data),
        "is_complete": True,
    }


# One blob.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "one byte", "large"])
async def test_digest_of_a_blob_agrees_with_hashlib(data, algorithm):
    digest = await digest_data({"data": data, "content_type": "a/b", "content_encoding": None}, algorithm=algorithm)
    assert digest == {
        "content_type": "a/b",
        "content_encoding": None,
        "content_hash_algorithm": algorithm,
        "content_hash": hashlib.new(algorithm, data).hexdigest(),
        "content_size": len(data),
    }
    check_digest(digest)


async def test_sha256_is_the_default():
    digest = await digest_data({"data": b"x", "content_type": "a/b", "content_encoding": None})
    assert digest["content_hash_algorithm"] == "sha256"


async def test_text_has_no_digest():
    with pytest.raises(TypeError):
        await digest_data({"data": "text", "content_type": "a/b", "content_encoding": None})


# Algorithms.


@pytest.mark.parametrize("algorithm", ["shake_128", "shake_256"])
def test_algorithms_without_a_length_are_refused(algorithm):
    with pytest.raises(ConfigError, match=f"{algorithm}.*no fixed length"):
        new_hasher(algorithm)


@pytest.mark.parametrize("algorithm", ["", "sha257", "crc32", "sha256\0", "sha256 ", "\ud800", "📦"])
def test_unknown_algorithms_are_refused(algorithm):
    with pytest.raises(ConfigError, match="unknown hash algorithm.*sha256 is the default"):
        new_hasher(algorithm)


@pytest.mark.parametrize("algorithm", [None, 256, b"sha256"])
def test_an_algorithm_that_is_no_name_is_refused(algorithm):
    with pytest.raises(ConfigError):
        new_hasher(algorithm)


async def test_a_stream_of_an_unknown_algorithm_is_refused_before_it_is_read():
    with pytest.raises(ConfigError):
        digesting([b"x"], algorithm="sha257")


@pytest.mark.skipif(importlib.util.find_spec("blake3") is not None, reason="blake3 is installed")
def test_blake3_that_is_not_installed_names_the_command_that_installs_it():
    with pytest.raises(MissingDependency, match="pip install blake3"):
        new_hasher("blake3")


def test_blake3_works_where_it_is_installed():
    pytest.importorskip("blake3")
    hasher = new_hasher("blake3")
    hasher.update(b"")
    # From the test vectors of the BLAKE3 specification.
    assert hasher.hexdigest() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


# A stream.


@relaxed
@given(CHUNKS, st.sampled_from(ALGORITHMS))
async def test_an_iterated_stream_passes_its_bytes_on_and_has_their_digest(chunks, algorithm):
    stream = digesting(chunks, algorithm)
    assert [chunk async for chunk in stream] == chunks
    assert is_true_of(stream.get_digest(), b"".join(chunks), algorithm)


@relaxed
@given(CHUNKS, st.integers(1, 20))
async def test_a_stream_that_is_cut_anew_has_the_same_digest(chunks, size):
    stream = digesting(chunks)
    data = b"".join([chunk async for chunk in stream.undigested()])
    for start in range(0, len(data), size):
        await stream.update(data[start : start + size])
    stream.finish()
    assert is_true_of(stream.get_digest(), data)


async def test_large_chunks_are_hashed_in_order():
    chunks = [LARGE, b"small", LARGE[::-1], b"", LARGE[1:]]
    stream = digesting(chunks)
    assert [chunk async for chunk in stream] == chunks
    assert is_true_of(stream.get_digest(), b"".join(chunks))


async def test_the_digest_is_not_known_before_the_end():
    stream = digesting([b"one", b"two"])
    with pytest.raises(ValueError, match="not read to its end"):
        stream.get_digest()
    chunks = aiter(stream)
    await anext(chunks)
    await anext(chunks)
    with pytest.raises(ValueError, match="not read to its end"):
        stream.get_digest()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    assert is_true_of(stream.get_digest(), b"onetwo")


async def test_incomplete_digest_is_returned_on_request():
    stream = digesting([b"one", b"two"])
    before = stream.get_digest(allow_incomplete=True)
    assert (before["content_size"], before["is_complete"], before["content_type"]) == (0, False, "a/b")
    chunks = aiter(stream)
    await anext(chunks)
    during = stream.get_digest(allow_incomplete=True)
    assert (during["content_hash"], during["content_size"]) == (hashlib.sha256(b"one").hexdigest(), 3)
    assert during["is_complete"] is False
    await chunks.aclose()


async def test_a_stream_that_breaks_never_has_a_digest():
    async def breaks():
        yield b"one"
        raise OSError("the source broke")

    stream = DigestingStream({"data_stream": breaks(), "content_type": "a/b", "content_encoding": None})
    with pytest.raises(OSError, match="the source broke"):
        [chunk async for chunk in stream]
    with pytest.raises(ValueError, match="not read to its end"):
        stream.get_digest()


async def test_a_buffer_that_the_producer_uses_again_is_copied():
    async def reuses():
        buffer = bytearray(3)
        for text in (b"one", b"two", b"six"):
            buffer[:] = text
            yield buffer

    stream = DigestingStream({"data_stream": reuses(), "content_type": "a/b", "content_encoding": "gzip"})
    assert [chunk async for chunk in stream] == [b"one", b"two", b"six"]
    assert is_true_of(stream.get_digest(), b"onetwosix")


@pytest.mark.parametrize("chunk", ["text", 7, None, [1, 2], [b"x"]], ids=repr)
async def test_chunks_that_are_not_bytes_are_refused(chunk):
    stream = digesting([b"fine", chunk])
    with pytest.raises(TypeError, match=f"must yield bytes, not {type(chunk).__name__}"):
        [passed async for passed in stream]
    with pytest.raises(ValueError, match="not read to its end"):
        stream.get_digest()


@relaxed
@given(st.binary())
def test_bytes_like_chunks_become_immutable_bytes(data):
    assert as_bytes(data) is data
    buffer = bytearray(data)
    for like in (buffer, memoryview(buffer), memoryview(data)):
        made = as_bytes(like)
        assert type(made) is bytes
        assert made == data


# Refusals.


@relaxed
@given(st.binary(), st.sampled_from(ALGORITHMS))
async def test_the_digest_of_any_content_is_accepted(data, algorithm):
    check_digest(
        await digest_data({"data": data, "content_type": "a/b", "content_encoding": "br"}, algorithm=algorithm)
    )


@pytest.mark.parametrize("field", GOOD)
def test_a_digest_with_a_field_missing_is_refused(field):
    with pytest.raises(InvalidRecord, match=f"has no {field}"):
        check_digest({name: value for name, value in GOOD.items() if name != field})


def is_hash(text):
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


@relaxed
@given(st.text(string.hexdigits, min_size=60, max_size=66).filter(lambda text: not is_hash(text)) | st.text())
def test_a_hash_of_another_length_or_alphabet_is_refused(content_hash):
    with pytest.raises(InvalidRecord, match="64 lower-case hexadecimal digits"):
        check_digest({**GOOD, "content_hash": content_hash})


@pytest.mark.parametrize(
    "content_hash",
    [
        GOOD["content_hash"].upper(),
        GOOD["content_hash"] + "\n",
        "../" + GOOD["content_hash"][3:],
        "٣" * 64,
        GOOD["content_hash"].encode(),
        int(GOOD["content_hash"], 16),
        None,
    ],
    ids=repr,
)
def test_a_hash_that_looks_right_but_is_not_is_refused(content_hash):
    with pytest.raises(InvalidRecord):
        check_digest({**GOOD, "content_hash": content_hash})


@relaxed
@given(st.integers(max_value=-1) | st.floats() | st.booleans() | st.none() | st.text())
def test_a_size_that_is_no_number_of_bytes_is_refused(size):
    with pytest.raises(InvalidRecord, match="content_size"):
        check_digest({**GOOD, "content_size": size})


@pytest.mark.parametrize("algorithm", ["sha257", "", "shake_128"])
def test_a_digest_of_an_unknown_algorithm_is_refused(algorithm):
    with pytest.raises(ConfigError):
        check_digest({**GOOD, "content_hash_algorithm": algorithm})


@relaxed
@given(st.none() | st.integers() | st.binary() | st.lists(st.text()))
def test_a_digest_whose_algorithm_is_no_name_is_refused(algorithm):
    with pytest.raises(InvalidRecord, match="content_hash_algorithm"):
        check_digest({**GOOD, "content_hash_algorithm": algorithm})


def test_a_hash_of_another_algorithm_is_refused():
    with pytest.raises(InvalidRecord, match="32 lower-case hexadecimal digits"):
        check_digest({**GOOD, "content_hash_algorithm": "md5"})


def cannot_be_sent(text):
    return not text or any(not " " <= character <= "~" for character in text)


@pytest.mark.parametrize("field", ["content_type", "content_encoding"])
@relaxed
@given(text=st.text(min_size=1).filter(cannot_be_sent) | st.sampled_from(["a/b\r\nx-evil: 1", "a/b\n", "\x7f", "ü/b"]))
def test_text_that_cannot_be_a_header_is_refused(field, text):
    with pytest.raises(InvalidRecord, match=field):
        check_digest({**GOOD, field: text})


@pytest.mark.parametrize("value", ["", None, 7, b"a/b", ["a/b"], 0, False], ids=repr)
def test_a_content_type_that_is_no_text_is_refused(value):
    with pytest.raises(InvalidRecord, match="content_type"):
        check_digest({**GOOD, "content_type": value})


@pytest.mark.parametrize("value", ["", 7, b"gzip", ["gzip"], 0, False, [], {}], ids=repr)
def test_a_content_encoding_that_is_neither_text_nor_none_is_refused(value):
    with pytest.raises(InvalidRecord, match="content_encoding"):
        check_digest({**GOOD, "content_encoding": value})


PRINTABLE = st.text(string.printable[:95], min_size=1).filter(lambda text: not text.startswith(" "))


@relaxed
@given(PRINTABLE, st.none() | PRINTABLE)
def test_printable_ascii_is_accepted(content_type, content_encoding):
    check_digest({**GOOD, "content_type": content_type, "content_encoding": content_encoding})


# Comparing.


def test_content_with_a_true_digest_passes():
    compare(GOOD, content_hash=GOOD["content_hash"], size=7, what="the data")


def test_content_of_another_size_is_named_with_both_sizes():
    with pytest.raises(IntegrityError, match="the data has 8 bytes, but its digest says 7"):
        compare(GOOD, content_hash=GOOD["content_hash"], size=8, what="the data")


def test_content_of_another_hash_is_named_with_both_hashes():
    other = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(IntegrityError, match=f"sha256 hash {other}, but its digest says {GOOD['content_hash']}"):
        compare(GOOD, content_hash=other, size=7, what="the data")


class HeldHasher:
    """A hasher that works only when it may."""

    def __init__(self) -> None:
        self.may_work = threading.Event()
        self._hasher = hashlib.sha256()

    def update(self, data: bytes) -> None:
        assert self.may_work.wait(10)
        self._hasher.update(data)

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()


@pytest.mark.parametrize(
    "sizes", [[], [1], [10, 0, 300_000] * 9, [THREAD_THRESHOLD * 3, 5], [2**20] * 7, [2**14] * 300]
)
async def test_pieces_that_are_hashed_ahead_are_hashed_in_their_order(sizes):
    ahead, whole = HashingAhead(hashlib.sha256(), limit=2 * THREAD_THRESHOLD), hashlib.sha256()
    for number, size in enumerate(sizes):
        piece = bytes([number % 256]) * size
        whole.update(piece)
        await ahead.update(piece)
    assert await ahead.hexdigest() == whole.hexdigest()


async def test_added_pieces_are_hashed_in_their_order_and_say_when():
    hasher, first, second = HeldHasher(), b"a" * 10, b"b" * THREAD_THRESHOLD
    ahead = HashingAhead(hasher)
    hashed = [ahead.add(first, second), ahead.add(first)]
    await asyncio.wait(hashed, timeout=0.05)
    assert not any(future.done() for future in hashed)
    hasher.may_work.set()
    await hashed[1]
    assert hashed[0].done()
    hashed[0], cancelled = ahead.add(second), ahead.add()
    cancelled.cancel()  # by a caller that gives up; the bytes count all the same
    await hashed[0]
    assert await ahead.hexdigest() == hashlib.sha256(first + second + first + second).hexdigest()


async def test_stream_that_is_hashed_ahead_has_the_digest_of_its_bytes():
    pieces = [b"x" * 600_000, b"", b"y"]
    stream = stream_of(pieces)
    waiting = [stream.hash_ahead(*pieces[:2]), stream.hash_ahead(pieces[2])]
    await waiting[-1]
    stream.finish()
    assert (stream.get_digest()["content_hash"], stream.get_digest()["content_size"]) == (
        hashlib.sha256(b"".join(pieces)).hexdigest(),
        600_001,
    )


async def test_pieces_wait_while_too_many_are_not_yet_hashed():
    hasher, piece = HeldHasher(), bytes(THREAD_THRESHOLD)
    ahead = HashingAhead(hasher, limit=2 * THREAD_THRESHOLD)
    for _ in range(2):
        await ahead.update(piece)
    third = asyncio.ensure_future(ahead.update(piece))
    await asyncio.wait([third], timeout=0.1)
    assert not third.done()
    hasher.may_work.set()
    await third
    assert await ahead.hexdigest() == hashlib.sha256(piece * 3).hexdigest()


async def test_a_wait_for_the_hash_can_be_cancelled():
    hasher, piece = HeldHasher(), bytes(THREAD_THRESHOLD)
    ahead = HashingAhead(hasher, limit=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ahead.update(piece)
    hasher.may_work.set()
    assert await ahead.hexdigest() == hashlib.sha256(piece).hexdigest()


class SlowHasher:
    """A hasher that is far behind."""

    def update(self, data: bytes) -> None:
        time.sleep(0.001)

    def hexdigest(self) -> str:
        return ""


async def test_hashing_of_streams_yields_threads_to_others():
    loop, piece = asyncio.get_running_loop(), bytes(THREAD_THRESHOLD)
    with ThreadPoolExecutor(2) as threads:
        loop.set_default_executor(threads)
        streams = [HashingAhead(SlowHasher(), limit=10**12) for _ in range(2)]
        for _ in range(1000):
            for stream in streams:
                await stream.update(piece)
        await update_hash(hashlib.sha256(), piece)
        hashing = [asyncio.ensure_future(stream.hexdigest()) for stream in streams]
        await asyncio.sleep(0)
        assert not any(task.done() for task in hashing)
        await asyncio.gather(*hashing)
