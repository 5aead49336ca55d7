"""What ``--itemize`` says of a member, and that it says it once."""

from __future__ import annotations

import pytest

from kubectl_podcp.archive.headers import DIRECTORY, FIFO, HARD_LINK, REGULAR, SYMLINK, Member
from kubectl_podcp.items import Collected, Lines, item, line


def member(name: bytes, kind: bytes = REGULAR, size: int = 0, link: bytes = b"") -> Member:
    """A member of the last second of 2023."""
    return Member(name, kind, size, 0o4755 if kind == REGULAR else 0o644, 0, 0, 1704067199, link)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            member(b"tree/a b", size=1234),
            "-rwsr-xr-x           1234 2023-12-31T23:59:59Z tree/a b",
        ),
        (member(b"tree", DIRECTORY), "drw-r--r--              0 2023-12-31T23:59:59Z tree"),
        (
            member(b"l", SYMLINK, link=b"a\x1b"),
            "lrw-r--r--              0 2023-12-31T23:59:59Z l -> a\\x1b",
        ),
        (
            member(b"h", HARD_LINK, link=b"a"),
            "hrw-r--r--              0 2023-12-31T23:59:59Z h link to a",
        ),
        (member(b"p\n\xff", FIFO), "prw-r--r--              0 2023-12-31T23:59:59Z p\\x0a\\xff"),
        (
            Member(b"old", REGULAR, 0, 0, 0, 0, -1),
            "----------              0 1969-12-31T23:59:59Z old",
        ),
        (Member(b"x", REGULAR, 0, 0, 0, 0, 1 << 62), f"----------              0 @{1 << 62} x"),
        (Member(b"x", REGULAR, 0, 0, 0, 0, -1 << 62), f"----------              0 @{-1 << 62} x"),
    ],
)
def test_a_line_is_one_and_commands_no_terminal(told: Member, expected: str) -> None:
    assert line(told) == expected


def test_an_item_of_the_document() -> None:
    assert item(member(b"l\xff", SYMLINK, link=b"a")) == {
        "type": "symlink",
        "name": "l\\xff",
        "size": 0,
        "mode": "0644",
        "mtime": 1704067199,
        "link": "a",
    }
    assert item(member(b"a", size=5))["mode"] == "4755"
    assert item(member(b"a", size=5))["link"] is None


def names(lines: list[str]) -> list[str]:
    """Return what the lines end with."""
    return [each.split()[-1] for each in lines]


def test_another_attempt_tells_only_what_is_new() -> None:
    told: list[str] = []
    lines = Lines(told.append)
    lines.begin(())
    for name in (b"d", b"d/a", b"d/b"):
        lines.add(member(name))
    lines.begin([member(b"d/a")])
    for name in (b"d", b"d/b", b"d/c"):
        lines.add(member(name))
    lines.begin([member(b"d/a"), member(b"d/b")])
    for name in (b"d", b"d/c", b"d/d"):
        lines.add(member(name))
    assert names(told) == ["d", "d/a", "d/b", "d/c", "d/d"]


def test_what_an_earlier_run_has_left_is_told_too() -> None:
    told: list[str] = []
    lines = Lines(told.append)
    lines.begin([member(b"d/a")])
    lines.add(member(b"d"))
    assert names(told) == ["d/a", "d"]


def test_the_document_has_what_is_there_at_the_end() -> None:
    """What passed in the first attempt only was not staged whole, and has vanished since."""
    collected = Collected()
    collected.begin(())
    for name in (b"d", b"d/a", b"d/gone"):
        collected.add(member(name))
    collected.begin([member(b"d/a")])
    collected.add(member(b"d"))
    collected.add(member(b"d/b"))
    assert [each["name"] for each in collected.items()] == ["d/a", "d", "d/b"]
