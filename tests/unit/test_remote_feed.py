"""How an archive goes to stdin: as it is, or in chunks that a shell can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.exec.channels import stdin
from kubectl_podcp.remote.feed import MESSAGE, BareFeed, ChunkedFeed, ExactFeed, Feed, PlainFeed
from kubectl_podcp.remote.scripts import CHUNK_BLOCK

FEEDS: list[Callable[[], Feed]] = [PlainFeed, ChunkedFeed, lambda: ChunkedFeed(2)]


def fed(feed: Feed, pieces: Sequence[bytes]) -> list[bytes]:
    """Return the messages that ``feed`` makes of ``pieces``, its first line aside."""
    messages = [message for piece in pieces for message in feed.data([piece])]
    return messages + list(feed.end())


def unchunked(stream: bytes) -> list[bytes]:
    """Read chunks as the destination's shell does: a line, then so many blocks; 0 is the end."""
    chunks: list[bytes] = []
    while True:
        line, newline, stream = stream.partition(b"\n")
        assert newline, "no line where a length should stand"
        assert line.isdigit()
        if line == b"0":
            assert stream == b"", "something follows the end"
            return chunks
        size = int(line) * CHUNK_BLOCK
        assert len(stream) >= size, "a chunk is not whole"
        chunks.append(stream[:size])
        stream = stream[size:]


def test_the_first_line_says_which_it_is() -> None:
    assert PlainFeed.first == b"plain\n"
    assert ChunkedFeed.first == b"chunked\n"
    assert ExactFeed.first == b"chunked\n"
    assert BareFeed.first == b""


def test_a_plain_feed_passes_each_piece_on_at_once() -> None:
    feed = PlainFeed()
    piece = b"x" * 512
    assert [message is piece for message in feed.data([piece])] == [True]
    assert list(feed.end()) == []


def test_a_chunk_goes_as_it_comes_and_is_filled_up_at_the_end() -> None:
    feed = ChunkedFeed()
    assert list(feed.data([b"a" * 900, b"b" * 99])) == [b"1\n", b"a" * 900, b"b" * 99]
    assert list(feed.data([b"c" * 512])) == [b"c" * 512]
    assert b"".join(feed.end()) == bytes(CHUNK_BLOCK - 900 - 99 - 512) + b"0\n"


@pytest.mark.parametrize(
    ("size", "most"),
    [(1.0, CHUNK_BLOCK), (3.5 * CHUNK_BLOCK, 3 * CHUNK_BLOCK), (float(1 << 40), 4 << 20)],
)
def test_a_slow_feed_has_short_chunks(size: float, most: int) -> None:
    stream = b"".join(fed(ChunkedFeed.at_most(size), [b"x" * MESSAGE] * 1024))
    assert max(map(len, unchunked(stream))) == most


def test_a_message_is_cut_where_a_chunk_ends() -> None:
    feed = ChunkedFeed()
    feed.data([b"a" * (CHUNK_BLOCK - 10)])
    assert list(feed.data([b"b" * 30])) == [b"b" * 10, b"2\n", b"b" * 20]


def test_nothing_at_all_is_only_an_end() -> None:
    assert fed(ChunkedFeed(), []) == [b"0\n"]


def test_after_a_full_chunk_nothing_is_filled_up() -> None:
    pieces = [b"a" * (CHUNK_BLOCK // 2)] * 2
    assert fed(ChunkedFeed(), pieces) == [b"1\n", *pieces, b"0\n"]


@given(st.lists(st.binary(min_size=1, max_size=700).map(lambda piece: piece * 300)))
def test_chunks_hold_the_archive_and_zeros_behind_it(pieces: list[bytes]) -> None:
    chunks = unchunked(b"".join(fed(ChunkedFeed(4), pieces)))
    archive, held = b"".join(pieces), b"".join(chunks)
    assert held.startswith(archive)
    assert held[len(archive) :].strip(b"\0") == b""
    if chunks:
        assert len(held) - len(archive) < len(chunks[-1])


@pytest.mark.parametrize("make", FEEDS, ids=["plain", "chunked", "small chunks"])
def test_no_message_is_longer_than_its_piece(make: Callable[[], Feed]) -> None:
    pieces = [b"x" * MESSAGE] * 100 + [b"y"]
    assert max(map(len, fed(make(), pieces))) == MESSAGE


def exactly(stream: bytes) -> bytes:
    """Read exact chunks as the destination's shell does."""
    whole = b""
    while True:
        line, newline, stream = stream.partition(b"\n")
        assert newline, "no line where a length should stand"
        if line == b"0":
            assert stream == b"", "something follows the end"
            return whole
        whole, stream = whole + stream[: int(line)], stream[int(line) :]


@given(st.lists(st.binary(min_size=1, max_size=700).map(lambda piece: piece * 40)))
def test_exact_chunks_hold_every_byte_and_no_other(pieces: list[bytes]) -> None:
    messages = fed(ExactFeed(MESSAGE), pieces)
    assert exactly(b"".join(messages)) == b"".join(pieces)
    assert max(map(len, messages)) <= MESSAGE


def test_an_exact_chunk_waits_until_it_is_full() -> None:
    feed = ExactFeed(10)
    assert list(feed.data([b"12345", b"67890"])) == []
    assert list(feed.data([b"x"])) == [b"10\n", b"12345", b"67890"]
    assert list(feed.end()) == [b"1\n", b"x", b"0\n"]


def test_chunks_grow_so_that_long_archives_need_few_of_them() -> None:
    chunks = unchunked(b"".join(fed(ChunkedFeed(), [b"x" * MESSAGE] * 600)))
    blocks = [len(chunk) // CHUNK_BLOCK for chunk in chunks]
    assert blocks == [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]


def test_a_message_is_what_the_api_server_passes_on_whole() -> None:
    """It cuts what stands behind the channel's byte into 32 KiB."""
    assert len(stdin(b"x" * MESSAGE)) == 32 * 1024 + 1
