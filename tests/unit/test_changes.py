"""What changed while it was read: headers as they passed, and what the source says afterwards."""

from __future__ import annotations

import pytest

from kubectl_podcp.archive.headers import DIRECTORY, HARD_LINK, REGULAR, Member
from kubectl_podcp.changes import EACH, MAX_NAMED, MOST_HELD, Changes

NONCE = "0123456789abcdef" * 2
FILE, FOLDER = "81a4", "41ed"
END = f"{NONCE} end 0\n"


def member(
    name: bytes, mtime: int, kind: bytes = REGULAR, size: int = 5, linkname: bytes = b""
) -> Member:
    """A header."""
    return Member(name, kind, size, 0o644, 0, 0, mtime, linkname)


def said(name: str, mtime: int, size: int = 5, mode: str = FILE) -> str:
    """What the source's shell says of a name."""
    return f"{NONCE} {mode} {size} {mtime} ./{name}\n"


def heard(*records: str, passed: tuple[Member, ...] = (), step: int = 1 << 20) -> Changes:
    """Changes since 1000, when these headers have passed and that was said."""
    changes = Changes(NONCE, 1000)
    for each in (*passed, "something else"):
        changes.note(each)
    data = "".join((*records, END)).encode()
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert [changes.hear(piece) for piece in pieces].index(True) == len(pieces) - 1
    assert changes.known
    return changes


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_what_is_as_its_header_was_has_not_changed(step: int) -> None:
    """Though it is newer than the copy: it was finished before tar came to it."""
    passed = (member(b"t/new", 1003), member(b"t", 1003, DIRECTORY, 0))
    changes = heard(said("t", 1003, 4096, FOLDER), said("t/new", 1003), passed=passed, step=step)
    assert (changes.found, changes.lines()) == (0, "")


def test_a_source_that_says_what_no_source_says_is_not_heard_out() -> None:
    """It could go on for ever, and none of it must be kept."""
    changes = Changes(NONCE, 1000)
    assert [changes.hear(b"x" * 32768) for _ in range(3)] == [False, False, True]
    assert not changes.known


@pytest.mark.parametrize("length", [10, 4000])
def test_of_more_than_can_be_held_it_is_not_known_what_changed(length: int) -> None:
    """A clock that is ahead, or a source that lies, must not take our memory."""
    changes = Changes(NONCE, 1000)
    for number in range(MOST_HELD // (EACH + length) + 10):
        changes.note(member(b"t/%d".ljust(length) % number, 2000))
    assert sum(EACH + len(name) for name in changes._passed) < MOST_HELD + 2 * EACH + length
    assert changes.hear((said("t/other", 1003) + END).encode())
    assert (changes.known, changes.found) == (False, 0)


def test_what_is_older_than_the_copy_has_not_changed() -> None:
    assert heard(said("t/old", 999)).found == 0


def test_what_is_not_wanted_has_not_changed() -> None:
    asked = list[tuple[bytes, bool]]()

    def wants(name: bytes, is_directory: bool) -> bool:
        asked.append((name, is_directory))
        return name == b"t/b"

    changes = Changes(NONCE, 1000, wants)
    told = (said("t/a", 1004), said("t/b", 1004), said("t/d", 1004, 0, FOLDER))
    assert changes.hear("".join((*told, END)).encode())
    assert changes.lines() == "t/b: it changed while it was read"
    assert asked == [(b"t/a", False), (b"t/b", False), (b"t/d", True)]


@pytest.mark.parametrize("now", [said("t/a\nb", 1004), said("t/a\nb", 1003, 6)])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_what_is_not_as_its_header_was_is_named(now: str, step: int) -> None:
    changes = heard(now, passed=(member(b"t/a\nb", 1003),), step=step)
    assert changes.lines() == "t/a\\x0ab: it changed while it was read"


def test_what_was_older_than_the_copy_has_changed() -> None:
    """Its header is not kept, for that would be one for each file of the tree."""
    changes = heard(
        said("t", 1004, 4096, FOLDER), said("t/old", 1004), passed=(member(b"t/old", 999),)
    )
    assert changes.lines().splitlines() == [
        "t: names in it came or went while it was read",
        "t/old: it changed while it was read",
    ]


def test_a_hard_link_has_the_header_of_what_it_links_to() -> None:
    passed = (
        member(b"t/file", 1003),
        member(b"t/link", 1003, HARD_LINK, 0, b"t/file"),
        member(b"t/other", 1003, HARD_LINK, 0, b"t/old"),
    )
    changes = heard(said("t/link", 1003), said("t/other", 1003), passed=passed)
    assert changes.lines() == "t/other: it changed while it was read"


def test_of_many_the_first_are_named() -> None:
    changes = heard(*(said(f"t/{number}", 1003) for number in range(1, MAX_NAMED + 1008)))
    assert changes.found == MAX_NAMED + 1007
    assert changes.lines().splitlines()[-1] == "and 1,007 more changed"
    assert len(changes.lines().splitlines()) == MAX_NAMED + 1


@pytest.mark.parametrize("digits", [21, 5000])
def test_a_number_that_none_can_be_says_nothing(digits: int) -> None:
    """int() refuses more than some thousand digits, which would look like a bug of ours."""
    long = "1" * digits
    told = (f"{NONCE} {long} 1 1004 t/a\n", f"{NONCE} 81a4 {long} 1004 ./t/a\n")
    assert heard(*told, f"{NONCE} 81a4 1 {long} ./t/a\n").found == 0
    changes = Changes(NONCE, 0)
    assert not changes.hear(f"{NONCE} end {long}\n".encode())
    assert not changes.known


def test_what_cannot_be_told_is_not_known() -> None:
    changes = Changes(NONCE, 0)
    assert not changes.hear(said("t/a", 5).encode())
    assert not changes.known
    assert changes.hear(f"{NONCE} end 1\n".encode())
    assert not changes.known
