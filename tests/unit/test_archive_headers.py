"""Header blocks and pax records: the four dialects in, the canonical form out."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubectl_podcp.archive import headers
from kubectl_podcp.archive.headers import HeaderError, Member, NotTar
from tests.unit import tar_blocks
from tests.unit.tar_blocks import USTAR, checked, header

FILE = Member(b"top/file", b"0", 3, 0o644, 0, 0, 0o14000000000)


# What the four write, as dumped from them


def test_gnu_header() -> None:
    """GNU tar's header gives the member and is canonical already."""
    block = header(b"top/file", size=3)
    assert headers.parse(block) == FILE
    assert headers.encode(FILE) == block


def test_busybox_header() -> None:
    """busybox writes owner names, and numbers that fill their field without a NUL."""
    block = header(
        b"top/file",
        size=b"140000000000",  # 12 GiB
        uid=b"13343300",
        gid=b"77777330",
        owner=b"root",
    )
    member = headers.parse(block)
    assert (member.size, member.uid, member.gid) == (12 << 30, 3_000_000, 16_776_920)


def test_bsdtar_header() -> None:
    """bsdtar writes ustar: spaces behind the digits, names divided over prefix and name."""
    block = header(
        b"directory/file",
        size=b"00000000003 ",
        mode=b"000644 \0",
        uid=b"000000 \0",
        gid=b"\x80\0\0\0\xff\xff\xfe\xd8",
        mtime=b"14000000000 ",
        magic=USTAR,
        owner=b"root",
        devices=b"000000 \x00000000 \0",
        rest=b"top",
    )
    assert headers.parse(block) == Member(
        b"top/directory/file", b"0", 3, 0o644, 0, 4_294_967_000, 0o14000000000
    )


def test_bsdtar_header_of_an_old_file() -> None:
    """bsdtar writes eleven bytes of base-256 and a space: nonsense, which its pax header mends."""
    mtime = b"\xff\xff\xff\xff\xff\xff\xff\xed0\x08\x80 "
    assert headers.parse(header(b"top/file", mtime=mtime, magic=USTAR)).mtime < 0


def test_toybox_header_of_an_old_file() -> None:
    """toybox writes a time before 1970 as if it were unsigned."""
    mtime = b"\x80\0\0\0\xff\xff\xff\xff\xed0\x08\x80"
    assert headers.parse(header(b"top/file", mtime=mtime)).mtime == -315_619_200


def test_gnu_header_of_an_incremental_archive() -> None:
    """GNU's own times stand where POSIX has the prefix; they are no part of the name."""
    block = header(b"top/file", size=3, rest=b"15301056262\x0015301056261\0")
    assert headers.parse(block) == FILE


def test_device_numbers_count_for_devices_alone() -> None:
    """bsdtar writes them for every member."""
    numbers = b"0000005\x000000001\0"
    device = headers.parse(header(b"top/null", b"3", devices=numbers))
    assert (device.devmajor, device.devminor) == (5, 1)
    assert headers.encode(device) == header(b"top/null", b"3", devices=numbers)
    plain = headers.parse(header(b"top/null", devices=numbers))
    assert (plain.devmajor, plain.devminor) == (0, 0)


def test_names_end_at_their_first_nul() -> None:
    """As every tar reads them; what follows does not go on."""
    block = header(b"top/file\0garbage", size=3)
    assert headers.parse(block) == FILE
    assert headers.encode(headers.parse(block)) == header(b"top/file", size=3)


# Numbers


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"000644 \0", 0o644),
        (b"   644 \0", 0o644),
        (b"77777777", 0o77777777),
        (b"644\0\0\0\0\0", 0o644),
        (bytes(8), 0),
        (b"        ", 0),
        (b"\x80\0\0\0\0\0\1\0", 256),
        (b"\x80\0\0\0\xff\xff\xff\xfe", 2**32 - 2),
        (b"\xff" * 8, -1),
        (b"\xff\xff\xff\xff\xff\xff\xff\0", -256),
        (b"\xc0" + bytes(7), -(2**62)),
        (b"\x80" + b"\xff" * 11, 2**88 - 1),
    ],
)
def test_number(field: bytes, value: int) -> None:
    """Octal in all its forms, and base-256."""
    assert headers.number(field, "number") == value


@pytest.mark.parametrize(
    "field", [b"0000648\0", b"+000644\0", b"-1", b"0_644", b"0o644", b"0x1a4", b"6 44", b"64\x004"]
)
def test_not_a_number(field: bytes) -> None:
    """Python would take some of these."""
    with pytest.raises(HeaderError, match="its number is not"):
        headers.number(field, "number")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"uid": b"\x80\0\0\0\xff\xff\xff\xff"}, "owner 4294967295"),
        ({"gid": b"\x80\0\0\1\0\0\0\0"}, "owner 4294967296"),
        ({"uid": b"\xff" * 8}, "owner -1"),
        ({"size": b"\x80\0\0\0\x80" + bytes(7)}, "size 9223372036854775808"),
        ({"size": b"\xff" * 12}, "size -1"),
        ({"mtime": b"\x80\0\0\1" + bytes(8)}, "time"),
        ({"mtime": b"\xff\xff\xff\xff\x7f" + b"\xff" * 7}, "time"),
        ({"mode": b"abcdefg\0"}, "mode is not a number"),
        ({"flag": b"3", "devices": b"\xff" * 8}, "device number -1"),
        ({"flag": b"4", "devices": b"\x80" + b"\xff" * 7}, "device number 720"),
    ],
)
def test_numbers_that_cannot_be(fields: dict[str, bytes], why: str) -> None:
    """A kernel would wrap them, or read -1 as something else."""
    with pytest.raises(HeaderError, match=why):
        headers.parse(header(b"top/file", **fields))


# Checksum and magic


def test_a_wrong_checksum() -> None:
    """One bit is enough."""
    block = bytearray(header(b"top/file"))
    block[0] ^= 1
    with pytest.raises(NotTar, match="checksum"):
        headers.parse(bytes(block))


def test_a_signed_checksum() -> None:
    """Some old tars summed signed characters; the canonical form has the other sum."""
    block = header(b"top/\xe4\xf6\xfc")
    signed = sum(
        byte - 256 if byte >= 128 else byte for byte in block[:148] + b" " * 8 + block[156:]
    )
    assert headers.parse(block[:148] + b"%06o\0 " % signed + block[156:]) == headers.parse(block)


def test_the_largest_checksum() -> None:
    """Sums beyond 65,521, where Adler-32 begins again, are right too."""
    name, owner = b"\xff" * 100, b"\xff" * 32
    block = header(name, linkname=name, owner=owner)
    assert sum(block) > 65_521
    assert headers.parse(block).name == name


@pytest.mark.parametrize(
    "block",
    [b"Welcome to this container!\n".ljust(512, b"."), b"\xff" * 512, bytes(512), b" " * 512],
)
def test_not_a_header(block: bytes) -> None:
    """Whatever else writes to stdout is not taken for an archive."""
    with pytest.raises(NotTar):
        headers.parse(block)


@pytest.mark.parametrize("magic", [bytes(8), b"ustar\0\0\0", b"ustar  0", b"GNUtar \0"])
def test_an_unknown_magic(magic: bytes) -> None:
    """Version 7 archives and others: none of the four writes them."""
    with pytest.raises(NotTar, match="magic"):
        headers.parse(header(b"top/file", magic=magic))


# What tars read differently in one header


@pytest.mark.parametrize(
    "rest",
    [
        b"prefix",
        b"14000000000\0prefix",
        bytes(24) + b"00000000001\0",  # offset, of a multi-volume archive
        bytes(41) + b"00000000001\0",  # a sparse map, in a member that is not sparse
        bytes(155) + b"tar\0",  # star
    ],
)
def test_a_prefix_with_gnu_magic(rest: bytes) -> None:
    """GNU tar and bsdtar ignore it, busybox and toybox put it before the name."""
    with pytest.raises(HeaderError, match="prefix"):
        headers.parse(header(b"top/file", rest=rest))


def test_something_behind_the_ustar_prefix() -> None:
    """star has times there, which GNU tar knows and others take for a part of the name."""
    with pytest.raises(HeaderError, match="behind the prefix"):
        headers.parse(header(b"top/file", magic=USTAR, rest=bytes(163) + b"tar\0"))


def test_a_sparse_header_with_ustar_magic() -> None:
    """Its map would stand in the prefix."""
    with pytest.raises(NotTar, match="magic"):
        headers.parse(header(b"top/file", b"S", magic=USTAR))


# Names of any length


@pytest.mark.parametrize("body", [b"name\0", b"name", b"name\0\0\0", b"\0", b""])
def test_long_name(body: bytes) -> None:
    """With one NUL, as all write it, or none, or several."""
    assert headers.long_name(body) == body.rstrip(b"\0")


@pytest.mark.parametrize("body", [b"one\0two\0", b"\0name"])
def test_a_nul_inside_a_long_name(body: bytes) -> None:
    """Two names in one."""
    with pytest.raises(HeaderError, match="NUL"):
        headers.long_name(body)


# The canonical form

members = st.builds(
    Member,
    name=st.binary(min_size=1, max_size=300).map(lambda name: b"x" + name.replace(b"\0", b"")),
    type=st.sampled_from([b"0", b"5", b"6"]),
    size=st.integers(0, headers.MAX_SIZE),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, headers.MAX_ID),
    gid=st.integers(0, headers.MAX_ID),
    mtime=st.integers(-(2**63), 2**63 - 1),
)


@given(members)
def test_parse_reads_what_encode_writes(member: Member) -> None:
    """The header's own block has all but the end of a long name."""
    name = member.name + b"/" if member.type == b"5" else member.name
    archive = headers.encode(member)
    read = headers.parse(archive[-512:])
    assert read.name == name[:100]
    assert replace(read, name=member.name) == member


@given(members)
@example(Member(name=b"x/", type=b"0", size=0, mode=0, uid=0, gid=0, mtime=0))
def test_tarfile_reads_what_encode_writes(member: Member) -> None:
    """Python's tarfile is the witness, also for numbers in base-256 and for long names."""
    archive = headers.encode(member)
    [info] = _tarfile_members(archive + tar_blocks.END)
    # tarfile takes a slash away from the end of a directory's name alone.
    wanted = member.name.rstrip(b"/") if member.type == headers.DIRECTORY else member.name
    assert info.name.encode("utf-8", "surrogateescape") == wanted
    assert (info.size, info.mode, info.mtime) == (member.size, member.mode, member.mtime)
    assert (info.uid, info.gid, info.type) == (member.uid, member.gid, member.type)


def _tarfile_members(archive: bytes) -> list[tarfile.TarInfo]:
    """Read headers alone: the bodies, which may be of any size, are not there."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
        first = tar.next()
        assert first is not None
        return [first]


@pytest.mark.parametrize("length", [99, 100, 101, 150, 511, 512, 1000])
def test_long_names_and_targets_are_written_as_gnu_tar_does(tmp_path: Path, length: int) -> None:
    """Byte for byte, so that GNU tar's archives go on as they came."""
    name = ("n" * 200 + "/") * 5
    name = name[: length - 1].rstrip("/").ljust(length, "x")
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to("t" * (length - 1))
    stat = file.lstat()
    member = Member(
        name.encode(),
        b"2",
        0,
        0o777,
        stat.st_uid,
        stat.st_gid,
        int(stat.st_mtime),
        b"t" * (length - 1),
    )
    tar = shutil.which("tar")
    assert tar is not None
    command = [tar, "--format=gnu", "--numeric-owner", "-C", str(tmp_path), "-cf", "-", "--", name]
    written = subprocess.run(command, capture_output=True, check=True).stdout
    expected = headers.encode(member)
    assert written == expected + headers.end_of_archive(len(expected))


def test_a_directory_gets_its_slash() -> None:
    """Also where the slash makes its name too long."""
    name = b"n" * 100
    assert headers.encode(Member(name[:99], b"5", 0, 0o755, 0, 0, 0))[:100] == name[:99] + b"/"
    assert headers.encode(Member(name, b"5", 0, 0o755, 0, 0, 0))[512:613] == name + b"/"


def test_marker() -> None:
    """The marker is one block: an empty file that only root could read."""
    block = headers.marker(tar_blocks.NONCE)
    [info] = _tarfile_members(block + tar_blocks.END)
    assert (info.name, info.mode, info.size) == (f".podcp-{tar_blocks.NONCE}", 0o600, 0)
    assert len(block) == 512


@pytest.mark.parametrize("blocks", range(45))
def test_end_of_archive(blocks: int) -> None:
    """The whole is a multiple of 10,240 bytes; at least two blocks are zeros, at most 21."""
    end = headers.end_of_archive(blocks * 512)
    assert not end.strip(b"\0")
    assert 1024 <= len(end) < 1024 + 10_240
    assert (blocks * 512 + len(end)) % 10_240 == 0


# pax records


def test_pax_records() -> None:
    """Values may hold anything, newlines and equals signs too."""
    pairs = [(b"path", b"a=b\nc \xff"), (b"mtime", b"1.5"), (b"comment", b"")]
    assert headers.pax_records(tar_blocks.records(pairs)) == pairs
    assert headers.pax_records(b"") == []


@pytest.mark.parametrize(
    "body",
    [
        b"11 path=a\n",  # too long by one
        b"8 path=a\n",  # too short by one
        b"8 path=a",  # no newline
        b"path=a\n",
        b"09 path=a\n",
        b"+9 path=a\n",
        b"0 \n",
        b"3 \n",
        b"5 =a\n",
        b"9 path:a\n",
        b"99999999 path=a\n",
        b"9 path=a\n\0\0",
    ],
)
def test_malformed_pax_records(body: bytes) -> None:
    """Lengths are checked to the byte."""
    with pytest.raises(HeaderError, match="pax header has a"):
        headers.pax_records(body)


def test_duplicate_pax_records() -> None:
    """toybox takes the first, others the last; only sparse maps may repeat."""
    body = tar_blocks.records([(b"path", b"a"), (b"path", b"b")])
    with pytest.raises(HeaderError, match="twice"):
        headers.pax_records(body)
    repeated = [(b"GNU.sparse.offset", b"0"), (b"GNU.sparse.offset", b"1")]
    assert headers.pax_records(tar_blocks.records(repeated)) == repeated


@pytest.mark.parametrize(
    ("value", "seconds", "nanoseconds"),
    [
        (b"0", 0, 0),
        (b"1.999999999", 1, 999_999_999),
        (b"1.0000000019", 1, 1),
        (b"1.05", 1, 50_000_000),
        (b"-1", -1, 0),
        (b"-1.0", -1, 0),
        (b"-1.5", -2, 500_000_000),
        (b"-0.5", -1, 500_000_000),
        (b"-0.0000000001", -1, 999_999_999),
        (b"1.", 1, 0),
    ],
)
def test_pax_seconds(value: bytes, seconds: int, nanoseconds: int) -> None:
    """Floored, also before 1970."""
    assert headers.pax_seconds(value) == (seconds, nanoseconds)


@pytest.mark.parametrize("seconds", [0, 1_600_000_000, 2**40])
@pytest.mark.parametrize("nanoseconds", [1, 500_000_000, 999_999_999])
@pytest.mark.parametrize("name", [b"n", b"n" * 200])
def test_fractions_of_a_time(seconds: int, nanoseconds: int, name: bytes) -> None:
    """A pax header says them; tarfile agrees on what it says."""
    member = Member(name, b"2", 0, 0o777, 1, 2, seconds, b"t" * 150, nanoseconds=nanoseconds)
    written = headers.encode(member)
    assert headers.encode(replace(member, nanoseconds=0)) == written[1024:]
    pax = headers.parse(written[:512])
    assert pax.type == b"x"
    [(key, value)] = headers.pax_records(written[512 : 512 + pax.size])
    assert (key, headers.pax_seconds(value)) == (b"mtime", (seconds, nanoseconds))
    [info] = _tarfile_members(written + tar_blocks.END)
    assert (info.name.encode(), info.linkname) == (name, "t" * 150)
    assert Decimal(info.pax_headers["mtime"]) == seconds + Decimal(nanoseconds) / 10**9


@pytest.mark.parametrize("size", [0, 1, 60, 69, 70, 71, 72, 970, 971, 972, 973, 5000, 65536])
@pytest.mark.parametrize("nanoseconds", [0, 5])
def test_extended_attributes(size: int, nanoseconds: int) -> None:
    """They stand in a pax header, each with a length that counts its own digits."""
    given = ((b"user.a", b"v\n=" * (size // 3)), (b"user.b", b"x" * size), (b"user.\xff", b"\0"))
    odd = (b"user.e=q%", b"")
    member = Member(
        b"n" * 150, b"0", 0, 0o644, 1, 2, 9, nanoseconds=nanoseconds, xattrs=(*given, odd)
    )
    written = headers.encode(member)
    assert written.endswith(headers.encode(replace(member, nanoseconds=0, xattrs=())))
    pax = headers.parse(written[:512])
    records = headers.pax_records(written[512 : 512 + pax.size])
    times = [(b"mtime", b"9.000000005")] if nanoseconds else []
    said = [*given, (b"user.e%3Dq%25", b"")]
    assert records == [*times, *((headers.XATTR + name, value) for name, value in said)]
    [info] = _tarfile_members(written + tar_blocks.END)
    assert info.name == "n" * 150
    assert info.pax_headers["SCHILY.xattr.user.b"] == "x" * size


@pytest.mark.parametrize("value", [b"", b"1e3", b"1,5", b".5", b"--1", b"+1", b"1 ", b"9" * 19])
def test_not_pax_seconds(value: bytes) -> None:
    """Nothing that only some readers take."""
    with pytest.raises(HeaderError, match="time"):
        headers.pax_seconds(value)


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1_0", b"0x1", b"1.0", b"9" * 20])
def test_not_a_pax_number(value: bytes) -> None:
    """Decimal digits alone."""
    with pytest.raises(HeaderError, match="number"):
        headers.pax_decimal(value)


@pytest.mark.parametrize("value", [b"", b"a\0b"])
def test_not_a_pax_name(value: bytes) -> None:
    """An empty value would take the header's name away, in some tars."""
    with pytest.raises(HeaderError, match="name"):
        headers.pax_text(value)
    assert headers.pax_text(b"a\xff\n") == b"a\xff\n"


# Whatever the bytes are


@given(st.binary(min_size=512, max_size=512))
def test_any_block_is_read_or_refused(block: bytes) -> None:
    """Nothing but HeaderError comes out, also when the checksum and the magic are right."""
    for magic in (block[257:265], tar_blocks.GNU, USTAR):
        with contextlib.suppress(HeaderError):
            headers.parse(checked(block[:257] + magic + block[265:]))


@given(st.binary(max_size=200))
def test_any_pax_body_is_read_or_refused(body: bytes) -> None:
    """What is read gives the same bytes again."""
    try:
        pairs = headers.pax_records(body)
    except HeaderError:
        return
    assert tar_blocks.records(pairs) == body
