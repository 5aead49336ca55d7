"""How an archive goes to stdin: as it is, or in chunks that a shell can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.exec.channels import stdin
from kubectl_podcp.remote.feed import MESSAGE, ChunkedFeed, Feed, PlainFeed
from kubectl_podcp.remote.scripts import CHUNK

FEEDS: list[Callable[[], Feed]] = [PlainFeed, ChunkedFeed, lambda: ChunkedFeed(1000)]


def fed(feed: Feed, pieces: Sequence[bytes]) -> list[bytes]:
    """Return the messages that ``feed`` makes of ``pieces``, its first line aside."""
    messages = [message for piece in pieces for message in feed.data([piece])]
    return messages + list(feed.end())


def unchunked(stream: bytes) -> list[bytes]:
    """Read chunks as the destination's shell does: a line, then that many bytes; 0 is the end."""
    chunks: list[bytes] = []
    while True:
        line, newline, stream = stream.partition(b"\n")
        assert newline, "no line where a length should stand"
        assert line.isdigit()
        if line == b"0":
            assert stream == b"", "something follows the end"
            return chunks
        size = int(line)
        assert len(stream) >= size, "a chunk is not whole"
        chunks.append(stream[:size])
        stream = stream[size:]


def test_the_first_line_says_which_it_is() -> None:
    assert PlainFeed.first == b"plain\n"
    assert ChunkedFeed.first == b"chunked\n"


def test_a_plain_feed_passes_each_piece_on_at_once() -> None:
    feed = PlainFeed()
    piece = b"x" * 512
    assert [message is piece for message in feed.data([piece])] == [True]
    assert list(feed.end()) == []


def test_a_chunk_is_kept_back_until_it_is_whole() -> None:
    feed = ChunkedFeed(1000)
    assert list(feed.data([b"a" * 900, b"a" * 99])) == []
    assert list(feed.data([b"b" * 512])) == [b"1511\n", b"a" * 900, b"a" * 99, b"b" * 512]
    assert list(feed.data([b"c"])) == []
    assert list(feed.end()) == [b"1\n", b"c", b"0\n"]


def test_a_chunk_that_is_full_to_the_byte_goes() -> None:
    assert list(ChunkedFeed(1000).data([b"a" * 1000])) == [b"1000\n", b"a" * 1000]


def test_nothing_at_all_is_only_an_end() -> None:
    assert fed(ChunkedFeed(), []) == [b"0\n"]


def test_after_a_full_chunk_there_is_no_empty_one() -> None:
    """A length of 0 would end the archive."""
    assert fed(ChunkedFeed(1000), [b"a" * 1000]) == [b"1000\n", b"a" * 1000, b"0\n"]


@given(st.lists(st.binary(min_size=1, max_size=700)), st.integers(1, 2000))
def test_chunks_hold_the_archive_and_nothing_else(pieces: list[bytes], size: int) -> None:
    chunks = unchunked(b"".join(fed(ChunkedFeed(size), pieces)))
    assert b"".join(chunks) == b"".join(pieces)
    assert all(len(chunk) >= size for chunk in chunks[:-1])
    assert all(len(chunk) < size + 700 for chunk in chunks)


@pytest.mark.parametrize("make", FEEDS, ids=["plain", "chunked", "small chunks"])
def test_no_message_is_longer_than_its_piece(make: Callable[[], Feed]) -> None:
    pieces = [b"x" * MESSAGE] * 100 + [b"y"]
    assert max(map(len, fed(make(), pieces))) == MESSAGE


def test_what_is_held_back_stays_near_the_size_of_a_chunk() -> None:
    """``dd`` holds a chunk in memory, and so do we."""
    chunks = unchunked(b"".join(fed(ChunkedFeed(), [b"x" * MESSAGE] * 100)))
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, CHUNK, 4 * MESSAGE]


def test_a_message_is_what_the_api_server_passes_on_whole() -> None:
    """It cuts what stands behind the channel's byte into 32 KiB."""
    assert len(stdin(b"x" * MESSAGE)) == 32 * 1024 + 1
