"""An archive as it passes: bytes in, bytes and events out, whatever the cut of the messages."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import shutil
import stat
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_podcp.archive import follower as follower_module
from kubectl_podcp.archive import headers
from kubectl_podcp.archive import sparse as sparse_module
from kubectl_podcp.archive.follower import (
    CutArchive,
    EndOfArchive,
    Event,
    Follower,
    Hashed,
    MalformedArchive,
    OneHole,
    Trailer,
)
from kubectl_podcp.archive.headers import Member
from kubectl_podcp.archive.safety import Altered, LeftOut, Policy, Refused
from kubectl_podcp.errors import IncompleteArchive, PodcpError, SourceError
from tests.unit.tar_blocks import (
    END,
    NONCE,
    USTAR,
    Record,
    body,
    cuts,
    follow,
    header,
    in_steps,
    long_name,
    member,
    octal,
    old_sparse,
    pax,
    trailer,
)

ENDED: list[Event] = [EndOfArchive(), Trailer(0)]


def file(name: bytes, size: int = 0) -> Member:
    """Return the event of ``tar_blocks.member``."""
    return Member(name, b"0", size, 0o644, 0, 0, 0o14000000000)


def every_way(stream: bytes) -> Iterator[list[bytes]]:
    """Yield the stream in one message, byte by byte, and in steps that fit nothing."""
    for step in (len(stream), 1, 7, 511, 512, 513):
        yield in_steps(stream, step)


def passed(stream: bytes, top: bytes = b"top", policy: Policy | None = None) -> bytes:
    """Follow a whole stream in every way; return what went on, the same each time."""
    archive, events = follow([stream], top, policy)
    for messages in every_way(stream):
        assert follow(messages, top, policy) == (archive, events)
    return archive


def refused(stream: bytes, why: str) -> bytes:
    """Follow a stream that is refused for ``why`` in every way; return what went on before.

    In one message nothing does, byte by byte all that may.
    """
    went_on = []
    for messages in every_way(stream):
        follower = Follower(NONCE, b"top")
        pieces: list[bytes] = []
        with pytest.raises(Refused, match=why):
            for message in messages:
                pieces += [item for item in follower.feed(message) if isinstance(item, bytes)]
        went_on.append(b"".join(pieces))
    longest = max(went_on)
    assert went_on[0] == b""
    assert all(longest.startswith(each) for each in went_on)
    return longest


# Canonical archives pass as they are


def test_a_canonical_message_passes_uncut() -> None:
    """Members, bodies that go on in the next message, long names: the very object that came."""
    archive = b"".join(
        (
            header(b"top/", b"5", mode=b"0000755\0"),
            member(b"top/one", b"1" * 1000),
            long_name(b"L", b"top/" + b"n" * 200),
            header((b"top/" + b"n" * 200)[:100], size=40_000),
            body(b"2" * 40_000),
            header(b"top/link", b"2", linkname=b"one"),
        )
    )
    follower = Follower(NONCE, b"top")
    for message in (archive[:32_768], archive[32_768:]):
        pieces = [item for item in follower.feed(message) if isinstance(item, bytes)]
        assert len(pieces) == 1
        assert pieces[0] is message


def test_members_are_told_before_their_bytes() -> None:
    """With a message for each header and body, the order is seen."""
    stream = member(b"top/one", b"1") + member(b"top/two") + END + trailer()
    follower = Follower(NONCE, b"top")
    items = [item for message in in_steps(stream, 512) for item in follower.feed(message)]
    assert items == [
        file(b"top/one", 1),
        header(b"top/one", size=1),
        body(b"1"),
        file(b"top/two"),
        header(b"top/two"),
        *ENDED,
    ]


def test_member_and_received_tell_where_it_is() -> None:
    """``member`` while a body passes; ``received`` counts what came in."""
    follower = Follower(NONCE, b"top")
    assert follower.member is None
    list(follower.feed(header(b"top/one", size=600)))
    assert follower.member == file(b"top/one", 600)
    list(follower.feed(body(bytes(600))))
    assert follower.member is None
    assert follower.received == 512 + 1024


def test_padding_passes_as_it_came() -> None:
    """Nobody reads it, so it is not looked at."""
    stream = header(b"top/one", size=1) + b"x".ljust(512, b"?")
    assert passed(stream + END + trailer()) == stream


def test_nothing_archived() -> None:
    """GNU tar without its file: an archive of nothing, and its exit code."""
    archive, events = follow([bytes(10_240), trailer(2)])
    assert (archive, events) == (b"", [EndOfArchive(), Trailer(2)])


@pytest.mark.parametrize("nonce", ["", "0" * 31, "0" * 33, "A" * 32, "0" * 31 + "\n"])
def test_a_nonce_that_is_none(nonce: str) -> None:
    """A mistake of the caller."""
    with pytest.raises(ValueError, match="nonce"):
        Follower(nonce, b"top")


# Headers are rewritten, and what is around them stays


def test_owner_names_go() -> None:
    """They mean somebody else at the destination."""
    archive = member(b"top/one", b"1") + header(b"top/two", owner=b"root", size=3) + body(b"abc")
    assert passed(archive + END + trailer()) == member(b"top/one", b"1") + member(
        b"top/two", b"abc"
    )


def test_leading_dots_go() -> None:
    """Of names and of the targets of hard links."""
    archive = member(b"./top/a", b"1") + header(b"./top/b", b"1", linkname=b"./top/a")
    expected = member(b"top/a", b"1") + header(b"top/b", b"1", linkname=b"top/a")
    assert passed(archive + END + trailer()) == expected


@pytest.mark.parametrize("size", [8 << 30, (9 << 30) + 1, (1 << 63) - 1])
def test_sizes_beyond_8_gib(size: int) -> None:
    """GNU tar's goes on as it came; busybox' twelve digits and bsdtar's pax size become it."""
    base_256 = b"\x80" + size.to_bytes(11, "big")
    canonical = header(b"top/big", size=base_256)
    forms = [canonical, pax((b"size", b"%d" % size)) + header(b"top/big", magic=USTAR)]
    if size < 8**12:
        forms.append(header(b"top/big", size=b"%012o" % size))
    for form in forms:
        assert list(Follower(NONCE, b"top").feed(form)) == [file(b"top/big", size), canonical]


def test_a_name_of_8_kib_in_one_message() -> None:
    """The longest there is."""
    name = b"top/" + b"n" * (headers.BLOCK * 16 - 4)
    archive = pax((b"path", name)) + header(b"x", magic=USTAR)
    expected = long_name(b"L", name) + header(name[:100])
    assert passed(archive + END + trailer()) == expected


# What four tars would read differently: tars.md's table, row by row


def after_a_good_member(hostile: bytes, why: str) -> None:
    """The member is refused, and nothing of it is sent on."""
    good = member(b"top/good", b"good")
    padding = member(b"top/more", b"more") + END + trailer()
    assert refused(good + hostile + padding, why) == good


def test_pax_size_against_header_size() -> None:
    """Settled: all destinations get the size that pax says."""
    for stated in (0, 512, 1024):
        archive = pax((b"size", b"512")) + header(b"top/x", size=stated, magic=USTAR)
        stream = archive + header(b"hidden") + END + trailer()
        assert passed(stream) == header(b"top/x", size=512) + header(b"hidden")


@pytest.mark.parametrize("record", [(b"size", b"0"), (b"path", b"top/x"), (b"linkpath", b"top/x")])
def test_global_pax_headers(record: Record) -> None:
    """Refused: GNU tar alone obeys."""
    after_a_good_member(pax(record, flag=b"g"), "global pax header")


def test_harmless_global_pax_headers_go() -> None:
    """As git archive and GNU tar --pax-option write them, also at the very end."""
    comment = pax((b"comment", b"0123"), flag=b"g")
    stream = comment + member(b"top/x", b"1") + comment + END + trailer()
    assert passed(stream) == member(b"top/x", b"1")


@pytest.mark.parametrize("name", [b"top/x/", b"top/x//"])
@pytest.mark.parametrize("flag", [b"0", b"\0", b"7"])
def test_a_file_with_a_slash_and_a_size(name: bytes, flag: bytes) -> None:
    """Refused: busybox writes a file, others read its data as headers."""
    after_a_good_member(header(name, flag, 512) + header(b"top/hidden"), "it has a body")


def test_a_file_with_a_slash_without_a_size() -> None:
    """Settled: a directory."""
    stream = header(b"top/x/", b"\0") + END + trailer()
    assert passed(stream) == header(b"top/x/", b"5")


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
@pytest.mark.parametrize("size", [1, 512])
def test_members_without_a_body_that_have_one(flag: bytes, size: int) -> None:
    """Refused: all tars read it as headers."""
    hostile = header(b"top/x", flag, size, linkname=b"top/good") + header(b"top/hidden")
    after_a_good_member(hostile, "it has a body")


@pytest.mark.parametrize("flag", [b"V", b"M", b"N", b"D", b"I", b"X", b"A", b"Z", b"8"])
@pytest.mark.parametrize("size", [0, 512])
def test_types_that_are_not_read_alike(flag: bytes, size: int) -> None:
    """Refused, V with its size among them: bsdtar reads the data as headers."""
    after_a_good_member(header(b"top/x", flag, size) + body(bytes(size)), "not read alike")


def test_sparse_name_against_path() -> None:
    """Settled: the name that GNU tar and bsdtar use, and the file it means."""
    records = [(b"major", b"1"), (b"minor", b"0"), (b"name", b"top/x"), (b"realsize", b"512")]
    archive = pax(
        (b"path", b"top/GNUSparseFile.0/x"), *((b"GNU.sparse." + key, v) for key, v in records)
    )
    archive += header(b"top/other", size=1024, magic=USTAR) + body(b"1\n0\n512\n") + b"d" * 512
    assert passed(archive + END + trailer()) == member(b"top/x", b"d" * 512)


@pytest.mark.parametrize("flag", [b"L", b"K"])
def test_x_then_l(flag: bytes) -> None:
    """Refused, in either order."""
    x, other = pax((b"path", b"top/a")), long_name(flag, b"top/b")
    after_a_good_member(x + other + header(b"top/c"), "and another")
    after_a_good_member(other + x + header(b"top/c"), "and another")
    after_a_good_member(x + x + header(b"top/c"), "and another")
    after_a_good_member(other + other + header(b"top/c"), "two long names")


def test_a_prefix_with_gnu_magic() -> None:
    """Refused, but for GNU's own times, which are settled: they go."""
    after_a_good_member(header(b"x", rest=b"top"), "prefix")
    times = b"14000000000\x0014000000000\0"
    stream = header(b"top/x", rest=times) + END + trailer()
    assert passed(stream) == header(b"top/x")


def test_a_duplicate_path_key() -> None:
    """Refused: toybox takes the first, others the last."""
    hostile = pax((b"path", b"top/a"), (b"path", b"top/b")) + header(b"top/c")
    after_a_good_member(hostile, "twice")


def test_one_zero_block() -> None:
    """Refused: GNU tar and bsdtar end there, others read on."""
    stream = member(b"top/x") + bytes(512) + member(b"top/hidden") + END + trailer()
    for messages in every_way(stream):
        follower = Follower(NONCE, b"top")
        with pytest.raises(MalformedArchive, match="one zero block"):
            for message in messages:
                list(follower.feed(message))


# Safety, by the guard (test_archive_safety.py has the table)

ABSOLUTE, OUTSIDE, OURS = "is absolute", "does not stand under", "this very copy"
HOSTILE = [
    (header(b"/etc/passwd"), ABSOLUTE),
    (header(b"../x"), "part '..'"),
    (long_name(b"L", b"top/" + b"d/" * 100 + b"../" * 101) + header(b"top/x"), "part '..'"),
    (pax((b"path", b"/etc/passwd")) + header(b"top/x"), ABSOLUTE),
    (header(b"passwd", magic=USTAR, rest=b"/etc"), ABSOLUTE),
    (header(b"top/x", b"1", linkname=b"/etc/passwd"), ABSOLUTE),
    (long_name(b"K", b"../" * 50 + b"x") + header(b"top/x", b"1"), "part '..'"),
    (header(b"other"), OUTSIDE),
    (header(b"", linkname=b"x"), OUTSIDE),
    (header(b".podcp-" + NONCE.encode()), OUTSIDE),
    (header(b"top/.podcp-" + NONCE.encode()), OURS),
]


@pytest.mark.parametrize(("hostile", "why"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_members(hostile: bytes, why: str) -> None:
    """Refused wherever the name stands."""
    after_a_good_member(hostile, why)


def test_a_file_through_a_symlink() -> None:
    """The symlink may go on, and no more."""
    good = member(b"top/good") + header(b"top/link", b"2", linkname=b"/etc")
    stream = good + header(b"top/link/passwd") + END + trailer()
    assert refused(stream, "through a symlink") == good


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        (header(b"././@LongLink", b"L", 8194), "a header of 8194 bytes"),
        (header(b"././@LongLink", b"K", 8194), "a header of 8194 bytes"),
        (header(b"PaxHeaders/x", b"x", 1_048_577), "a header of 1048577 bytes"),
        (header(b"PaxHeaders/x", b"g", 1_048_577), "a header of 1048577 bytes"),
    ],
)
def test_headers_that_are_too_long(hostile: bytes, why: str) -> None:
    """Refused at their first block: they would have to be held in memory."""
    refused(hostile + bytes(512), why)


def test_devices_are_left_out() -> None:
    """An event says so; what is around them goes on."""
    device = header(b"top/null", b"3", devices=b"0000001\x000000003\0")
    stream = member(b"top/a", b"1") + device + member(b"top/b") + END + trailer()
    archive, events = follow([stream])
    assert archive == passed(stream) == member(b"top/a", b"1") + member(b"top/b")
    left_out = Member(b"top/null", b"3", 0, 0o644, 0, 0, 0o14000000000, b"", 1, 3)
    assert events[1] == LeftOut(left_out, "it is a device")
    assert passed(stream, policy=Policy(devices=True)) == stream[: -len(END + trailer())]


def test_setuid_is_taken_off() -> None:
    """The header is rewritten, an event follows that of the member."""
    stream = header(b"top/su", mode=b"0004755\0", size=1) + body(b"1") + END + trailer()
    archive, events = follow([stream])
    assert archive == header(b"top/su", mode=b"0000755\0", size=1) + body(b"1")
    member = replace(file(b"top/su", 1), mode=0o755)
    assert events == [member, Altered(member, ("without setuid and setgid",)), *ENDED]


# Sparse files


def plain(name: bytes, data: bytes, extents: list[tuple[int, int]], size: int) -> bytes:
    """Return the plain member that a sparse one means."""
    content = bytearray(size)
    for offset, length in extents:
        content[offset : offset + length], data = data[:length], data[length:]
    return member(name, bytes(content))


def pax_sparse_0(name: bytes, data: bytes, extents: list[tuple[int, int]], size: int) -> bytes:
    """Return a sparse member of version 0.0."""
    records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(extents))]
    for offset, length in extents:
        records += [
            (b"GNU.sparse.offset", b"%d" % offset),
            (b"GNU.sparse.numbytes", b"%d" % length),
        ]
    return pax(*records) + header(name, size=len(data), magic=USTAR) + body(data)


def pax_sparse_1(name: bytes, data: bytes, extents: list[tuple[int, int]], size: int) -> bytes:
    """Return a sparse member of version 0.1."""
    records = [
        (b"GNU.sparse.size", b"%d" % size),
        (b"GNU.sparse.numblocks", b"%d" % len(extents)),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.map", b",".join(b"%d,%d" % extent for extent in extents)),
    ]
    return pax(*records) + header(b"top/S", size=len(data), magic=USTAR) + body(data)


def pax_sparse_1_0(name: bytes, data: bytes, extents: list[tuple[int, int]], size: int) -> bytes:
    """Return a sparse member of version 1.0."""
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.realsize", b"%d" % size),
    ]
    text = b"%d\n" % len(extents) + b"".join(b"%d\n%d\n" % extent for extent in extents)
    data = body(text) + data
    return pax(*records) + header(b"top/S", size=len(data), magic=USTAR) + body(data)


FORMATS = [old_sparse, pax_sparse_0, pax_sparse_1, pax_sparse_1_0]
Format = Callable[[bytes, bytes, list[tuple[int, int]], int], bytes]
MAPS = [
    ([(0, 512)], 512),
    ([(0, 1)], 100_000),
    ([(512, 100)], 700),
    ([(70_000, 512), (70_512, 512), (100_000, 0)], 100_000),
    ([(99_999, 1)], 100_000),
    ([(100_000, 0)], 100_000),
    ([(number * 1024, 512) for number in range(60)], 61_000),
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("extents", "size"), MAPS)
def test_sparse_files_are_expanded(form: Format, extents: list[tuple[int, int]], size: int) -> None:
    """Of all four formats, to plain files with their holes as zeros."""
    data = random.Random(0).randbytes(sum(length for _, length in extents))
    stream = member(b"top/a", b"a") + form(b"top/s", data, extents, size) + member(b"top/z", b"z")
    expected = (
        member(b"top/a", b"a") + plain(b"top/s", data, extents, size) + member(b"top/z", b"z")
    )
    archive, events = follow([stream + END + trailer()])
    assert archive == passed(stream + END + trailer()) == expected
    assert file(b"top/s", size) in events


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("extents", "size"), MAPS)
def test_holes_go_on_where_they_are_wanted(
    form: Format, extents: list[tuple[int, int]], size: int
) -> None:
    """In one format, which says the same as the plain file; and its digest is that one's."""
    data = random.Random(0).randbytes(sum(length for _, length in extents))
    before, behind = member(b"top/a", b"a"), member(b"top/z", b"z")
    stream = before + form(b"top/s", data, extents, size) + behind + END + trailer()
    archive, events = follow([stream], holes=True, hashes=True)
    content = plain(b"top/s", data, extents, size)[512:][:size]
    assert passed(archive + END + trailer()) == before + member(b"top/s", content) + behind
    assert Hashed(file(b"top/s", size), hashlib.sha256(content).digest()) in events
    is_sparse = len(data) < size
    assert (archive[1024 + 156 : 1024 + 157] == b"S") == is_sparse
    if is_sparse and size > 5000:
        assert len(archive) < len(before + content + behind)
    for messages in every_way(stream):
        assert follow(messages, holes=True, hashes=True) == (archive, events)
        assert follow(messages, holes=True)[0] == archive


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_one_hole_is_not_believed(form: Format) -> None:
    """Where the source's tar says so of any file that takes no place on the disk."""
    stream = form(b"top/s", b"", [(9000, 0)], 9000) + END + trailer()
    follower = Follower(NONCE, b"top", holes=True, unseen=True)
    with pytest.raises(OneHole, match="'top/s' takes no place on the disk"):
        list(follower.feed(stream))
    for form_, extents, size in ((form, [(8000, 1000)], 9000), (form, [(0, 0)], 0)):
        data = bytes(sum(length for _, length in extents))
        followed = Follower(NONCE, b"top", holes=True, unseen=True)
        assert list(followed.feed(form_(b"top/s", data, extents, size) + END + trailer()))


def test_too_many_holes_or_too_much_of_them_goes_on_as_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = old_sparse(b"top/s", bytes(512 * 6), [(n * 1024, 512) for n in range(6)], 9000)
    stream += END + trailer()
    kept = follow([stream], holes=True, hashes=True)[0]
    assert kept[156:157] == b"S"
    monkeypatch.setattr(follower_module, "MOST_HASHED", 5000)
    assert follow([stream], holes=True, hashes=True)[0] == passed(stream)
    assert follow([stream], holes=True)[0] == kept
    monkeypatch.setattr(sparse_module, "MOST_KEPT", 5)
    assert follow([stream], holes=True)[0] == passed(stream)


@pytest.mark.parametrize("target", [b"../victim", b"t" * 200])
def test_a_sparse_file_is_no_link(target: bytes) -> None:
    """toybox makes a hard link of a plain file that has a link target, wherever that is."""
    long = long_name(b"K", target) if len(target) > 100 else b""
    sparse = long + old_sparse(b"top/s", b"d", [(0, 1)], 1, linkname=target[:100])
    assert passed(sparse + END + trailer()) == member(b"top/s", b"d")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("extents", "size"), MAPS)
def test_what_passes_is_hashed(form: Format, extents: list[tuple[int, int]], size: int) -> None:
    """A file's contents alone, holes as zeros, and what goes on is the same; links have none."""
    data = random.Random(0).randbytes(sum(length for _, length in extents))
    contents = random.Random(1).randbytes(40_000)
    stream = (
        header(b"top/d/", b"5")
        + member(b"top/a", contents)
        + form(b"top/s", data, extents, size)
        + header(b"top/link", b"2", linkname=b"a")
        + member(b"top/empty")
        + header(b"top/device", b"3")
        + member(b"top/z", b"z" * 512)
        + END
        + trailer()
    )
    sparse = plain(b"top/s", data, extents, size)[512:][:size]
    archive = passed(stream)
    for messages in every_way(stream):
        assert hashed(messages) == (
            archive,
            {
                b"top/a": hashlib.sha256(contents).digest(),
                b"top/s": hashlib.sha256(sparse).digest(),
                b"top/empty": hashlib.sha256().digest(),
                b"top/z": hashlib.sha256(b"z" * 512).digest(),
            },
        )


def hashed(messages: list[bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """Follow a whole stream; return what goes on, and the digests in the order of their files."""
    follower = Follower(NONCE, b"top", hashes=True)
    archive, digests, last = b"", {}, None
    for item in (item for message in messages for item in follower.feed(message)):
        if isinstance(item, bytes):
            archive += item
        elif isinstance(item, Member):
            last = item
        elif isinstance(item, Hashed):
            assert item.member == last
            digests[item.member.name] = item.digest
    return archive, digests


def test_a_canonical_message_passes_uncut_though_it_is_hashed() -> None:
    message = member(b"top/one", b"1" * 1000) + member(b"top/two", b"2" * 1024)
    (piece,) = (
        item
        for item in Follower(NONCE, b"top", hashes=True).feed(message)
        if isinstance(item, bytes)
    )
    assert piece is message


def test_what_is_there_already_is_not_hashed() -> None:
    follower = Follower(NONCE, b"top", has=lambda _: True, hashes=True)
    items = list(follower.feed(member(b"top/a", b"a") + END + trailer()))
    assert not any(isinstance(item, Hashed) for item in items)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("extents", "size", "why"),
    [
        ([(512, 512), (0, 512)], 2048, "goes back"),
        ([(0, 512), (511, 512)], 2048, "goes back"),
        ([(0, 512), (512, 512)], 1000, "beyond its end"),
        ([(0, 512), (512, 511)], 2048, "does not fit"),
    ],
)
def test_sparse_maps_that_are_wrong(
    form: Format, extents: list[tuple[int, int]], size: int, why: str
) -> None:
    """Refused before a byte of the member is sent on."""
    after_a_good_member(form(b"top/s", bytes(1024), extents, size), why)


def test_a_sparse_map_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuation blocks are not read for ever."""
    monkeypatch.setattr(follower_module, "MAX_EXTENTS", 100)
    extents = [(number * 2, 1) for number in range(200)]
    after_a_good_member(old_sparse(b"top/s", bytes(200), extents, 400), "more than 100")


def test_a_hole_of_9_gib_costs_no_memory() -> None:
    """Its zeros are one constant, made as they are asked for."""
    size = 9 << 30
    rest = bytes(41) + b"\x80" + (size - 512).to_bytes(11, "big") + octal(512, 12)
    rest = rest.ljust(138, b"\0") + b"\x80" + size.to_bytes(11, "big")
    follower = Follower(NONCE, b"top")
    items = follower.feed(header(b"top/s", b"S", 512, rest=rest) + b"d" * 512)
    assert next(items) == file(b"top/s", size)
    assert next(items) == header(b"top/s", size=b"\x80" + size.to_bytes(11, "big"))
    first = next(items)
    assert first == bytes(32 * 1024)
    length, pieces = len(first), 1
    for item in items:
        assert isinstance(item, bytes)
        assert item is first or length == size - 32 * 1024 or item == b"d" * 512
        length += len(item)
    assert length == size
    assert pieces == 1


# The end


def test_zeros_of_any_length_before_the_trailer() -> None:
    """busybox and toybox write 1,024 bytes, GNU tar and bsdtar fill a record."""
    for padding in (0, 1, 511, 512, 9216, 100_000):
        for messages in every_way(member(b"top/x") + END + bytes(padding) + trailer(1)):
            archive, events = follow(messages)
            assert archive == member(b"top/x")
            assert events == [file(b"top/x"), EndOfArchive(), Trailer(1)]


@pytest.mark.parametrize(
    "rest",
    [
        b"x" + trailer(),
        b"\n" + trailer(),
        trailer()[1:],
        trailer(nonce="f" * 32),
        trailer().replace(b" 0", b" 0000"),
        trailer().replace(b" 0", b" x"),
        trailer().replace(b" 0", b" "),
        trailer().replace(b" 0", b" -1"),
        trailer()[:-1] + b"\0",
        trailer()[:20] + b"\0" + trailer()[20:],
        member(b"top/x"),
        trailer() + b"\n",
        trailer() + b"\0",
        trailer() + trailer(),
    ],
)
def test_anything_else_after_the_end(rest: bytes) -> None:
    """Zeros, one trailer, nothing; the error tells where it begins, or the trailer ends."""
    start = member(b"top/x") + END + bytes(512)
    for messages in every_way(start + rest):
        follower = Follower(NONCE, b"top")
        with pytest.raises(MalformedArchive, match="something follows the") as caught:
            for message in messages:
                list(follower.feed(message))
        assert caught.value.offset - len(start) in (0, len(trailer()))
        with pytest.raises(MalformedArchive):
            follower.end_of_input()


def test_empty_messages_change_nothing() -> None:
    """Wherever they come."""
    stream = member(b"top/x", b"1") + END + trailer()
    messages = [piece for byte in in_steps(stream, 100) for piece in (b"", byte, b"")]
    assert follow(messages) == follow([stream])


def test_a_session_that_ends_without_a_trailer() -> None:
    """Also behind the end of the archive: tar's exit code is not known."""
    for stream in (b"", member(b"top/x"), member(b"top/x") + END, END + trailer()[:-1]):
        follower = Follower(NONCE, b"top")
        list(follower.feed(stream))
        with pytest.raises(IncompleteArchive, match="without a trailer") as caught:
            follower.end_of_input()
        assert isinstance(caught.value, CutArchive)
        assert caught.value.exit_code is None
        assert caught.value.total == len(stream)


# tar died: the trailer comes before the end


def cut(messages: list[bytes]) -> CutArchive:
    """Follow a stream that is cut; return the error, which comes with the last message."""
    follower = Follower(NONCE, b"top")
    for message in messages[:-1]:
        list(follower.feed(message))
    with pytest.raises(CutArchive) as caught:
        list(follower.feed(messages[-1]))
    with pytest.raises(CutArchive) as again:
        list(follower.feed(b"more"))
    assert again.value is caught.value
    with pytest.raises(CutArchive) as again:
        follower.end_of_input()
    assert again.value is caught.value
    return caught.value


@pytest.mark.parametrize("received", [0, 1, 50, 512, 990, 999])
def test_inside_a_member(received: int) -> None:
    """busybox stops there when a file shrinks: member, bytes received and expected, exit code."""
    begun = header(b"top/x", size=1000) + bytes(received)
    for messages in every_way(member(b"top/a", b"1") + begun + trailer(1)):
        error = cut(messages)
        assert error.member == file(b"top/x", 1000)
        assert (error.received, error.expected, error.exit_code) == (received, 1000, 1)
        assert error.total == 1024 + len(begun)
        assert f"inside 'top/x', after {received} of 1000 bytes" in str(error)
        assert "the file shrank while it was read, and its tar ended with exit code 1" in str(error)
        assert error.retryable


@pytest.mark.parametrize("padding", [0, 100, 512])
def test_between_members(padding: int) -> None:
    """Also where the padding is missing, and behind one zero block."""
    whole = header(b"top/x", size=512) + bytes(512)
    for begun in (whole + bytes(padding), whole + header(b"top/y", size=1) + b"1"):
        for messages in every_way(begun + trailer(137)):
            error = cut(messages)
            assert (error.member, error.received, error.expected) == (None, 0, 0)
            assert error.exit_code == 137
            assert f"stops after {len(begun)} bytes, without its end" in str(error)


@pytest.mark.parametrize("length", [1, 100, 468, 469, 480, 500, 511])
def test_inside_a_header(length: int) -> None:
    """The trailer may fill the block: the archive is cut then, not malformed."""
    for start in (header(b"top/x"), pax((b"path", b"top/x")), long_name(b"L", b"top/x")):
        for torn in (start[:length], start[: max(512, len(start) - 512) + length]):
            for messages in every_way(torn + trailer(2)):
                error = cut(messages)
                assert (error.member, error.exit_code, error.total) == (None, 2, len(torn))


def test_inside_a_sparse_member() -> None:
    """The bytes are those of the archive, not those of the file."""
    begun = old_sparse(b"top/s", bytes(1000), [(5000, 1000)], 9000)[:-600]
    for messages in every_way(begun + trailer(1)):
        error = cut(messages)
        assert error.member == file(b"top/s", 9000)
        assert (error.received, error.expected) == (424, 1000)


def test_before_everything() -> None:
    """There is no tar: nothing was archived, and the exit code says why. No retry will help."""
    for messages in every_way(trailer(127)):
        error = cut(messages)
        assert (error.total, error.exit_code, error.member) == (0, 127, None)
        assert error.happened == "the source wrote no archive: its tar ended with exit code 127"
        assert not error.retryable


def test_killed_before_everything() -> None:
    """Nobody knows what tar would have said: it is worth another try."""
    for messages in every_way(trailer(137)):
        error = cut(messages)
        assert (error.total, error.exit_code) == (0, 137)
        assert error.retryable


def test_nothing_of_the_trailer_goes_on() -> None:
    """Where it came in one message: a partial file may be kept."""
    follower = Follower(NONCE, b"top")
    items = []
    with pytest.raises(CutArchive):
        for item in follower.feed(header(b"top/x", size=1000) + b"data" + trailer(1)):
            items.append(item)
    assert items[1] == header(b"top/x", size=1000) + b"data"


@pytest.mark.parametrize(
    "almost",
    [
        trailer()[1:],
        trailer()[:-1],
        trailer(nonce="f" * 32),
        trailer().replace(b" 0", b" 1000"),
        trailer().replace(b" 0", b" "),
        trailer() + b"\n",
        trailer().upper(),
    ],
)
def test_what_is_no_trailer_is_data(almost: bytes) -> None:
    """Another copy's, a short one, one that does not end the message."""
    archive = member(b"top/x", almost + b"x")
    middle = 512 + len(almost)
    archive_and_events = follow([archive[:middle], archive[middle:] + END + trailer()])
    assert archive_and_events == (archive, [file(b"top/x", len(almost) + 1), *ENDED])


# What is no archive


@pytest.mark.parametrize("junk", [b"Welcome!\n" * 100, b"\xff" * 600, bytes(511) + b"x" * 100])
def test_what_is_no_archive(junk: bytes) -> None:
    """The error says where, and what may have written it."""
    for start in (b"", member(b"top/x")):
        for messages in every_way(start + junk):
            follower = Follower(NONCE, b"top")
            with pytest.raises(
                MalformedArchive, match=f"at byte {len(start)}, it has|it"
            ) as caught:
                for message in messages:
                    list(follower.feed(message))
            assert caught.value.offset == len(start)
            with pytest.raises(MalformedArchive):
                follower.end_of_input()


@pytest.mark.parametrize("behind", [0, 1, 30, 60])
def test_a_header_that_is_none_in_front_of_the_trailer(behind: int) -> None:
    """Nothing of the trailer was taken for a header: it is no cut, whatever the messages are."""
    for messages in every_way(b"x" * (512 + behind) + trailer()):
        follower = Follower(NONCE, b"top")
        with pytest.raises(MalformedArchive, match="at byte 0, its checksum"):
            for message in messages:
                list(follower.feed(message))


def test_a_doubtful_header_at_the_very_end() -> None:
    """Too little follows to know: the session's end decides, and the doubt is the cause."""
    follower = Follower(NONCE, b"top")
    list(follower.feed(b"x" * 520))
    with pytest.raises(CutArchive) as caught:
        follower.end_of_input()
    assert isinstance(caught.value.__cause__, headers.NotTar)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_archive_passes_or_is_refused(data: st.DataObject) -> None:
    """Nothing but our own errors comes out, wherever the bytes are wrong."""
    archive = bytearray(
        member(b"top/a", b"1" * 600)
        + long_name(b"L", b"top/" + b"n" * 150)
        + header(b"top/n")
        + pax((b"mtime", b"1.5"), (b"path", b"top/p"))
        + header(b"top/p", magic=USTAR)
        + old_sparse(b"top/s", bytes(512 * 6), [(n * 1024, 512) for n in range(6)], 9000)
        + END
        + trailer()
    )
    for _ in range(data.draw(st.integers(1, 5))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # right checksums lead deeper
        for start in range(0, len(archive) - 1024, 512):
            block = archive[start : start + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                archive[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    try:
        follow(in_steps(bytes(archive), data.draw(st.integers(1, 2000))))
    except PodcpError as error:
        assert isinstance(error, SourceError)


# Real tars

TARS = {
    "gnu": ["tar"],
    "busybox": ["busybox", "tar"],
    "bsdtar": ["bsdtar"],
    "toybox": ["toybox", "tar"],
}
CREATE = {
    "gnu": ["tar", "-cf", "-"],
    "gnu-numeric": ["tar", "--numeric-owner", "-cf", "-"],
    "gnu-sparse": ["tar", "-S", "-cf", "-"],
    "gnu-pax": ["tar", "--format=pax", "-S", "-cf", "-"],
    "gnu-pax-0.1": ["tar", "--format=pax", "-S", "--sparse-version=0.1", "-cf", "-"],
    "gnu-pax-0.0": ["tar", "--format=pax", "-S", "--sparse-version=0.0", "-cf", "-"],
    "busybox": ["busybox", "tar", "cf", "-"],
    "bsdtar": ["bsdtar", "-cf", "-"],
    "bsdtar-pax": ["bsdtar", "--format=pax", "-cf", "-"],
    "toybox": ["toybox", "tar", "cf", "-"],
    "toybox-sparse": ["toybox", "tar", "-c", "-S", "-f", "-"],
}
AS_ROOT = os.geteuid() == 0
EARLY = -315_619_200


def needs(command: list[str]) -> None:
    """Skip the test where a tar is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with all that is odd in names, types and numbers; its root is ``top``."""
    base = tmp_path_factory.mktemp("tree")
    top = base / "top"
    deep = Path(*["d" * 200] * 4, "f" * 190)
    (top / "empty directory").mkdir(parents=True)
    (top / deep.parent).mkdir(parents=True)
    contents: dict[str | Path, bytes] = {
        "file": b"content",
        "empty": b"",
        "new\nline": b"1",
        "-dash": b"2",
        os.fsdecode(b"\xff\xfe not UTF-8"): b"3",
        "p" * 95: b"99 bytes",
        "p" * 96: b"100 bytes",
        "p" * 97: b"101 bytes",
        "q" * 252: b"256 bytes",
        deep: b"998 bytes",
        "large": random.Random(0).randbytes(30_000),
        "setuid": b"4",
        "early": b"5",
        "owned": b"6",
    }
    for name, content in contents.items():
        (top / name).write_bytes(content)
    with (top / "sparse").open("wb") as sparse:
        sparse.truncate(96 * 1024)
        sparse.seek(32 * 1024)
        sparse.write(b"data" * 1024)
    (top / "hard link").hardlink_to(top / "file")
    (top / ("r" * 252)).hardlink_to(top / ("q" * 252))
    (top / "symlink").symlink_to("file")
    (top / "absolute").symlink_to("/absolute/nowhere")
    (top / "target of 100").symlink_to("t" * 100)
    (top / "target of 500").symlink_to("t" * 500)
    os.mkfifo(top / "fifo")
    if AS_ROOT:
        os.chown(top / "owned", 3_000_000, 3_000_001)
    (top / "setuid").chmod(0o4755)
    os.utime(top / "early", ns=(0, EARLY * 10**9 + 5 * 10**8))
    return base


@cache
def archived(base: Path, source: str) -> bytes:
    """Return what a tar writes of the tree, with a trailer."""
    command = [*CREATE[source], "top"]
    run = subprocess.run(command, cwd=base, capture_output=True, check=True)
    return run.stdout + trailer()


Snapshot = dict[bytes, tuple[object, ...]]


def everything(base: Path) -> Iterator[Path]:
    """Yield all that is below ``base``; rglob() fails at a link's long target up to 3.11.3."""
    for directory, directories, files in os.walk(base):
        for name in (*directories, *files):
            yield Path(directory, name)


def snapshot(base: Path) -> Snapshot:
    """Return all of a tree that each of the four tars can carry."""
    found: Snapshot = {}
    inodes: dict[int, list[bytes]] = {}
    for path in everything(base):
        status = path.lstat()
        kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
        relative = os.fsencode(path.relative_to(base))
        if stat.S_ISLNK(kind):
            found[relative] = (kind, path.readlink())
            continue
        found[relative] = (kind, mode, (status.st_uid, status.st_gid) if AS_ROOT else None)
        if stat.S_ISREG(kind):
            inodes.setdefault(status.st_ino, []).append(relative)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[relative] += (status.st_size, digest, status.st_mtime_ns // 10**9)
    for names in inodes.values():
        for name in names:
            found[name] += (sorted(names),)
    return found


def early(source: str) -> int:
    """Return the time that a source says of ``top/early``, half a second after ``EARLY``."""
    if source == "busybox":
        return 0  # it has no times before 1970
    if source.startswith("bsdtar"):
        return EARLY - 1  # it floors the seconds, and writes the half second behind them
    return EARLY


def with_time(tree: Snapshot, name: bytes, seconds: int) -> Snapshot:
    """Return ``tree`` where one file has another time."""
    entry = list(tree[name])
    entry[5] = seconds
    return {**tree, name: tuple(entry)}


@pytest.mark.parametrize("source", CREATE)
def test_any_cut_gives_the_same(tree: Path, source: str) -> None:
    """Whole, byte by byte, in random cuts: the same bytes and events."""
    needs(CREATE[source])
    stream = archived(tree, source)
    whole = follow([stream])
    assert follow(in_steps(stream, 1)) == whole
    assert follow(in_steps(stream, 10_240)) == whole
    numbers = random.Random(source)
    for _ in range(20):
        places = [numbers.randrange(len(stream)) for _ in range(numbers.randrange(200))]
        assert follow(cuts(stream, places)) == whole


@settings(max_examples=50, deadline=None)
@given(places=st.lists(st.integers(0, 40_000), max_size=40))
def test_any_cut_of_a_small_archive_gives_the_same(places: list[int]) -> None:
    """Where the cuts are chosen to hurt."""
    stream = b"".join(
        (
            long_name(b"K", b"t" * 120) + long_name(b"L", b"top/" + b"n" * 120),
            header((b"top/" + b"n" * 120)[:100], b"2", linkname=b"t" * 100, owner=b"me"),
            pax_sparse_1_0(b"top/s", b"d" * 700, [(600, 500), (40_000, 200)], 50_000),
            member(b"top/x", b"x" * 513),
            old_sparse(b"top/o", b"e" * 600, [(n * 200, 100) for n in range(6)], 2000),
            END,
            trailer(),
        )
    )
    places = [place % len(stream) for place in places]
    assert follow(cuts(stream, places)) == follow([stream])


def unpacked(destination: str, archive: bytes, place: Path, *options: str) -> None:
    """Unpack what went on as a copy does, its end included."""
    subprocess.run(
        [*TARS[destination], *options, "-x", "-p", "-f", "-"],
        input=archive + headers.end_of_archive(len(archive)),
        cwd=place,
        umask=0,
        check=True,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("destination", TARS)
@pytest.mark.parametrize("source", CREATE)
def test_each_tar_unpacks_what_each_packed(
    tree: Path, tmp_path: Path, source: str, destination: str
) -> None:
    """The tree is the same, but for what a source cannot say or a destination cannot do."""
    needs(CREATE[source])
    needs(TARS[destination])
    policy = Policy(setuid=True, early_times=destination != "toybox")
    archive, _ = follow(in_steps(archived(tree, source), 32 * 1024), policy=policy)
    archive += headers.marker(NONCE)
    unpacked(destination, archive, tmp_path)
    assert (tmp_path / f".podcp-{NONCE}").read_bytes() == b""
    (tmp_path / f".podcp-{NONCE}").unlink()
    expected = snapshot(tree)
    seconds = 0 if destination == "toybox" else early(source)
    assert snapshot(tmp_path) == with_time(expected, b"top/early", seconds)


@pytest.mark.parametrize("source", ["gnu", "bsdtar"])
@pytest.mark.parametrize("destination", ["gnu", "bsdtar"])
def test_attributes_go_on_where_they_are_wanted(
    tmp_path: Path, source: str, destination: str
) -> None:
    """Those of files and directories, whatever holds them: a sparse file, too."""
    needs(TARS[source])
    needs(TARS[destination])
    top, out = tmp_path / "top", tmp_path / "out"
    (top / "sub").mkdir(parents=True)
    out.mkdir()
    for name in ("file", "sub/other"):
        (top / name).write_text(name)
    with (top / "sparse").open("wb") as file:
        file.truncate(1 << 20)
        file.write(b"x")
    given = {"user.one": b"1", "user.a b": b"\0\n" * 300}
    if destination == "gnu":  # bsdtar takes what stands for these two for the name
        given["user.e=q%41"] = b""
    for each in (top, top / "sub", top / "file", top / "sparse"):
        for name, value in given.items():
            os.setxattr(each, name, value)
    mask = ["--xattrs", "--xattrs-include=user.*", "-S"] if source == "gnu" else []
    made = [*TARS[source], "--format=pax", *mask, "-cf", "-", "top"]
    stream = subprocess.run(made, cwd=tmp_path, check=True, capture_output=True).stdout + trailer()
    archive, _ = follow([stream], xattrs=True)
    assert follow([stream])[0] != archive
    for step in (7, 512, 32 * 1024):
        assert follow(in_steps(stream, step), xattrs=True)[0] == archive
    mask = ["--xattrs"] if destination == "gnu" else []
    subprocess.run(
        [*TARS[destination], *mask, "-x", "-p", "-f", "-"],
        input=archive + headers.end_of_archive(len(archive)),
        cwd=out,
        check=True,
    )
    for each in (top, *top.rglob("*")):
        there = out / each.relative_to(tmp_path)
        names = os.listxattr(each)
        assert sorted(os.listxattr(there)) == sorted(names)
        assert all(os.getxattr(there, name) == os.getxattr(each, name) for name in names)


@pytest.mark.parametrize("destination", ["gnu", "bsdtar"])
@pytest.mark.parametrize("source", ["gnu-sparse", "gnu-pax", "gnu-pax-0.1", "bsdtar"])
def test_holes_are_holes_again(tmp_path: Path, source: str, destination: str) -> None:
    """Few and many, at both ends, and with what pax says beside them."""
    needs(CREATE[source])
    needs(TARS[destination])
    top, out = tmp_path / "top", tmp_path / "out"
    top.mkdir()
    out.mkdir()
    maps = {"all": [], "end": [0], "start": [9 << 20], "many": range(0, 60 << 20, 1 << 20)}
    for name, offsets in maps.items():
        with (top / name.ljust(150, "_")).open("wb") as file:
            for offset in offsets:
                file.seek(offset)
                file.write(b"data" * 2000)
            file.truncate(60_000_001)
        os.setxattr(top / name.ljust(150, "_"), "user.x", b"y")
        os.utime(top / name.ljust(150, "_"), ns=(0, 10**18 + 5))
    made = [*CREATE[source], *(["--xattrs"] if source == "gnu-pax" else []), "top"]
    said = subprocess.run(made, cwd=tmp_path, check=True, capture_output=True).stdout + trailer()
    archive, _ = follow([said], holes=True, xattrs=True, fractions=True)
    assert len(archive) < 2 << 20
    restored = subprocess.run(
        [*TARS[destination], *(["--xattrs"] if destination == "gnu" else []), "-xpf", "-"],
        input=archive + headers.end_of_archive(len(archive)),
        cwd=out,
        check=True,
        capture_output=True,
    )
    assert restored.stderr == b""
    for each in top.iterdir():
        there = out / "top" / each.name
        assert there.read_bytes() == each.read_bytes()
        assert there.stat().st_blocks * 512 < 1 << 20
        if source == "gnu-pax":
            assert os.getxattr(there, "user.x") == b"y"
            assert there.stat().st_mtime_ns == 10**18 + 5


@pytest.mark.parametrize("destination", ["gnu", "bsdtar"])
@pytest.mark.parametrize("form", FORMATS)
def test_whatever_map_goes_on_is_read_alike(tmp_path: Path, form: Format, destination: str) -> None:
    """To GNU tar each extent begins a block, to bsdtar it follows the one before."""
    needs(TARS[destination])
    rng = random.Random(0)
    stream, files = b"", {}
    for number in range(60):
        extents, at = [], 0
        for _ in range(rng.randrange(1, 8)):
            length = rng.choice((0, 512, 4096) if number % 2 else (0, 1, 511, 512, 513, 4096))
            extents.append((at, length))
            at += length + rng.choice((0, 1, 511, 4096))
        size = at + rng.choice((0, 1, 5000))
        data = rng.randbytes(sum(length for _, length in extents))
        name = b"top/%d" % number
        stream += form(name, data, extents, size)
        files[name.decode()] = plain(name, data, extents, size)[512:][:size]
    archive, _ = follow([stream + END + trailer()], holes=True)
    subprocess.run(
        [*TARS[destination], "-xpf", "-"],
        input=archive + headers.end_of_archive(len(archive)),
        cwd=tmp_path,
        check=True,
    )
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    kinds = re.findall(rb"(.)\0{100}ustar", archive)
    assert kinds.count(b"S") > len(files) / 2
    assert kinds.count(b"0") > len(files) / 4


def times(base: Path) -> dict[str, int]:
    """Return the time of all in a tree, to the nanosecond."""
    return {str(path.relative_to(base)): path.lstat().st_mtime_ns for path in everything(base)}


@pytest.mark.parametrize("destination", ["gnu", "bsdtar"])
@pytest.mark.parametrize("source", ["gnu-pax", "bsdtar-pax"])
def test_fractions_of_times_go_on_where_they_are_wanted(
    tree: Path, tmp_path: Path, source: str, destination: str
) -> None:
    """Of everything since 1970, whatever its name is, and also of sparse files."""
    needs(CREATE[source])
    needs(TARS[destination])
    stream = archived(tree, source)
    archive, _ = follow([stream], policy=Policy(setuid=True), fractions=True)
    for step in (7, 512, 32 * 1024):
        messages = in_steps(stream, step)
        assert follow(messages, policy=Policy(setuid=True), fractions=True)[0] == archive
    later = ["--delay-directory-restore"] if destination == "gnu" else []  # as a copy does
    unpacked(destination, archive, tmp_path, *later)
    seconds = early(source)
    assert snapshot(tmp_path) == with_time(snapshot(tree), b"top/early", seconds)
    expected = {**times(tree), "top/early": seconds * 10**9}
    assert any(time % 10**9 for time in expected.values())
    assert times(tmp_path) == expected
    whole, _ = follow([stream], policy=Policy(setuid=True))
    assert b"mtime=" in archive
    assert b"mtime=" not in whole


LIKE_SOMETHING_ELSE = {
    "gzip": b"\x1f\x8b\x08\x04aaaax\x03\xf4\x03",
    "bzip2": b"BZh91AY&SY",
    "compress": b"\x1f\x9d\x90",
    "xz": b"\xfd7zXZ",
    "lzip": b"LZIP\x01",
    "zstd": b"P*M\x18",
    "uuencode": b"begin 644 x\n!!!!!\n!y",
}


@pytest.mark.parametrize("destination", TARS)
@pytest.mark.parametrize("top", LIKE_SOMETHING_ELSE.values(), ids=LIKE_SOMETHING_ELSE)
@pytest.mark.parametrize("flag", [b"0", b"5"])
def test_a_name_that_looks_like_something_compressed(
    tmp_path: Path, top: bytes, flag: bytes, destination: str
) -> None:
    """bsdtar looks for that in the first bytes of an archive."""
    needs(TARS[destination])
    first = member(top, b"x") if flag == b"0" else header(top + b"/", flag, mode=b"0000755\0")
    archive, _ = follow([first + END + trailer()], top=top)
    unpacked(destination, archive, tmp_path)
    assert [os.fsencode(each.name) for each in tmp_path.iterdir()] == [top]


@pytest.mark.parametrize("destination", TARS)
def test_an_archive_in_what_looks_like_gzip_stays_contents(
    tmp_path: Path, destination: str
) -> None:
    """The name skips the header of what it begins; then the file's contents would be read."""
    needs(TARS[destination])
    hidden = header(b"evil", b"0", mode=b"0006755\0") + END
    compress = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compress.compress(hidden) + compress.flush() + bytes(8)
    top = LIKE_SOMETHING_ELSE["gzip"]
    stream = header(top + b"/", b"5", mode=b"0000755\0") + member(top + b"/data", data) + END
    if destination == "bsdtar":
        subprocess.run(["bsdtar", "-xpf", "-"], input=stream, cwd=tmp_path, check=True)
        assert [each.name for each in tmp_path.iterdir()] == ["evil"]
        (tmp_path / "evil").unlink()
    archive, _ = follow([stream + trailer()], top=top)
    unpacked(destination, archive, tmp_path)
    assert [os.fsencode(each.name) for each in tmp_path.iterdir()] == [top]
    assert (tmp_path / os.fsdecode(top) / "data").read_bytes() == data


@pytest.mark.parametrize("destination", TARS)
@pytest.mark.parametrize("source", ["gnu", "busybox", "bsdtar", "toybox"])
def test_a_hard_link_to_a_symlink_leaves_alone_what_that_leads_to(
    tmp_path: Path, source: str, destination: str
) -> None:
    """toybox gives it the link's mode."""
    needs(TARS[destination])
    victim, place = tmp_path / "victim", tmp_path / "place"
    (tmp_path / "top").mkdir()
    victim.write_text("private")
    victim.chmod(0o600)
    (tmp_path / "top/link").symlink_to(victim)
    os.link(tmp_path / "top/link", tmp_path / "top/more", follow_symlinks=False)
    policy = Policy(linked_symlinks=destination != "toybox")
    archive, events = follow([archived(tmp_path, source)], policy=policy)
    assert any(isinstance(each, Altered) for each in events) == (destination == "toybox")
    place.mkdir()
    unpacked(destination, archive, place)
    for name in ("link", "more"):
        assert (place / "top" / name).readlink() == victim
    assert victim.stat().st_mode == 0o100600


@pytest.mark.parametrize("source", CREATE)
def test_tarfile_reads_what_went_on(tree: Path, source: str) -> None:
    """Python's tarfile is a witness that none of the four shares code with."""
    needs(CREATE[source])
    archive, events = follow([archived(tree, source)], policy=Policy(setuid=True))
    read = []
    file = io.BytesIO(archive + headers.end_of_archive(len(archive)))
    with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
        for info in tar:
            name, linkname = os.fsencode(info.name), os.fsencode(info.linkname)
            numbers = (info.size, info.mode, info.uid, info.gid, int(info.mtime))
            read.append(Member(name, info.type, *numbers, linkname))
    assert read == [event for event in events if isinstance(event, Member)]
    found = {member.name: member for member in read}
    assert set(found) == {*snapshot(tree)}
    assert found[b"top/early"].mtime == early(source)


def test_gnu_tar_with_numeric_owners_is_canonical(tree: Path) -> None:
    """What the source is asked for goes on as it came: one message, one object."""
    stream = archived(tree, "gnu-numeric")
    archive, _ = follow([stream], policy=Policy(setuid=True))
    message = stream[: len(archive)]
    items = Follower(NONCE, b"top", Policy(setuid=True)).feed(message)
    [piece] = [item for item in items if isinstance(item, bytes)]
    assert piece is message


def test_a_gnu_archive_passes_byte_for_byte(tree: Path) -> None:
    """All of it but the end."""
    stream = archived(tree, "gnu-numeric")
    archive, _ = follow([stream], policy=Policy(setuid=True))
    assert archive + headers.end_of_archive(len(archive)) + trailer() == stream
