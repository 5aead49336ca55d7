"""What a member may not do: a table of hostile names, links and types."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubectl_podcp.archive import safety, seen
from kubectl_podcp.archive.headers import Member
from kubectl_podcp.archive.safety import Altered, Guard, LeftOut, Policy, Refused
from kubectl_podcp.errors import UnsafeMember
from tests.unit.tar_blocks import NONCE


def member(name: bytes, flag: bytes = b"0", linkname: bytes = b"") -> Member:
    """Return a member; what the rules do not look at is left as it may be."""
    return Member(name, flag, 0, 0o644, 0, 0, 1000, linkname)


def guard(policy: Policy | None = None) -> Guard:
    """Return the guard of an archive of ``top``."""
    return Guard(b"top", NONCE, policy or Policy())


def admitted(guard: Guard, *members: Member) -> None:
    """Let members pass, as they are."""
    for each in members:
        assert guard.admit(each) is each


# Names

GOOD = [
    b"top",
    b"top/file",
    b"top/-dash",
    b"top/a b\nc\xff",
    b"top/.hidden",
    b"top/..hidden",
    b"top/...",
    b"top/a./b../.c",
    b"top/.podcp-" + b"0" * 32,
    b"top/" + b"n" * 1000,
]
BAD = [
    (b"", "does not stand under 'top'"),
    (b".", "does not stand under"),
    (b"./", "does not stand under"),
    (b"other", "does not stand under"),
    (b"topper", "does not stand under"),
    (b"topper/file", "does not stand under"),
    (b"-top", "does not stand under"),
    (b"/top/file", "is absolute"),
    (b"//top/file", "is absolute"),
    (b".//top/file", "is absolute"),
    (b"..", "part '..'"),
    (b"../top/file", "part '..'"),
    (b"top/..", "part '..'"),
    (b"top/../x", "part '..'"),
    (b"top/a/../../x", "part '..'"),
    (b"./../x", "part '..'"),
    (b"top/", "empty part"),
    (b"top//file", "empty part"),
    (b"top/a//", "empty part"),
    (b"top/.", "empty part"),
    (b"top/./file", "empty part"),
    (b"top/a/.", "empty part"),
    (b"top/.podcp-" + NONCE.encode(), "this very copy"),
    (b"top/x.podcp-" + NONCE.encode() + b"-new/file", "this very copy"),
    (b"top/" + b"n" * safety.MAX_NAME, "8196 bytes is too long"),
    (b"./" * 500_000 + b"top", "1000003 bytes is too long"),
]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("flag", [b"0", b"5", b"6", b"2"])
def test_good_names(name: bytes, flag: bytes) -> None:
    """They go on as they are, whatever the type."""
    admitted(guard(), member(name, flag, b"/anywhere"))


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("dots", [b"./", b"././"])
def test_leading_dots_are_stripped(name: bytes, dots: bytes) -> None:
    """Names and targets of hard links alike."""
    assert guard().admit(member(dots + name)) == member(name)
    link = guard().admit(member(b"top/link", b"1", dots + name))
    assert link == member(b"top/link", b"1", name)


@pytest.mark.parametrize(("name", "why"), BAD)
@pytest.mark.parametrize("flag", [b"0", b"1", b"2", b"3", b"5"])
def test_bad_names(name: bytes, why: str, flag: bytes) -> None:
    """No type makes one good, and the error has the bytes."""
    with pytest.raises(Refused, match=why) as caught:
        guard().admit(member(name, flag, b"top/x"))
    assert name.startswith(caught.value.name[:100])


@pytest.mark.parametrize(("target", "why"), BAD)
def test_bad_targets_of_hard_links(target: bytes, why: str) -> None:
    """busybox and toybox would link to files outside."""
    with pytest.raises(Refused, match=why) as caught:
        guard().admit(member(b"top/link", b"1", target))
    assert caught.value.name == b"top/link" or len(target) > 8000


@pytest.mark.parametrize("target", [b"/etc/passwd", b"..", b"", b"../../x", b"top/../..", b"."])
def test_targets_of_symlinks_are_free(target: bytes) -> None:
    """They are what the link holds; nothing is written through it."""
    admitted(guard(), member(b"top/link", b"2", target))


def test_targets_of_symlinks_have_a_length() -> None:
    """One that no system takes; the member is named."""
    admitted(guard(), member(b"top/link", b"2", b"t" * safety.MAX_NAME))
    with pytest.raises(Refused, match="8193 bytes is too long") as caught:
        guard().admit(member(b"top/link", b"2", b"t" * (safety.MAX_NAME + 1)))
    assert caught.value.name == b"top/link"


def test_the_destination_inside_the_source() -> None:
    """The advice says what to do."""
    with pytest.raises(Refused) as caught:
        guard().admit(member(b"top/.podcp-" + NONCE.encode()))
    assert "choose one outside" in caught.value.advice


def test_the_folder_in_which_the_copy_is_unpacked() -> None:
    """Whichever destination it is of; what stays behind may stand there."""
    rules = Guard(b"top", NONCE, Policy(), (b".podcp-1", b".podcp-2"))
    for name in (b"top/.podcp-1", b"top/d/.podcp-2/top/file"):
        admitted(rules, member(name))
        with pytest.raises(Refused, match="this very copy") as caught:
            rules.release(member(name))
        assert "choose one outside" in caught.value.advice
    for name in (b"top/.podcp-3/file", b"top/file"):
        admitted(rules, member(name))
        rules.release(member(name))


def test_the_error_names_the_member() -> None:
    """Escaped for a terminal in the text, raw as an attribute."""
    with pytest.raises(UnsafeMember) as caught:
        guard().admit(member(b"\x1b]evil\xff"))
    assert "'\\x1b]evil\\xff'" in str(caught.value)
    assert isinstance(caught.value, Refused)
    assert caught.value.name == b"\x1b]evil\xff"
    assert caught.value.why in str(caught.value)


@pytest.mark.parametrize("top", [b"", b".", b"..", b"a/b", b"a/", b"/", b"a\0b"])
def test_top_is_one_part(top: bytes) -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(ValueError, match="one part"):
        Guard(top, NONCE, Policy())


# Symlinks


@pytest.mark.parametrize("flag", [b"0", b"1", b"2", b"3", b"5", b"6"])
@pytest.mark.parametrize("name", [b"top/link/x", b"top/link/x/y", b"./top/link/x"])
def test_nothing_is_written_through_a_symlink(name: bytes, flag: bytes) -> None:
    """Neither below nor far below."""
    rules = guard()
    admitted(rules, member(b"top/link", b"2", b"/etc"), member(b"top/linked/x"))
    with pytest.raises(Refused, match="through a symlink"):
        rules.admit(member(name, flag, b"top/file"))


@pytest.mark.parametrize("flag", [b"0", b"1", b"2", b"5"])
def test_nothing_replaces_a_symlink(flag: bytes) -> None:
    """GNU tar makes a directory of it, busybox writes through it."""
    rules = guard()
    admitted(rules, member(b"top/link", b"2", b"/etc"))
    with pytest.raises(Refused, match="symlink of the same name"):
        rules.admit(member(b"top/link", flag, b"top/file"))


def test_a_symlink_where_a_directory_was() -> None:
    """What was found sound before is looked at again."""
    rules = guard()
    admitted(rules, member(b"top/a", b"2", b"x"), member(b"top/d/one"), member(b"top/d/two"))
    admitted(rules, member(b"top/d", b"2", b"/etc"))
    with pytest.raises(Refused, match="through a symlink"):
        rules.admit(member(b"top/d/three"))


def test_top_itself_as_a_symlink() -> None:
    """Then nothing can stand under it."""
    rules = guard()
    admitted(rules, member(b"top", b"2", b"/etc"))
    with pytest.raises(Refused, match="through a symlink"):
        rules.admit(member(b"top/passwd"))


# Hard links


def test_hard_links() -> None:
    """To a file of the archive, in another directory too."""
    admitted(guard(), member(b"top/file"), member(b"top/d/link", b"1", b"top/file"))


def test_a_hard_link_through_a_symlink() -> None:
    """The way to the target must be sound as well."""
    rules = guard()
    admitted(rules, member(b"top/link", b"2", b"/etc"))
    with pytest.raises(Refused, match="through a symlink"):
        rules.admit(member(b"top/x", b"1", b"top/link/passwd"))


def test_a_hard_link_to_a_symlink_is_a_symlink() -> None:
    """GNU tar writes such; afterwards it is no way either."""
    rules = guard()
    admitted(rules, member(b"top/link", b"2", b"/etc"), member(b"top/x", b"1", b"top/link"))
    with pytest.raises(Refused, match="through a symlink"):
        rules.admit(member(b"top/x/passwd"))


def test_a_hard_link_to_a_symlink_below_it() -> None:
    """Its target's directory was found sound, and is a symlink from now on."""
    rules = guard()
    admitted(rules, member(b"top/d/link", b"2", b"/etc"))
    admitted(rules, member(b"top/d", b"1", b"top/d/link"))
    with pytest.raises(Refused, match="through a symlink"):
        rules.admit(member(b"top/d/passwd"))


def test_a_hard_link_to_itself() -> None:
    """busybox removes the file before it fails."""
    with pytest.raises(Refused, match="to itself"):
        guard().admit(member(b"top/x", b"1", b"./top/x"))


@pytest.mark.parametrize("link", [b"top/h", b"top/one", b"top/d/h"])
def test_a_hard_link_to_a_symlink_as_one_of_its_own(link: bytes) -> None:
    """Where toybox is: its tar gives the mode of a hard link to what the symlink leads to."""
    rules = guard(Policy(linked_symlinks=False))
    admitted(rules, member(b"top/file"), member(b"top/link", b"2", b"/etc/x"))
    hard = replace(member(link, b"1", b"top/link"), mode=0o777)
    symlink = replace(hard, type=b"2", linkname=b"/etc/x")
    assert rules.admit(hard) == Altered(symlink, (safety.OF_ITS_OWN,))
    again = replace(hard, name=b"top/again", linkname=link)
    assert rules.admit(again) == Altered(replace(symlink, name=b"top/again"), (safety.OF_ITS_OWN,))
    admitted(rules, member(b"top/more", b"1", b"top/file"))
    with pytest.raises(Refused, match="through a symlink"):
        rules.admit(member(link + b"/passwd"))


# Names that come again

LAST = {
    "file": member(b"top/x"),
    "hard link": member(b"top/x", b"1", b"top/other"),
    "hard link to a symlink": member(b"top/x", b"1", b"top/leads"),
    "symlink": member(b"top/x", b"2", b"anywhere"),
    "directory": member(b"top/x", b"5"),
    "fifo": member(b"top/x", b"6"),
}
FILES = ("file", "hard link")


@pytest.mark.parametrize("second", LAST)
@pytest.mark.parametrize("first", ["file", "hard link", "directory", "fifo"])
def test_a_name_that_comes_again_as_something_else(first: str, second: str) -> None:
    """In busybox a file gets a directory's mode, in toybox what a symlink leads to its time."""
    before = [member(b"top/other"), member(b"top/leads", b"2", b"/etc"), LAST[first]]
    admitted(guard(), *before, LAST[second])
    rules = guard(Policy(repeats=False))
    admitted(rules, *before)
    if first == second or (first in FILES and second in FILES):
        admitted(rules, LAST[second])
        return
    with pytest.raises(Refused, match="comes again as something else"):
        rules.admit(LAST[second])


@pytest.mark.parametrize("second", [b"0", b"5", b"2"])
def test_a_name_that_comes_again_when_it_has_a_hard_link(second: bytes) -> None:
    """busybox makes hard links at the end: of what came last."""
    before = (member(b"top/x"), member(b"top/link", b"1", b"top/x"))
    admitted(guard(), *before, member(b"top/x", second, b"anywhere"))
    rules = guard(Policy(repeats=False))
    admitted(rules, *before)
    with pytest.raises(Refused, match="has a hard link by now"):
        rules.admit(member(b"top/x", second, b"anywhere"))


def test_more_names_than_can_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MOST", 1000)
    rules = guard(Policy(repeats=False))
    with pytest.raises(Refused, match="more names than can be told apart"):
        for number in range(10_000):
            rules.admit(member(b"top/%d" % number))
    assert number == 1000


@pytest.mark.parametrize("line", [b"begin 644 x", b"begin-base64 644 x"])
def test_a_name_that_is_a_uuencoded_file_to_bsdtar(line: bytes) -> None:
    with pytest.raises(Refused, match="uuencoded"):
        guard().admit(member(b"top/a\n" + line + b"\n!!!!!\n!y"))
    admitted(guard(), member(b"top/a\nbeginning"), member(b"top/begin 644 x"))


# Policy


@pytest.mark.parametrize("flag", [b"3", b"4"])
def test_devices(flag: bytes) -> None:
    """Left out with their hard links, unless the policy lets them."""
    rules = guard()
    device, link = member(b"top/null", flag), member(b"top/x", b"1", b"top/null")
    assert rules.admit(device) == LeftOut(device, "it is a device")
    assert rules.admit(link) == LeftOut(link, "it is a hard link to a device")
    another = member(b"top/y", b"1", b"top/x")
    assert rules.admit(another) == LeftOut(another, "it is a hard link to a device")
    admitted(rules, member(b"top/z", b"1", b"top/file"))
    admitted(guard(Policy(devices=True)), device, link)


def test_fifos_go_on() -> None:
    """They harm nobody."""
    admitted(guard(), member(b"top/fifo", b"6"))


@pytest.mark.parametrize("flag", [b"0", b"1", b"6"])
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755, 0o7755])
def test_setuid(flag: bytes, mode: int) -> None:
    """Taken off, the sticky bit not, unless the policy lets it."""
    file = replace(member(b"top/su", flag, b"top/x"), mode=mode)
    lessened = replace(file, mode=mode & 0o1777)
    assert guard().admit(file) == Altered(lessened, ("without setuid and setgid",))
    admitted(guard(Policy(setuid=True)), file)


def test_setgid_of_directories_stays() -> None:
    """It gives nobody a right, and volumes with an fsGroup have it."""
    admitted(guard(), replace(member(b"top", b"5"), mode=0o2775))


def test_times_before_1970() -> None:
    """They go on, but where the destination's tar stops at them."""
    old = replace(member(b"top/old"), mtime=-1)
    admitted(guard(), old)
    strict = guard(Policy(early_times=False))
    assert strict.admit(old) == Altered(replace(old, mtime=0), ("with 1970 for its time",))
    both = strict.admit(replace(old, mode=0o4755))
    assert isinstance(both, Altered)
    assert both.why == ("without setuid and setgid", "with 1970 for its time")


# Memory


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain files cost nothing, symlinks until there are too many."""
    monkeypatch.setattr(safety, "MAX_REMEMBERED", 1000)
    rules = guard()
    for number in range(1000):
        rules.admit(member(b"top/%d" % number))
    with pytest.raises(Refused, match="more symlinks"):
        for number in range(1000):
            rules.admit(member(b"top/link%d" % number, b"2", b"x"))
    assert number == 11
