"""Which files are up to date: two listings compared, and what is left then."""

from __future__ import annotations

import pytest

from kubectl_podcp import modes, update
from kubectl_podcp.archive.headers import REGULAR, Member
from kubectl_podcp.archive.rewriting import Rewriting
from kubectl_podcp.fidelity import KEPT, MODE, OWNERSHIP, SETUID
from kubectl_podcp.remainder import remainder
from kubectl_podcp.update import Current
from tests.unit.test_resume import DIRECTORY, TOP, line, listed

LINK = "a1ff"


def current(source: str, target: str, said: str = "gives") -> bool:
    """Whether one file is up to date."""
    here, there = listed(TOP, source), listed(TOP, target, said=said)
    return b"top/file" in update.same_time(update.alike(here, there), here, there)


def test_a_file_is_up_to_date_where_all_is_equal() -> None:
    assert current(line("top/file"), line("top/file"))


@pytest.mark.parametrize(
    "there",
    [
        line("top/other"),
        line("top/file", 6),
        line("top/file", mtime=1001),
        line("top/file", mode="81b6"),
        line("top/file", owner="0:1"),
        line("top/file", links=2),
        line("top/file", mode=LINK),
        line("top/file", mode=DIRECTORY),
    ],
    ids=["missing", "size", "time", "mode", "owner", "links", "a link", "a directory"],
)
def test_a_file_that_differs_is_not(there: str) -> None:
    assert not current(line("top/file"), there)


def test_what_is_no_regular_file_is_sent() -> None:
    for mode in (LINK, DIRECTORY, "11a4"):
        assert not current(line("top/file", mode=mode), line("top/file", mode=mode))


def test_owners_count_where_files_can_be_given_away() -> None:
    assert not current(line("top/file", owner="7:8"), line("top/file"))
    assert current(line("top/file", owner="7:8"), line("top/file"), said="")


def test_a_copy_takes_setuid_off() -> None:
    assert current(line("top/file", mode="89ed"), line("top/file", mode="81ed"))
    assert not current(line("top/file", mode="89ed"), line("top/file", mode="89ed"))


def test_a_digest_that_one_end_did_not_tell_proves_nothing() -> None:
    names = [b"equal", b"differs", b"here", b"there", b"nowhere"]
    here = {b"equal": b"1", b"differs": b"2", b"here": b"3"}
    there = {b"equal": b"1", b"differs": b"0", b"there": b"3"}
    assert update.same_digest(names, here, there) == {b"equal"}


def test_what_changed_since_is_up_to_date_no_more() -> None:
    then = listed(TOP, line("top/a"), line("top/b"), line("top/c"), line("top/d"))
    found = Current(then, frozenset({b"top/a", b"top/b", b"top/c"}))
    assert found.still(then) == found.names
    now = listed(TOP, line("top/a"), line("top/b", mtime=1001), line("top/d"))
    assert found.still(now) == {b"top/a"}
    assert Current(None, frozenset()).still(now) == frozenset()


def test_what_is_left() -> None:
    source = listed(TOP, line("top/a"), line("top/b", 7), line("top/c"))
    left = remainder(source, whole=frozenset({b"top/b"}), current=frozenset({b"top/a", b"top/b"}))
    assert left.names == (b"top", b"top/c")
    assert (left.whole, left.current) == (frozenset({b"top/b"}), frozenset({b"top/a"}))
    assert left.size() == 7
    assert not left.is_nothing
    assert left.has(Member(b"top/a", REGULAR, 5, 0o644, 0, 0, 1000))
    assert not left.has(Member(b"top/a", REGULAR, 5, 0o644, 0, 0, 1001))
    assert not left.has(Member(b"top/c", REGULAR, 5, 0o644, 0, 0, 1000))


def test_of_a_file_alone_nothing_may_be_left() -> None:
    for said in ("names", ""):
        source = listed(line("a\nb"), said=said)
        assert remainder(source, current=frozenset({b"a\nb"})).is_nothing
        assert not remainder(source).is_nothing


def test_a_listing_under_another_name() -> None:
    found = listed(line(".", mode=DIRECTORY), line("./a"), line("./..b"))
    assert found.renamed(b".", b"top").names == [b"top", b"top/a", b"top/..b"]
    assert found.renamed(b".", b"top")[b"top/a"] == found[b"./a"]


@pytest.mark.parametrize(
    ("rewriting", "there"),
    [
        (Rewriting(KEPT | {SETUID}), line("top/file", mode="89ed", owner="7:8")),
        (Rewriting(modes=modes.parse("600")), line("top/file", mode="8180", owner="7:8")),
        (Rewriting(owner=(1, None)), line("top/file", mode="81ed", owner="1:8")),
        (Rewriting(KEPT - {MODE}), line("top/file", mode="81a4", owner="7:8")),
        (Rewriting(KEPT - {OWNERSHIP}), line("top/file", mode="81ed", owner="5:5")),
    ],
)
def test_what_counts_is_what_a_copy_would_bring_about(rewriting: Rewriting, there: str) -> None:
    here = listed(TOP, line("top/file", mode="89ed", owner="7:8"))
    assert update.alike(here, listed(TOP, there, said="gives"), rewriting) == [b"top/file"]
    same = listed(TOP, line("top/file", mode="89ff", owner="7:9"), said="gives")
    assert update.alike(here, same, rewriting) == []
