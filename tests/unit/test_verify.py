"""The digests of what passed, and what is wrong with those that are read again."""

from __future__ import annotations

from kubectl_podcp.archive.follower import Hashed
from kubectl_podcp.archive.headers import HARD_LINK, REGULAR, SYMLINK, Member
from kubectl_podcp.verify import Ledger
from tests.unit.test_resume import LAST, MIB, TOP, line, listed, resumed

ONE, OTHER = b"1" * 32, b"2" * 32


def member(name: bytes, kind: bytes = REGULAR, linkname: bytes = b"", size: int = 5) -> Member:
    """A member's header."""
    return Member(name, kind, size, 0o644, 0, 0, 1000, linkname)


def passed(*names: bytes) -> Ledger:
    """A ledger in which these files have passed."""
    ledger = Ledger()
    ledger.begin(None)
    for name in names:
        ledger.note(Hashed(member(name), ONE))
    return ledger


def test_what_is_there_must_be_what_passed() -> None:
    ledger = passed(b"top/file")
    assert ledger.difference(b"top/file", ONE) == ""
    wrong = ledger.difference(b"top/file", OTHER)
    assert wrong == (
        "'top/file' is not what passed: its sha256 is 323232323232…, and was 313131313131…"
    )
    assert ledger.difference(b"top/\x1b", ONE) == "'top/\\x1b' was unpacked, but never passed"
    assert (len(ledger), ledger.size) == (1, 5)


def test_a_hard_link_is_what_it_links_to() -> None:
    """A link to what has no contents is none that is read again."""
    ledger = passed(b"top/file")
    ledger.note(member(b"top/link", HARD_LINK, b"top/file"))
    ledger.note(member(b"top/symlink", SYMLINK, b"file"))
    ledger.note(member(b"top/again", HARD_LINK, b"top/symlink"))
    assert ledger.difference(b"top/link", ONE) == ""
    assert list(ledger) == [b"top/file", b"top/link"]


def test_an_attempt_keeps_the_digests_of_what_is_whole() -> None:
    files = [line("top/whole"), line("top/earlier", 7), line("top/again")]
    found = resumed(files, [files[0], files[1]])
    ledger = passed(b"top/whole", b"top/again")
    ledger.begin(found)
    assert list(ledger) == [b"top/whole"]
    assert ledger.unknown == {b"top/earlier": 7}
    assert ledger.size == 12
    ledger.learn(b"top/earlier", OTHER)
    ledger.learn(b"top/whole", OTHER)  # nobody asked
    assert ledger.difference(b"top/earlier", OTHER) == ""
    assert ledger.difference(b"top/whole", ONE) == ""
    ledger.begin(None)
    assert (list(ledger), ledger.unknown, ledger.size) == ([], {}, 0)


def test_of_a_file_that_passes_in_parts_the_source_says_the_digest() -> None:
    """Even where all of it had passed before, but did not arrive: it may have changed since."""
    source = listed(TOP, line("top/big", 4 * MIB), LAST)
    ledger = passed(b"top/big")
    ledger.begin(resumed([line("top/big", 4 * MIB)], [line("top/big", MIB, mtime=3000)]))
    assert ledger.unknown == {b"top/big": source[b"top/big"].size}
    ledger.note(Hashed(member(b"top/big", size=3 * MIB), ONE))
    assert list(ledger) == []
    ledger.learn(b"top/big", OTHER)
    assert ledger.difference(b"top/big", OTHER) == ""
    assert ledger.size == 4 * MIB


def test_what_passed_for_several_destinations_is_known_for_each() -> None:
    """And what one learns when it is copied to alone does not concern the others."""
    first, other = Ledger(), Ledger()
    member = Member(b"a", b"0", 3, 0o644, 0, 0, 0)
    first.note(Hashed(member, b"1" * 32))
    other.adopt(first)
    assert (len(other), other.size) == (1, 3)
    other.begin(None)
    other.note(Hashed(member, b"2" * 32))
    assert first.difference(b"a", b"1" * 32) == ""
    assert other.difference(b"a", b"2" * 32) == ""
