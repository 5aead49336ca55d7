"""The headers of one member settled: each reading that tars disagree on is one, or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubectl_podcp.archive.headers import HeaderError, Member
from kubectl_podcp.archive.members import Extension, check_global, settle
from kubectl_podcp.archive.sparse import SparseRecords
from tests.unit.tar_blocks import Record, records

FILE = Member(b"top/file", b"0", 3, 0o644, 0, 0, 1000)


def extended(*pairs: Record) -> Extension:
    """Return what an ``x`` header with these records says."""
    extension = Extension()
    extension.add(b"x", records(pairs))
    return extension


def test_a_plain_member_is_what_its_header_says() -> None:
    """The very object, for nothing is to be settled."""
    assert settle(FILE, None)[0] is FILE


# Types


@pytest.mark.parametrize("flag", [b"\0", b"7"])
def test_other_flags_of_plain_files(flag: bytes) -> None:
    """Version 7's and contiguous files are plain ones to all tars."""
    assert settle(replace(FILE, type=flag), None) == (FILE, None)


def test_only_links_have_a_link_target() -> None:
    """What stands in that field of others is not sent on."""
    assert settle(replace(FILE, linkname=b"x"), None) == (FILE, None)
    sparse = replace(FILE, type=b"S")
    assert settle(replace(sparse, linkname=b"x"), None) == (sparse, None)
    fifo = Member(b"top/f", b"6", 0, 0o644, 0, 0, 0)
    assert settle(replace(fifo, linkname=b"x"), None) == (fifo, None)
    assert settle(fifo, None)[0] is fifo


@pytest.mark.parametrize("flag", [b"1", b"2"])
def test_a_link_to_nothing(flag: bytes) -> None:
    """A link needs a target."""
    link = Member(b"top/l", flag, 0, 0o777, 0, 0, 0)
    with pytest.raises(HeaderError, match="link to nothing"):
        settle(link, None)
    link = replace(link, linkname=b"top/x")
    assert settle(link, None)[0] is link


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_a_body_that_is_none(flag: bytes) -> None:
    """Every tar reads it as headers: members could be hidden in it."""
    with pytest.raises(HeaderError, match="it has a body"):
        settle(replace(FILE, type=flag, linkname=b"x"), None)


@pytest.mark.parametrize("flag", [b"M", b"N", b"D", b"I", b"X", b"V", b"A", b"8", b"z", b"\xff"])
@pytest.mark.parametrize("size", [0, 3])
def test_types_that_tars_treat_differently(flag: bytes, size: int) -> None:
    """busybox stops, toybox skips, GNU tar and bsdtar mostly write files; V has a row of its own:
    with a size, bsdtar reads its data as headers."""
    with pytest.raises(HeaderError, match="not read alike"):
        settle(replace(FILE, type=flag, size=size), None)


def test_a_directory_loses_its_slash() -> None:
    """One; a second makes an empty part, which is refused elsewhere."""
    directory = Member(b"top/d", b"5", 0, 0o755, 0, 0, 0)
    assert settle(replace(directory, name=b"top/d/"), None) == (directory, None)
    assert settle(directory, None) == (directory, None)
    assert settle(replace(directory, name=b"top/d//"), None)[0].name == b"top/d/"


@pytest.mark.parametrize("flag", [b"0", b"\0", b"7"])
def test_a_plain_file_whose_name_ends_in_a_slash(flag: bytes) -> None:
    """A directory to all, but with a size: to busybox it is a file then."""
    directory = replace(FILE, type=flag, name=b"top/d/", size=0, linkname=b"x")
    assert settle(directory, None)[0] == replace(FILE, name=b"top/d", type=b"5", size=0)
    with pytest.raises(HeaderError, match="it has a body"):
        settle(replace(directory, size=3), None)


# L and K


def test_long_names() -> None:
    """L is the name, K the link target, in any order."""
    for flags in (b"LK", b"KL"):
        extension = Extension()
        for flag in flags:
            extension.add(bytes((flag,)), bytes((flag,)) * 200 + b"\0")
        link, sparse = settle(replace(FILE, type=b"2", size=0), extension)
        assert (link.name, link.linkname, sparse) == (b"L" * 200, b"K" * 200, None)


@pytest.mark.parametrize("flag", [b"L", b"K"])
def test_two_long_names(flag: bytes) -> None:
    """Which one holds?"""
    extension = Extension()
    extension.add(flag, b"one\0")
    with pytest.raises(HeaderError, match="two long names"):
        extension.add(flag, b"two\0")


@pytest.mark.parametrize("flags", [b"xL", b"Lx", b"xK", b"Kx", b"xx"])
def test_x_beside_another(flags: bytes) -> None:
    """GNU tar and bsdtar obey x, busybox and toybox L."""
    bodies = {b"x": records([(b"path", b"one")]), b"L": b"two\0", b"K": b"two\0"}
    first, second = flags[:1], flags[1:]
    extension = Extension()
    extension.add(first, bodies[first])
    with pytest.raises(HeaderError, match="and another"):
        extension.add(second, bodies[second])


# pax


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        ((b"path", b"top/\xff\n"), "name", b"top/\xff\n"),
        ((b"size", b"9663676416"), "size", 9 << 30),
        ((b"uid", b"3000000"), "uid", 3_000_000),
        ((b"gid", b"4294967294"), "gid", 4_294_967_294),
        ((b"mtime", b"-1.5"), "mtime", -2),
    ],
)
def test_pax_records_say_what_holds(record: Record, field: str, value: object) -> None:
    """GNU tar and bsdtar believe pax, the others the header: POSIX is with pax."""
    member, sparse = settle(FILE, extended(record))
    assert getattr(member, field) == value
    assert sparse is None


def test_pax_link_target_and_device_numbers() -> None:
    """bsdtar writes ././@LongSymLink into the header; SCHILY.dev* are its large device numbers."""
    link = replace(FILE, type=b"2", size=0, linkname=b"././@LongSymLink")
    assert settle(link, extended((b"linkpath", b"t" * 150)))[0].linkname == b"t" * 150
    device = replace(FILE, type=b"3", size=0)
    numbers = extended((b"SCHILY.devmajor", b"5000000"), (b"SCHILY.devminor", b"1"))
    member = settle(device, numbers)[0]
    assert (member.devmajor, member.devminor) == (5_000_000, 1)
    assert settle(FILE, numbers)[0] == FILE
    with pytest.raises(HeaderError, match="device number 4294967296"):
        settle(device, extended((b"SCHILY.devmajor", b"4294967296")))


def test_pax_size_makes_a_body_for_a_link() -> None:
    """The size that holds is the one that is checked."""
    link = replace(FILE, type=b"1", size=0, linkname=b"top/x")
    with pytest.raises(HeaderError, match="it has a body"):
        settle(link, extended((b"size", b"512")))


def test_other_pax_records_go() -> None:
    """No canonical header has room for them."""
    pairs = [
        (b"atime", b"1"),
        (b"ctime", b"1"),
        (b"uname", b"me"),
        (b"gname", b""),
        (b"hdrcharset", b"BINARY"),
        (b"comment", b"x"),
        (b"SCHILY.xattr.security.capability", b"\0\1"),
        (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
        (b"SCHILY.acl.access", b"user::rwx"),
        (b"SCHILY.dev", b"1"),
        (b"LIBARCHIVE.creationtime", b"1"),
        (b"VENDOR.x", b"\xff"),
    ]
    assert settle(FILE, extended(*pairs)) == (FILE, None)


def test_attributes_of_users_are_the_members() -> None:
    """In order, with their names; bsdtar writes each twice, with ``%20`` for a space."""
    pairs = [
        (b"SCHILY.xattr.user.x", b"\0\1"),
        (b"SCHILY.xattr.user.a%20b", b"as it is"),
        (b"SCHILY.xattr.user.e%3Dq%2541", b"GNU's"),
        (b"LIBARCHIVE.xattr.user.c%20d", b"aXQ="),
        (b"SCHILY.xattr.user.c%20d", b"it"),
    ]
    found = (
        (b"user.x", b"\0\1"),
        (b"user.a%20b", b"as it is"),
        (b"user.e=q%41", b"GNU's"),
        (b"user.c d", b"it"),
    )
    assert settle(FILE, extended(*pairs)) == (replace(FILE, xattrs=found), None)
    twice = [(b"LIBARCHIVE.xattr.user.%00", b""), (b"SCHILY.xattr.user.%00", b"")]
    with pytest.raises(HeaderError, match="whose name has a NUL"):
        settle(FILE, extended(*twice))


@pytest.mark.parametrize(
    "record",
    [
        (b"path", b""),
        (b"path", b"a\0b"),
        (b"linkpath", b""),
        (b"size", b"-1"),
        (b"size", b""),
        (b"size", b"9223372036854775808"),
        (b"uid", b"4294967295"),
        (b"gid", b"-1"),
        (b"mtime", b"now"),
        (b"SCHILY.devmajor", b""),
        (b"SCHILY.realsize", b"5"),
        (b"SUN.holesdata", b"0 5"),
        (b"GNU.volume.offset", b"5"),
        (b"GNU.volume.\xff", b"5"),
        (b"GNU.sparse.major", b"1"),
    ],
)
def test_pax_records_refused(record: Record) -> None:
    """No guess at what was meant, and no body that some tars take for something else."""
    with pytest.raises(HeaderError):
        settle(FILE, extended(record))


# Sparse

SPARSE = (
    (b"GNU.sparse.major", b"1"),
    (b"GNU.sparse.minor", b"0"),
    (b"GNU.sparse.realsize", b"100"),
)


def test_sparse_name_against_path() -> None:
    """GNU tar and bsdtar use the former, the others write GNUSparseFile.0/file."""
    header = replace(FILE, name=b"top/GNUSparseFile.0/file")
    name = (b"GNU.sparse.name", b"top/file")
    for pairs in ((*SPARSE, name), ((b"path", b"top/other"), name, *SPARSE)):
        member, sparse = settle(header, extended(*pairs))
        assert member == FILE
        assert sparse == SparseRecords(b"top/file", 100, None)
    member, _ = settle(FILE, extended((b"path", b"top/other"), *SPARSE))
    assert member.name == b"top/other"


@pytest.mark.parametrize("name", [b"", b"a\0b"])
def test_sparse_name_refused(name: bytes) -> None:
    """As other names of pax."""
    with pytest.raises(HeaderError, match="name"):
        settle(FILE, extended(*SPARSE, (b"GNU.sparse.name", name)))


@pytest.mark.parametrize("flag", [b"1", b"5", b"S"])
def test_only_plain_files_are_sparse(flag: bytes) -> None:
    """Directories and links with a map, or two kinds of map."""
    with pytest.raises(HeaderError, match="not a plain file"):
        settle(replace(FILE, type=flag, size=0, linkname=b"x"), extended(*SPARSE))


@pytest.mark.parametrize("flag", [b"0", b"\0", b"7"])
def test_a_sparse_file_whose_name_ends_in_a_slash(flag: bytes) -> None:
    """Without stored bytes it looks like a directory, and with its holes it is none."""
    header = replace(FILE, type=flag, size=0)
    with pytest.raises(HeaderError, match="not a plain file"):
        settle(header, extended(*SPARSE, (b"GNU.sparse.name", b"top/x/")))


def test_old_sparse() -> None:
    """The type stays, for its map is not read yet; a pax header could say another size."""
    header = replace(FILE, type=b"S")
    assert settle(header, None) == (header, None)
    extension = Extension()
    extension.add(b"L", b"n" * 200 + b"\0")
    assert settle(header, extension)[0].name == b"n" * 200
    with pytest.raises(HeaderError, match="with a pax header"):
        settle(header, extended((b"size", b"5")))


# Global pax headers


@pytest.mark.parametrize(
    "key",
    [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"GNU.sparse.size"],
)
def test_a_global_header_that_says_something_of_members(key: bytes) -> None:
    """GNU tar obeys it, others do not."""
    with pytest.raises(HeaderError, match=f"global pax header says {key.decode()}"):
        check_global(records([(b"comment", b"x"), (key, b"1")]))


def test_a_harmless_global_header() -> None:
    """As git archive writes it."""
    check_global(records([(b"comment", b"0123"), (b"charset", b"BINARY")]))
    with pytest.raises(HeaderError, match="malformed"):
        check_global(b"5 abc")
    with pytest.raises(HeaderError, match=r"GNU.sparse.\\xff"):
        check_global(records([(b"GNU.sparse.\xff", b"1")]))
