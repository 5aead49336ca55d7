"""Owners that busybox' tar says wrong: which names have one, as the source's shell says."""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest

from kubectl_podcp.owners import HIGHEST, Owned, Owners, is_left_out
from kubectl_podcp.remote.records import LONGEST

NONCE = "0123456789abcdef" * 2
FILE = "81a4"
NOTHING = f"{NONCE} \n"
"""What is said of some hundreds of names of which none has a high owner."""


def said(name: str, uid: int, gid: int = 0) -> str:
    """What the source's shell says of a name."""
    return f"{NONCE} {FILE} {uid}:{gid} ./{name}\n"


def heard(
    *records: str,
    given: tuple[int | None, int | None] = (None, None),
    passes: Callable[[bytes, int], bool] = lambda _name, _mode: True,
    code: int = 0,
    step: int = 1 << 20,
) -> Owners:
    """Owners when the source's shell has said ``records``, and ended with ``code``."""
    owners = Owners(NONCE, given, passes)
    data = "".join((*records, f"{NONCE} end {code}\n")).encode()
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert [owners.hear(piece) for piece in pieces].index(True) == len(pieces) - 1
    return owners


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_the_first_owner_that_does_not_fit_is_named(step: int) -> None:
    """A name may hold a newline, and what looks like a record."""
    name = "t/a\nb 81a4 0:0 ./c\n"
    records = (
        NOTHING,
        said("t", HIGHEST, HIGHEST),
        said(name, 1000650000, 7),
        said("t/z", HIGHEST + 1),
    )
    owners = heard(*records, NOTHING, step=step)
    assert owners.known
    assert owners.lost == Owned(name.encode(), 1000650000, 7)
    error = owners.error()
    assert error is not None
    assert "'t/a\\x0ab 81a4 0:0 ./c\\x0a' belongs to 1000650000:7" in error.happened
    assert "--no-preserve=ownership" in error.advice
    assert "GNU tar" in error.advice


def test_an_end_alone_says_nothing() -> None:
    """find ends as if a directory had vanished where it could not start what it was to start."""
    owners = heard()
    assert not owners.known
    assert owners.error() is not None


def test_the_highest_owner_that_fits_is_none_of_them() -> None:
    owners = heard(NOTHING, said("t", HIGHEST, HIGHEST))
    assert (owners.known, owners.lost, owners.error()) == (True, None, None)


@pytest.mark.parametrize(
    ("given", "is_lost"),
    [((None, None), True), ((5, None), True), ((None, 5), True), ((5, 2**31), False)],
)
def test_an_owner_that_is_not_kept_does_not_matter(
    given: tuple[int | None, int | None], is_lost: bool
) -> None:
    records = (said("t/u", HIGHEST + 1), said("t/g", 0, HIGHEST + 1))
    assert (heard(*records, given=given).lost is not None) == is_lost
    for one, other in ((given, records[0]), (given[::-1], records[1])):
        assert (heard(other, given=one).lost is not None) == (given[0] is None)


def test_what_is_not_sent_does_not_matter() -> None:
    asked = list[tuple[bytes, int]]()

    def passes(name: bytes, mode: int) -> bool:
        asked.append((name, mode))
        return name == b"t/b"

    owners = heard(*(said(f"t/{name}", HIGHEST + 1) for name in "abc"), passes=passes)
    assert owners.lost == Owned(b"t/b", HIGHEST + 1, 0)
    assert asked == [(b"t/a", 0x81A4), (b"t/b", 0x81A4)]


def test_where_it_cannot_be_told_no_owner_is_right() -> None:
    error = heard(NOTHING, code=127).error()
    assert error is not None
    assert "could not be found out" in error.happened
    assert "find and stat" in error.advice


def test_a_source_that_says_what_no_source_says_is_not_heard_out() -> None:
    owners = Owners(NONCE, (None, None), lambda _name, _mode: True)
    pieces = [b"x" * (LONGEST // 2)] * 3
    assert [owners.hear(piece) for piece in pieces] == [False, False, True]
    assert not owners.known


def test_what_tar_leaves_out_has_no_owner_that_is_lost() -> None:
    for kind, never, asked_for in (
        (stat.S_IFSOCK, True, True),
        (stat.S_IFCHR, True, False),
        (stat.S_IFBLK, True, False),
        (stat.S_IFREG, False, False),
        (stat.S_IFIFO, False, False),
    ):
        assert is_left_out(kind | 0o644, devices=False) == never
        assert is_left_out(kind | 0o644, devices=True) == asked_for
