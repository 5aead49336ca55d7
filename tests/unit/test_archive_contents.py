"""One file's contents, out of its archive or as they are."""

from __future__ import annotations

import hashlib

import pytest

from kubectl_podcp.archive.contents import Contents, Raw
from kubectl_podcp.archive.follower import EndOfArchive, Follower, Hashed, Trailer
from kubectl_podcp.archive.headers import Member
from kubectl_podcp.errors import IncompleteArchive, SourceFailed
from tests.unit.tar_blocks import (
    END,
    NONCE,
    header,
    in_steps,
    long_name,
    member,
    old_sparse,
    trailer,
)


def contents(archive: bytes, step: int) -> tuple[bytes, list[object]]:
    """Return the contents that an archive of one file has, and the events."""
    follower, only = Follower(NONCE, b"top"), Contents()
    pieces, events = b"", list[object]()
    for message in in_steps(archive + END + trailer(), step):
        for item in only.only(follower.feed(message)):
            if isinstance(item, bytes):
                assert item
                pieces += item
            else:
                events.append(item)
    return pieces, events


@pytest.mark.parametrize("step", [1, 100, 512, 700, 100_000])
@pytest.mark.parametrize("size", [0, 1, 512, 3000])
def test_the_contents_alone_go_on(size: int, step: int) -> None:
    content = b"x" * size
    pieces, events = contents(member(b"top", content), step)
    assert pieces == content
    assert [type(event) for event in events] == [Member, EndOfArchive, Trailer]


def test_a_file_that_goes_on_otherwise_than_it_came() -> None:
    """A long header, a sparse file, less mode: what is left out is what really went."""
    deep = member(b"top", b"x" * 700)
    archive = long_name(b"L", b"./top") + deep
    assert contents(archive, 100)[0] == b"x" * 700
    archive = old_sparse(b"top", b"d" * 512, [(1024, 512)], 5000)
    assert contents(archive, 100)[0] == bytes(1024) + b"d" * 512 + bytes(5000 - 1536)
    archive = header(b"top", b"0", 3, mode=b"0004755\0") + b"abc".ljust(512, b"\0")
    assert contents(archive, 100)[0] == b"abc"


@pytest.mark.parametrize(
    "archive",
    [header(b"top", b"5"), header(b"top", b"2", linkname=b"x"), member(b"top") + member(b"top")],
)
def test_what_is_no_file_any_more(archive: bytes) -> None:
    with pytest.raises(SourceFailed, match="no file any more"):
        contents(archive, 100)


def test_a_file_as_it_comes() -> None:
    raw = Raw(b"-")
    assert list(raw.feed(b"ab")) == [b"ab"]
    assert list(raw.feed(b"c")) == [b"c"]
    with pytest.raises(IncompleteArchive):
        raw.end_of_input()
    made, hashed, *ends = raw.feed(b"")
    assert isinstance(made, Member)
    assert (made.name, made.size) == (b"-", 3)
    assert hashed == Hashed(made, hashlib.sha256(b"abc").digest())
    assert ends == [EndOfArchive(), Trailer(0)]
    raw.end_of_input()
