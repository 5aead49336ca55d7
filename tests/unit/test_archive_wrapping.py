"""An archive of anybody's, put below one name: names, directories that it does not name."""

from __future__ import annotations

import pytest

from kubectl_podcp.archive import wrapping as module
from kubectl_podcp.archive.follower import Follower
from kubectl_podcp.archive.headers import DIRECTORY, HARD_LINK, Member, encode
from kubectl_podcp.archive.safety import Refused
from kubectl_podcp.archive.wrapping import Wrapping
from tests.unit.tar_blocks import END, NONCE, header, in_steps, member, trailer

NOW = 1_700_000_000
STEPS = (1, 511, 512, 100_000)


def directory(name: bytes) -> bytes:
    """The header of a directory that the archive does not name."""
    return encode(Member(name, DIRECTORY, 0, 0o755, 0, 0, NOW))


def wrapped(archive: bytes, step: int = 512) -> bytes:
    """Return what goes on of an archive."""
    follower = Follower(NONCE, b"-", wrapping=Wrapping(b"-", NOW))
    out = b""
    for message in in_steps(archive + END + trailer(), step):
        for item in follower.feed(message):
            out += item if isinstance(item, bytes) else b""
    follower.end_of_input()
    return out


@pytest.mark.parametrize("step", STEPS)
def test_all_names_stand_under_one(step: int) -> None:
    archive = member(b"a", b"A" * 700) + member(b"./b", b"B") + header(b"c", b"2", linkname=b"/x")
    assert wrapped(archive, step) == (
        directory(b"-")
        + member(b"-/a", b"A" * 700)
        + member(b"-/b", b"B")
        + header(b"-/c", b"2", linkname=b"/x")
    )


@pytest.mark.parametrize("name", [b".", b"./"])
def test_the_directory_itself_may_be_named(name: bytes) -> None:
    """Then it has the mode and time that the archive says."""
    archive = header(name, b"5", mode=b"0000700\0") + member(b"./a")
    assert wrapped(archive) == header(b"-/", b"5", mode=b"0000700\0") + member(b"-/a")


def test_directories_that_are_not_named_come_in_front_of_what_is_in_them() -> None:
    archive = member(b"x/y/a") + member(b"x/y/b") + member(b"x/c") + header(b"x/y/", b"5")
    assert wrapped(archive) == (
        directory(b"-")
        + directory(b"-/x")
        + directory(b"-/x/y")
        + member(b"-/x/y/a")
        + member(b"-/x/y/b")
        + member(b"-/x/c")
        + header(b"-/x/y/", b"5")
    )


def test_an_archive_of_nothing_is_an_empty_directory() -> None:
    assert wrapped(b"") == directory(b"-")


def test_a_hard_link_leads_to_the_same_member() -> None:
    archive = member(b"a") + header(b"b", b"1", linkname=b"./a")
    assert wrapped(archive) == directory(b"-") + member(b"-/a") + header(
        b"-/b", b"1", linkname=b"-/a"
    )


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (member(b"/etc/passwd"), "absolute"),
        (member(b"../x"), r"the part '\.\.'"),
        (member(b"a/../../x"), r"the part '\.\.'"),
        (member(b"a//x"), "empty part"),
        (header(b"a", b"1", linkname=b"/etc/passwd"), "absolute"),
        (header(b"a", b"1", linkname=b"../x"), r"the part '\.\.'"),
        (header(b"a", b"2", linkname=b"/etc") + member(b"a/x"), "through a symlink"),
        (header(b".", b"2", linkname=b"/etc") + member(b"x"), "through a symlink"),
        (member(b".podcp-" + NONCE.encode()), "this very copy"),
    ],
)
def test_what_leads_out_is_refused(archive: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        wrapped(archive)


def test_there_is_a_limit_to_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 300)
    it = Wrapping(b"-", NOW)
    with pytest.raises(Refused, match="more directories than can be remembered"):
        for number in range(10):
            it.missing(Member(b"-/%d/x" % number, HARD_LINK, 0, 0, 0, 0, 0))
