"""What the destination has already does not go on, and the rest of a file becomes a member."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kubectl_podcp.archive.follower import CutArchive, EndOfArchive, Follower, Had, Trailer
from kubectl_podcp.archive.headers import REGULAR, Member, encode, padded
from kubectl_podcp.archive.splice import Splice
from kubectl_podcp.errors import IncompleteArchive
from tests.unit import tar_blocks
from tests.unit.tar_blocks import END, NONCE, in_steps, trailer

STEPS = (1, 100, 512, 700, 4096, 1 << 20)


def had(names: Iterable[bytes], stream: bytes, step: int) -> tuple[bytes, list[object]]:
    """Return what goes on of ``stream`` when ``names`` are there already, and the events."""
    wanted = set(names)
    follower = Follower(NONCE, b"top", has=lambda member: member.name in wanted)
    items = [item for data in in_steps(stream, step) for item in follower.feed(data)]
    return b"".join(item for item in items if isinstance(item, bytes)), [
        item for item in items if not isinstance(item, bytes)
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [0, 1, 512, 3000])
def test_what_is_there_already_does_not_go_on(size: int, step: int) -> None:
    first = tar_blocks.member(b"top/first", b"a" * 700)
    there = tar_blocks.member(b"top/there", b"b" * size)
    last = tar_blocks.member(b"top/last", b"c" * 5)
    archive, events = had([b"top/there"], first + there + last + END + trailer(), step)
    assert archive == first + last
    (dropped,) = (event for event in events if isinstance(event, Had))
    assert (dropped.member.name, dropped.member.size) == (b"top/there", size)
    assert events[-1] == Trailer(0)


@pytest.mark.parametrize("step", STEPS)
def test_a_sparse_file_that_is_there_already_does_not_go_on(step: int) -> None:
    sparse = tar_blocks.old_sparse(b"top/there", b"abcde", [(0, 3), (10_000, 2)], 20_000)
    last = tar_blocks.member(b"top/last", b"c")
    archive, _ = had([b"top/there"], sparse + last + END + trailer(), step)
    assert archive == last


def rest(size: int) -> Member:
    """The header of a rest."""
    return Member(b"top/file", REGULAR, size, 0o640, 1, 2, 1_000_000)


def splice_for(member: Member, *, alone: bool) -> Splice:
    """Return a splice for the rest of a file of 5,000 bytes."""
    return Splice(Follower(NONCE, b"top"), member, nonce=NONCE, size=5000, alone=alone)


def line(size: object = 5000, time: object = 1_000_000, nonce: str = NONCE) -> bytes:
    """Return what the source's shell says behind the rest of a file."""
    return f"\npodcp-{nonce} rest {size:>20} {time:>20}\n".encode()


def spliced(member: Member, stream: bytes, step: int, *, alone: bool) -> list[object]:
    """Return all that comes of ``stream``, which begins with the body of ``member``."""
    splice = splice_for(member, alone=alone)
    items: list[object] = [item for data in in_steps(stream, step) for item in splice.feed(data)]
    assert not splice.changed
    return items


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [1, 511, 512, 1500])
def test_a_rest_becomes_the_first_member(size: int, step: int) -> None:
    member, raw = rest(size), b"r" * size
    last = tar_blocks.member(b"top/last", b"c" * 5)
    items = spliced(member, raw + line() + last + END + trailer(), step, alone=False)
    sent = b"".join(item for item in items if isinstance(item, bytes))
    assert sent == encode(member) + raw.ljust(padded(size), b"\0") + last
    assert items[0] == member
    assert items[-1] == Trailer(0)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [1, 512])
def test_a_rest_alone_is_a_whole_archive(size: int, step: int) -> None:
    items = spliced(rest(size), b"r" * size + line() + trailer(), step, alone=True)
    assert EndOfArchive() in items
    assert items[-1] == Trailer(0)


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("less", [1, 24, 512])
def test_a_rest_that_shrank_takes_nothing_of_what_follows(step: int, less: int) -> None:
    """By as much as a header is long, too: then the archive behind it would look sound."""
    first, last = (tar_blocks.member(name, b"c" * 5) for name in (b"top/first", b"top/last"))
    stream = b"r" * (1024 - less) + line(5000 - less) + first + last + END + trailer()
    with pytest.raises(IncompleteArchive, match="'top/file' became shorter while it was copied"):
        spliced(rest(1024), stream, step, alone=False)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("less", [*range(1, 140), 500, 999, 1000])
def test_a_rest_that_shrank_alone_is_noticed_with_the_last_byte(step: int, less: int) -> None:
    """Where less may come in all than was announced: the source waits for an answer then."""
    splice = splice_for(rest(1000), alone=True)
    stream = b"r" * (1000 - less) + line(5000 - less) + trailer()
    with pytest.raises(IncompleteArchive) as caught:
        for data in in_steps(stream, step):
            list(splice.feed(data))
    lacks_body = less >= len(line()) + len(trailer())
    assert caught.type is (CutArchive if lacks_body else IncompleteArchive)


@pytest.mark.parametrize(
    "said", [line(5001), line(time=1_000_001), line(time=-1), line("", ""), line("", 1_000_000)]
)
def test_a_file_that_changed_while_its_rest_was_read(said: bytes) -> None:
    """It grew, was written to, or is gone."""
    splice = splice_for(rest(1000), alone=True)
    items = list(splice.feed(b"r" * 1000 + said + trailer()))
    assert items[-1] == Trailer(0)
    assert splice.changed


@pytest.mark.parametrize("said", [line(nonce="0" * 32), line()[:-1] + b" ", line("x", "y")])
def test_only_our_own_line_ends_a_rest(said: bytes) -> None:
    with pytest.raises(IncompleteArchive):
        spliced(rest(1000), b"r" * 1000 + said + trailer(), 1 << 20, alone=True)


def test_without_that_line_the_archive_does_not_end() -> None:
    splice = splice_for(rest(1000), alone=True)
    items = list(splice.feed(b"r" * 1000 + line()[:-1]))
    assert EndOfArchive() not in items
    with pytest.raises(CutArchive):
        splice._follower.end_of_input()
