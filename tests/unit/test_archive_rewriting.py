"""What becomes of modes, owners and times on their way, and of who compares them."""

from __future__ import annotations

import stat

import pytest

from kubectl_podcp import modes
from kubectl_podcp.archive.follower import Follower
from kubectl_podcp.archive.headers import (
    DIRECTORY,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Member,
    encode,
    end_of_archive,
)
from kubectl_podcp.archive.rewriting import Rewriting
from kubectl_podcp.archive.safety import Policy
from kubectl_podcp.archive.wrapping import Wrapping
from kubectl_podcp.errors import SourceError
from kubectl_podcp.fidelity import KEPT, LINKS, MASKED, MODE, OWNERSHIP, SETUID

NONCE = "0123456789abcdef" * 2
FILE = Member(b"top/file", REGULAR, 0, 0o750, 5, 6, 7)
TREE = Member(b"top", DIRECTORY, 0, 0o2775, 5, 6, 7)
LINK = Member(b"top/link", SYMLINK, 0, 0o777, 5, 6, 7, b"file")
HARD = Member(b"top/hard", HARD_LINK, 0, 0o750, 5, 6, 7, b"top/file")

SYMBOLIC = modes.parse("u+rwX,go-rwx")


def test_nothing_is_made_anew_where_nothing_is_asked() -> None:
    assert all(Rewriting().member(each) is each for each in (FILE, TREE, LINK, HARD))


@pytest.mark.parametrize(
    ("rewriting", "file", "tree"),
    [
        (Rewriting(KEPT - {MODE}), 0o644, 0o755),
        (Rewriting(KEPT - {MODE}, umask=0o077), 0o600, 0o700),
        (Rewriting(KEPT - {MODE} | {MASKED}, umask=0o027), 0o750, 0o750),
        (Rewriting(modes=SYMBOLIC), 0o700, 0o2700),
        (Rewriting(KEPT - {MODE}, modes=SYMBOLIC), 0o600, 0o700),
        (Rewriting(modes=modes.parse("+w"), umask=0), 0o772, 0o2777),
        (Rewriting(owner=(1, None)), 0o750, 0o2775),
    ],
)
def test_modes(rewriting: Rewriting, file: int, tree: int) -> None:
    """A listing's are those of the archive; a symbolic link has none."""
    for member, kind, mode in ((FILE, stat.S_IFREG, file), (TREE, stat.S_IFDIR, tree)):
        assert rewriting.member(member).mode == mode
        assert rewriting.mode_of(kind | member.mode) == kind | mode
    assert rewriting.member(LINK).mode == 0o777
    assert rewriting.mode_of(stat.S_IFLNK | 0o777) == stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("rewriting", "owner"),
    [
        (Rewriting(owner=(1, None)), (1, 6)),
        (Rewriting(owner=(None, 0)), (5, 0)),
        (Rewriting(owner=(1, 2)), (1, 2)),
        (Rewriting(KEPT - {OWNERSHIP}), (0, 0)),
    ],
)
def test_owners(rewriting: Rewriting, owner: tuple[int, int]) -> None:
    for member in (FILE, TREE, LINK, HARD):
        given = rewriting.member(member)
        assert (given.uid, given.gid) == rewriting.owner_of((5, 6)) == owner


def test_all_get_one_time_where_none_is_kept() -> None:
    assert Rewriting(mtime=99).member(FILE).mtime == 99
    assert Rewriting(owner=(1, 1)).member(FILE).mtime == 7


def test_a_listing_has_setuid_where_it_is_kept() -> None:
    """Of the archive it is the guard that takes it off."""
    mode = stat.S_IFREG | 0o6755
    assert Rewriting().mode_of(mode) == stat.S_IFREG | 0o755
    assert Rewriting(KEPT | {SETUID}).mode_of(mode) == mode
    assert Rewriting(modes=modes.parse("u+s")).mode_of(mode) == stat.S_IFREG | 0o4755
    assert Rewriting().mode_of(stat.S_IFDIR | 0o2755) == stat.S_IFDIR | 0o2755


def test_a_hard_link_has_no_contents_that_could_be_a_file() -> None:
    with pytest.raises(SourceError, match="'top/hard' is one file with 'top/file'") as caught:
        Rewriting(KEPT - {LINKS}).member(HARD)
    assert "GNU tar" in caught.value.advice
    assert Rewriting(owner=(1, 1)).member(HARD).linkname == b"top/file"


def archive(*members: Member) -> bytes:
    """Return the archive of members without contents, and its trailer."""
    packed = b"".join(map(encode, members))
    return packed + end_of_archive(len(packed)) + f"\npodcp-{NONCE} 0\n".encode()


def test_the_follower_tells_members_as_they_were_and_sends_them_as_they_become() -> None:
    setuid = Member(b"top/su", REGULAR, 0, 0o4755, 5, 6, 7)
    rewriting = Rewriting(owner=(1, 2), modes=modes.parse("g+s"), mtime=9)
    follower = Follower(NONCE, b"top", Policy(), rewriting=rewriting)
    items = list(follower.feed(archive(TREE, FILE, setuid)))
    told = [item for item in items if isinstance(item, Member)]
    assert told == [TREE, FILE, Member(b"top/su", REGULAR, 0, 0o755, 5, 6, 7)]
    sent = b"".join(item for item in items if isinstance(item, bytes))
    assert sent == b"".join(
        encode(Member(name, kind, 0, mode, 1, 2, 9))
        for name, kind, mode in (
            (b"top", DIRECTORY, 0o2775),
            (b"top/file", REGULAR, 0o2750),
            (b"top/su", REGULAR, 0o2755),
        )
    )


def test_directories_that_an_archive_does_not_name_are_no_exception() -> None:
    rewriting = Rewriting(owner=(1, 2), modes=modes.parse("700"))
    wrapping = Wrapping(b"-", 3)
    follower = Follower(NONCE, b"-", wrapping=wrapping, rewriting=rewriting)
    file = Member(b"a/file", REGULAR, 0, 0o644, 0, 0, 3)
    sent = b"".join(each for each in follower.feed(archive(file)) if isinstance(each, bytes))
    assert sent == b"".join(
        encode(Member(name, kind, 0, 0o700, 1, 2, 3))
        for name, kind in ((b"-", DIRECTORY), (b"-/a", DIRECTORY), (b"-/a/file", REGULAR))
    )
    empty = Follower(NONCE, b"-", wrapping=Wrapping(b"-", 3), rewriting=rewriting)
    sent = b"".join(each for each in empty.feed(archive()) if isinstance(each, bytes))
    assert sent == encode(Member(b"-", DIRECTORY, 0, 0o700, 1, 2, 3))
