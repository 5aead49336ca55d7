"""What a hostile source may cost: memory has a bound, whatever comes and however it is cut.

Fed lazily; what is held at the most is measured by tracemalloc.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat

import pytest

from kubectl_podcp.archive import safety
from kubectl_podcp.archive.follower import MAX_PAX, Follower
from kubectl_podcp.archive.headers import pax_records
from kubectl_podcp.archive.safety import Refused
from kubectl_podcp.archive.sparse import MAX_EXTENTS
from kubectl_podcp.exec.frames import (
    BINARY,
    CONTINUATION,
    MAX_MESSAGE,
    MessageReader,
    Violation,
)
from tests.fuzz import archives
from tests.unit.peers import frame
from tests.unit.tar_blocks import NONCE, USTAR, body, header, long_name, member, pax

MIB = 1 << 20
MESSAGE = 32 * 1024


def peak(work: Callable[[], object]) -> int:
    """Return how many bytes ``work`` held at the most."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def swallow(messages: Iterable[bytes]) -> int:
    """Follow an archive, whatever comes of it; return how many messages were taken."""
    follower = Follower(NONCE, b"top")
    taken = 0
    try:
        for message in messages:
            taken += 1
            for _ in follower.feed(message):
                pass
    except Refused:
        pass
    return taken


@pytest.mark.parametrize("flag", [b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize("size", [MAX_PAX + 1, (4 << 30) - 1, (1 << 63) - 1])
def test_a_header_of_4_gib_is_refused_at_its_first_block(flag: bytes, size: int) -> None:
    field = b"\x80" + size.to_bytes(11, "big")
    endless = chain([header(b"top/x", flag, field, magic=USTAR)], repeat(bytes(MESSAGE)))
    taken = []
    assert peak(lambda: taken.append(swallow(endless))) < MIB
    assert taken == [2]


def test_the_longest_pax_header() -> None:
    """Of records that are as short as they can be, and of one; in messages of any length."""
    short = (b"7 %02x%c=\n" % divmod(number, 256) for number in range(1 << 16))
    one = b"1048575 comment=".ljust(MAX_PAX - 2, b"x") + b"\n"
    for text in (b"".join(short), one):
        assert MAX_PAX // 3 < len(text) <= MAX_PAX
        assert len(pax_records(text)) in (1, 1 << 16)
        stream = header(b"PaxHeaders/x", b"x", len(text), magic=USTAR) + body(text)
        stream += header(b"top/x", magic=USTAR) + member(b"top/y")
        for step in (64, MESSAGE):
            assert peak(lambda: swallow(stepwise(stream, step))) < 80 * MIB  # noqa: B023


def stepwise(stream: bytes, step: int) -> Iterator[bytes]:
    """Give ``stream`` in messages of ``step`` bytes, one at a time."""
    for at in range(0, len(stream), step):
        yield stream[at : at + step]


@pytest.mark.parametrize("form", [archives.sparse_old, archives.sparse_1_0])
def test_the_longest_sparse_map(form: Callable[..., bytes]) -> None:
    """In messages of any length: what was read of it already is not kept beside it."""
    extents = [(number * 2 + (1 << 32), 0) for number in range(MAX_EXTENTS - 100)]
    stream = form(b"top/x", b"", extents, (1 << 33) - 1) + member(b"top/y")
    for step in (20, MESSAGE):
        assert peak(lambda: swallow_some(stepwise(stream, step))) < 48 * MIB  # noqa: B023


def swallow_some(messages: Iterable[bytes]) -> None:
    """Follow an archive, but take no more than a thousand pieces of a message."""
    follower = Follower(NONCE, b"top")
    for message in messages:
        try:
            for number, _ in enumerate(follower.feed(message)):
                if number > 1000:
                    return
        except Refused:
            return


def test_any_number_of_members() -> None:
    """Files, directories and hard links leave nothing behind; nor do long names."""
    some = [
        b"".join(
            (
                header(b"top/d%d/" % number, b"5"),
                long_name(b"L", b"top/d%d/" % number + b"n/" * 4000 + b"x"),
                header(b"top/x", b"0"),
                pax((b"mtime", b"1.5")) + header(b"top/d%d/y" % number, magic=USTAR),
                pax((b"comment", b"%d" % number), flag=b"g"),
                header(b"top/d%d/h" % number, b"1", linkname=b"top/d%d/y" % number),
            )
        )
        for number in range(50)
    ]
    ten, thousand = (
        peak(lambda: swallow(chain.from_iterable(repeat(some, count))))  # noqa: B023
        for count in (1, 40)
    )
    assert thousand < ten + MIB // 4


def test_symlinks_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted is what they take: short names and long ones."""
    limit = 4 * MIB
    monkeypatch.setattr(safety, "MAX_REMEMBERED", limit)
    for length in (0, 90, 8000):
        endless = (
            long_name(b"L", b"top/%08d" % number + b"n" * length)
            + header(b"x", flag, linkname=b"y")
            for number in range(1_000_000)
            for flag in (b"2", b"3")[: 1 + number % 2]
        )
        held = peak(lambda: swallow(endless))  # noqa: B023
        assert held < 1.6 * limit, length


def test_a_frame_reader_keeps_one_message() -> None:
    """Announced and never ended, in fragments, in one, in the smallest cuts."""
    whole = frame(bytes(MAX_MESSAGE))[:-1]
    assert peak(lambda: read(stepwise(whole, 4000))) < 3 * MIB
    fragments = chain([frame(b"", BINARY, False)], repeat(frame(bytes(1000), CONTINUATION, False)))
    assert peak(lambda: read(fragments)) < 3 * MIB


def read(chunks: Iterable[bytes]) -> None:
    """Read frames until they end, or are too much."""
    reader = MessageReader()
    try:
        for chunk in chunks:
            for _ in reader.feed(chunk):
                pass
    except Violation:
        pass
