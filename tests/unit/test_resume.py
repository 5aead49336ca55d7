"""What of a source is staged already: two listings, compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubectl_podcp import modes
from kubectl_podcp.archive.headers import REGULAR, SYMLINK, Member
from kubectl_podcp.archive.rewriting import Rewriting
from kubectl_podcp.errors import IncompleteArchive
from kubectl_podcp.fidelity import KEPT, OWNERSHIP, SETUID
from kubectl_podcp.remainder import Part, Remainder
from kubectl_podcp.remote import listing, scripts
from kubectl_podcp.remote.listing import Listing
from kubectl_podcp.resume import resumption

NONCE = "0123456789abcdef" * 2
MIB = 1 << 20
FILE, DIRECTORY = "81a4", "41ed"


def line(name: str, size: int = 5, **more: object) -> str:
    """One line of a listing, as ``stat`` prints it."""
    told: dict[str, object] = {
        "mode": FILE,
        "stored": size,
        "mtime": 1000,
        "owner": "0:0",
        "links": 1,
        "changed": 1,
        **more,
    }
    blocks = -(-int(str(told["stored"])) // 512)
    when = told.get("when", f"2024-02-29 10:00:0{told['changed']}.000000000 +0000")
    return (
        f"{NONCE} {told['mode']} {size} {blocks} {told['mtime']} {told['owner']} {told['links']} "
        f"{when} ./{name}\n"
    )


def listed(*lines: str, said: str = "names") -> Listing:
    """The listing that these lines make."""
    output = "".join(lines) + f"\npodcp-{NONCE} listed 0 {said}\n"
    parsed = listing.parse(output.encode(), NONCE)
    assert parsed is not None
    return parsed


TOP = line("top", 4096, mode=DIRECTORY, links=2)
LAST = line("top/last", 1, changed=9)


def resumed(source: list[str], staged: list[str], said: str = "0 2000") -> Remainder | None:
    """What is left, where a last file is being written, which is not looked at."""
    return left(listed(TOP, *source, LAST), listed(TOP, *staged, LAST, said=said))


def test_what_is_staged_and_up_to_date_since_is_sent() -> None:
    """What an earlier run left takes its place with all the rest, and is older."""
    source = listed(TOP, line("top/a"), line("top/b", 7, mtime=1500), line("top/c"), LAST)
    staged = listed(TOP, line("top/a"), line("top/b"), LAST, said="0 2000")
    found = resumption(source, staged, frozenset([b"top/a", b"top/b", b"top/c"]))
    assert found is not None
    assert found.remainder.whole == {b"top/a"}
    assert found.remainder.current == {b"top/c"}
    assert found.remainder.names is not None and b"top/b" in found.remainder.names


def left(source: Listing, staged: Listing) -> Remainder | None:
    """What is left of one listing beside another."""
    found = resumption(source, staged)
    return found.remainder if found else None


def whole(source: str, staged: str, said: str = "0 2000") -> bool:
    """Whether one file counts as whole, beside one that does."""
    anchor = line("top/anchor")
    found = resumed([anchor, source], [anchor, staged], said)
    assert found is not None
    assert b"top/anchor" in found.whole
    return b"top/file" in found.whole


@pytest.mark.parametrize(
    "output",
    [
        b"",
        line("top").encode(),
        f"\npodcp-{NONCE} listed 1 names\n".encode(),
        f"{NONCE} what is this\n\npodcp-{NONCE} listed 0 names\n".encode(),
        f"{line('top')}\npodcp-{NONCE} listed 0 names\nmore".encode(),
        f"{line('top', int('9' * 21))}\npodcp-{NONCE} listed 0 names\n".encode(),
        f"{line('top', mode='f' * 17)}\npodcp-{NONCE} listed 0 names\n".encode(),
    ],
)
def test_a_listing_that_is_not_whole_is_none(output: bytes) -> None:
    assert listing.parse(output, NONCE) is None


def test_a_name_may_hold_a_newline() -> None:
    assert listed(line("a\nb\n"), line("c")).names == [b"a\nb\n", b"c"]


def test_of_a_name_that_comes_twice_the_second_counts() -> None:
    """But it does not hide what changed last before."""
    found = listed(line("a", 1), line("b", changed=5), line("a", 2, changed=7))
    assert found[b"a"].size == 2
    assert found.newest == {b"b"}


def test_what_we_joined_ourselves_does_not_hide_what_changed_last() -> None:
    """And whether that itself is whole, only the listing knew that came before it was joined."""
    joined = line("a", when=scripts.JOINED)
    found = listed(joined, line("b", changed=5), line("a", changed=8))
    assert found.newest == {b"a", b"b"}
    now = line("a", 2, when=scripts.SINCE)
    assert listed(line("b", changed=5), now).newest == {b"b"}
    assert listed(line("b", changed=5), line("a", changed=7), now).newest == {b"a"}


def test_a_directory_is_not_what_tar_was_writing() -> None:
    """It changes when something in it does, and when we make it writable."""
    assert listed(line("d", mode=DIRECTORY, changed=9), line("d/a")).newest == {b"d/a"}


def test_a_file_is_whole_where_all_is_equal() -> None:
    assert whole(line("top/file"), line("top/file"))
    assert whole(line("top/file", mode="89ed"), line("top/file", mode="81ed"))  # setuid is dropped
    assert whole(line("top/file", owner="7:8"), line("top/file", owner="1000:1000"), "1000 2000")


@pytest.mark.parametrize(
    "staged",
    [
        line("top/file", 4),
        line("top/file", mtime=1001),
        line("top/file", mode="81b6"),
        line("top/file", owner="0:1"),
        line("top/file", links=2),
        line("top/file", stored=0),
        line("top/file", changed=9),
    ],
    ids=["size", "time", "mode", "owner", "links", "holes", "written last"],
)
def test_a_file_that_differs_is_not_whole(staged: str) -> None:
    assert not whole(line("top/file"), staged)


def test_a_file_with_a_time_of_the_copy_itself_is_not_whole() -> None:
    assert not whole(line("top/file", mtime=2000), line("top/file", mtime=2000))


def test_what_looks_whole_and_may_not_be_is_named() -> None:
    """It must not look so next time, when something else was written last."""
    source = [line("top/a"), line("top/file")]
    staged = [line("top/a"), line("top/file", changed=9)]
    found = resumption(listed(TOP, *source, LAST), listed(TOP, *staged, LAST, said="0 2000"))
    assert found is not None
    assert found.doubtful == {b"top/file", b"top/last"}


def test_the_file_that_goes_on_must_not_look_whole_either() -> None:
    """Its part may come back as it is, should setting it aside fail."""
    source, staged = line("top/big", 2 * MIB), line("top/big", 2 * MIB, changed=9)
    found = resumption(listed(TOP, source), listed(TOP, staged, said="0 2000"))
    assert found is not None
    assert found.remainder.part is not None
    assert found.doubtful == {b"top/big"}


@pytest.mark.parametrize(
    "staged", [[line("top/gone")], [line("top/file", mode=DIRECTORY)]], ids=["gone", "type"]
)
def test_a_source_that_is_another_tree_begins_anew(staged: list[str]) -> None:
    assert resumed([line("top/file")], staged) is None


def test_a_symlink_that_is_still_there_begins_anew() -> None:
    """The next archive might write through it: the script removes them all."""
    link = line("top/link", 11, mode="a1ff", stored=0)
    assert resumed([link, line("top/file")], [link, line("top/file")]) is None


def test_gnu_tar_puts_an_empty_file_in_a_symlinks_place() -> None:
    """Until its end, where the symlink is absolute or leads upwards; killed, it leaves it."""
    link = line("top/link", 11, mode="a1ff", stored=0)
    held = line("top/link", 0, mode="8000")
    found = resumed([line("top/file"), link], [line("top/file"), held])
    assert found is not None
    assert found.whole == {b"top/file"}
    assert found.names == (b"top", b"top/link", b"top/last")
    assert resumed([line("top/file"), link], [line("top/file"), line("top/link", 1)]) is None


def test_nothing_of_use_is_nothing() -> None:
    assert resumed([line("top/file")], [line("top/file", 3)]) is None


@pytest.mark.parametrize(
    ("there", "size"),
    [
        (line("top/file", MIB, mtime=3000), MIB),
        (line("top/file", 4 * MIB, stored=2 * MIB, mtime=3000), 2 * MIB - 65536),
        (line("top/file", 4 * MIB, stored=2 * MIB), 2 * MIB - 65536),
        (line("top/file", 4 * MIB, changed=9), 4 * MIB - 65536),
    ],
    ids=["short", "bsdtar", "bsdtar, cut", "to its last byte"],
)
def test_a_part_is_as_long_as_what_is_certain(there: str, size: int) -> None:
    found = resumed([line("top/file", 4 * MIB)], [there])
    assert found is not None
    assert found.part == Part(b"top/file", size)
    assert found.size() == size
    rest = found.rest()
    assert (rest.name, rest.size, rest.mode) == (b"top/file", 4 * MIB - size, 0o644)
    assert found.names == (b"top", b"top/last")
    assert not found.has(rest)


def test_the_rest_of_a_file_without_its_setuid() -> None:
    """What is asked for is the member as it goes on."""
    source = listed(line("file", 4 * MIB, mode="89ed"))
    found = left(source, listed(line("file", MIB, mtime=3000), said="0 2000"))
    assert found is not None
    rest = found.rest()
    assert rest.mode == 0o4755
    assert not found.has(replace(rest, mode=0o755))


def test_toybox_says_a_time_before_1970_without_its_sign() -> None:
    assert listed(line("a", mtime=(1 << 64) - 5), line("b", mtime=-5))[b"a"].mtime == -5
    assert listed(line("b", mtime=-5))[b"b"].mtime == -5
    assert listed(line("c", mtime=1 << 40))[b"c"].mtime == 1 << 40


def test_a_file_from_before_1970_is_sent_again() -> None:
    """busybox at the source says 1970, and toybox at the destination is told so."""
    anchor = line("top/anchor")
    old = [anchor, line("top/file", 4 * MIB, mtime=-5)]
    found = resumed(old, [anchor, line("top/file", MIB, mtime=3000)])
    assert found is not None
    assert found.part is None
    assert b"top/file" in (found.names or ())


def test_a_file_alone() -> None:
    """Nothing but its rest is missing, and no archive follows."""
    source = listed(line("file", 4 * MIB))
    staged = listed(line("file", MIB, mtime=3000), said="0 2000")
    found = left(source, staged)
    assert found is not None
    assert found.is_rest_alone


def test_where_no_name_can_be_in_a_list_an_archive_follows_all_the_same() -> None:
    """All names of a tree begin with its own."""
    top = line("to\np", 4096, mode=DIRECTORY, links=2)
    source = listed(top, line("to\np/file", 4 * MIB), line("to\np/other"))
    found = left(source, listed(top, line("to\np/file", MIB), said="0 2000"))
    assert found is not None
    assert (found.names, found.odd) == ((), (b"to\np", b"to\np/other"))
    assert not found.is_rest_alone


def test_names_that_a_list_cannot_hold() -> None:
    anchor = line("top/anchor")
    found = resumed([anchor, line("top/a\nb")], [anchor])
    assert found is not None
    assert (found.names, found.odd) == ((b"top", b"top/last"), (b"top/a\nb",))
    found = resumed([anchor, line("top/a\r"), line("top/a b\t")], [anchor])
    assert found is not None
    assert (found.names, found.odd) == ((b"top", b"top/a b\t", b"top/last"), (b"top/a\r",))
    found = resumed([anchor, line("top/a\n")], [anchor])
    assert found is not None
    assert (found.names, found.odd) == (None, ())
    many = [line(f"top/{number}\n" + "x" * 200) for number in range(10)]
    found = resumed([anchor, *many], [anchor])
    assert found is not None
    assert found.names is None


def test_a_tar_that_takes_no_list_archives_all_again() -> None:
    anchor = line("top/anchor")
    found = left(listed(TOP, anchor, LAST, said=""), listed(TOP, anchor, LAST, said="0 2000"))
    assert found is not None
    assert found.names is None

    def member(name: bytes, kind: bytes = REGULAR, size: int = 5, mtime: int = 1000) -> Member:
        return Member(name, kind, size, 0o644, 0, 0, mtime)

    assert found.has(member(b"top/anchor"))
    assert not found.has(member(b"top/last", size=1))
    assert not found.has(member(b"top/anchor", size=6))
    assert not found.has(member(b"top/anchor", mtime=7))
    assert not found.has(member(b"top/anchor", SYMLINK))


def test_a_file_that_changed_while_its_rest_was_sent() -> None:
    found = resumed([line("top/file", 4 * MIB)], [line("top/file", MIB, mtime=3000)])
    assert found is not None
    same = Member(b"top/file", REGULAR, 4 * MIB, 0o644, 0, 0, 1000)
    assert found.has(same)
    with pytest.raises(IncompleteArchive, match="changed"):
        found.has(Member(b"top/file", REGULAR, 4 * MIB, 0o644, 0, 0, 1001))


def test_where_digests_are_missing_only_what_is_known_is_of_use() -> None:
    """Nor is there a part: of a whole that passed in two parts there is no digest."""
    both = [line("top/known"), line("top/other"), line("top/big", 4 * MIB)]
    staged = [*both[:2], line("top/big", MIB, mtime=3000)]
    everything = listed(TOP, *both, LAST)
    there = listed(TOP, *staged, LAST, said="0 2000")
    found = resumption(everything, there, known=[b"top/known", b"top/gone"], parts=False)
    assert found is not None
    left = found.remainder
    assert left.whole == {b"top/known"}
    assert left.part is None
    assert left.names == (b"top", b"top/other", b"top/big", b"top/last")
    assert resumption(everything, there, known=[], parts=False) is None


def test_without_the_time_since_when_it_is_there_nothing_is_of_use() -> None:
    """A run may be killed between making its folder and noting that."""
    for said in ("0 ", "0", "", "0 soon", f"0 {'1' * 5000}"):
        assert resumed([line("top/file")], [line("top/file")], said) is None


def test_where_no_digest_can_be_taken_there_is_no_part() -> None:
    there = listed(TOP, line("top/big", MIB, mtime=3000), line("top/whole"), LAST, said="0 2000")
    source = listed(TOP, line("top/big", 4 * MIB), line("top/whole"), LAST)
    found = resumption(source, there, parts=False)
    assert found is not None
    assert found.remainder.whole == {b"top/whole"}
    assert found.remainder.part is None
    assert found.remainder.names == (b"top", b"top/big", b"top/last")


def test_too_many_doubtful_files_begin_anew() -> None:
    for count, goes_on in [(100, True), (200, False)]:  # each is 250 bytes
        names = [f"top/{number:03}" + "x" * 237 for number in range(count)]
        staged = [line(name, changed=9) for name in names]
        anchor = line("top/anchor")
        found = resumed([anchor, *map(line, names)], [anchor, *staged])
        assert (found is not None) is goes_on


@pytest.mark.parametrize(
    ("rewriting", "staged", "expected"),
    [
        (Rewriting(modes=modes.parse("600"), owner=(1, 2)), ("8180", "1:2"), True),
        (Rewriting(modes=modes.parse("600"), owner=(1, 2)), ("81ed", "1:2"), False),
        (Rewriting(modes=modes.parse("600"), owner=(1, 2)), ("8180", "7:8"), False),
        (Rewriting(KEPT | {SETUID}), ("89ed", "7:8"), True),
        (Rewriting(KEPT | {SETUID}), ("81ed", "7:8"), False),
        (Rewriting(KEPT - {OWNERSHIP}), ("81ed", "0:0"), True),
        (Rewriting(KEPT - {OWNERSHIP}), ("81ed", "7:8"), False),
    ],
)
def test_what_an_earlier_run_left_must_be_what_this_one_would_make(
    rewriting: Rewriting, staged: tuple[str, str], expected: bool
) -> None:
    """Its options may have been others."""
    mode, owner = staged
    anchor = line("top/anchor", mode="8180", owner="0:0")
    here = listed(TOP, anchor, line("top/file", mode="89ed", owner="7:8"), LAST)
    there = listed(TOP, line("top/file", mode=mode, owner=owner), LAST, said="0 2000")
    found = resumption(here, there, rewriting=rewriting)
    assert (found is not None and b"top/file" in found.remainder.whole) == expected
