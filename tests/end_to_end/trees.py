"""Trees to copy, and how to tell whether two are the same.

A tree is compared by what it is made of: for each name its type, mode, owner, time, link target
or SHA-256, and which names are one file. Each end's tree is read as an archive by the witness's
tar and by Python's :mod:`tarfile`, so that nothing of the product takes part.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tests.end_to_end.pods import Place

MTIME = 1_600_000_000
FILE_SIZE = 2048
"""Bytes of a file of the big tree that is not odd."""
ODD_NAMES = (
    b"new\nline",
    b"-rf",
    b"--help",
    b"@at",
    b"*",
    b" ",
    b"quote'\"`$(id)\\",
    b"tab\tescape\x1b[31m",
    b"\xff\xfe\x80",
    "ünïcode ☃".encode(),
    b"..dots",
    b".hidden",
    b"n" * 255,
    b"colon:name",
)


@dataclass(frozen=True)
class Entry:
    """What stands under one name."""

    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime: float
    content: str

    def without_time(self) -> Entry:
        """Return the entry but for its time."""
        return replace(self, mtime=0)


def without_owner(entry: Entry) -> Entry:
    """Return the entry but for its owner."""
    return replace(entry, uid=0, gid=0)


@dataclass(frozen=True)
class Tree:
    """Entries by name, and the groups of names that are one file."""

    entries: dict[bytes, Entry]
    links: frozenset[frozenset[bytes]]


def archive(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Pack members, in GNU's format, as the witness's tar reads it."""
    packed = io.BytesIO()
    with tarfile.open(
        fileobj=packed,
        mode="w",
        format=tarfile.GNU_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    ) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def member(name: bytes, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """Return a member's header; a directory's mode is 755, any other's 644."""
    made = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    made.type, made.mtime = kind, MTIME
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def big_tree(top: bytes, files: int = 5_500, size: int = FILE_SIZE) -> bytes:
    """Pack a tree of ``files`` files of ``size`` bytes, and one of everything that is odd."""
    return archive([*_plain(top, files, size), *_odd(top)])


def _plain(top: bytes, files: int, size: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    yield member(top, tarfile.DIRTYPE), b""
    for number in range(files):
        directory = b"%b/d%02d" % (top, number % 50)
        if number < 50:
            yield member(directory, tarfile.DIRTYPE, mtime=MTIME + number), b""
        content = hashlib.sha256(b"%d" % number).digest() * (size // 32)
        name = b"%b/f%04d" % (directory, number)
        yield member(name, size=size, mtime=MTIME - number, mode=0o600 + number % 0o200), content


def _odd(top: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    odd = top + b"/odd"
    yield member(odd, tarfile.DIRTYPE), b""
    for name in ODD_NAMES:
        yield member(odd + b"/" + name, size=len(name)), name
        yield member(odd + b"/dir " + name[:200], tarfile.DIRTYPE, mode=0o700), b""
    deep = top + b"/deep"
    yield member(deep, tarfile.DIRTYPE), b""
    for _ in range(12):
        deep += b"/" + b"d" * 60
        yield member(deep, tarfile.DIRTYPE), b""
    yield member(deep + b"/file", size=4), b"deep"
    yield member(top + b"/empty file"), b""
    yield member(top + b"/sticky", tarfile.DIRTYPE, mode=0o1777), b""
    yield member(top + b"/read-only", tarfile.DIRTYPE, mode=0o555), b""
    yield member(top + b"/read-only/file", size=2, mode=0o400), b"ro"
    yield member(top + b"/nobody", size=2, uid=65534, gid=65534), b"no"
    yield member(top + b"/far", size=2, uid=3_000_000, gid=3_000_001), b"up"
    for name, target in (
        (b"relative", "d00/f0000"),
        (b"absolute", "/etc/passwd"),
        (b"dangling", "nowhere"),
        (b"to-directory", "d01"),
        (b"up", "../../.."),
        (b"long", "x/" * 150 + "y"),
    ):
        link = member(top + b"/link-" + name, tarfile.SYMTYPE, linkname=target, mode=0o777)
        link.uid, link.gid = 1000, 1001
        yield link, b""
    for number in range(3):
        first = (b"%b/d%02d/f%04d" % (top, number, number)).decode()
        for name in (b"hard-%d" % number, b"odd/hard-%d" % number):
            yield member(top + b"/" + name, tarfile.LNKTYPE, linkname=first), b""


def put_big_tree(pod: Place, directory: str, top: str, files: int = 5_500) -> None:
    """Make the big tree in a Pod; the times of its directories too."""
    pod.unpack(big_tree(top.encode(), files), directory)
    pod.sh(f"find {directory}/{top} -type d -exec touch -d '2021-02-03 04:05:06' {{}} +")


def look(pod: Place, directory: str, top: str) -> Tree:
    """Return the tree ``directory/top`` as the witness sees it; its root's name is empty."""
    return read(pod.sh(f"cd {directory}; tar cf - {top}"), top)


def read(packed: bytes, top: str) -> Tree:
    """Return the tree below ``top`` in an archive."""
    entries: dict[bytes, Entry] = {}
    same: dict[bytes, set[bytes]] = defaultdict(set)
    with tarfile.open(
        fileobj=io.BytesIO(packed), encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for each in tar:
            name = _relative(each.name, top)
            kind, content = each.type, each.linkname
            if each.islnk():
                first = _relative(each.linkname, top)
                same[first].add(name)
                entries[name] = entries[first]
                continue
            if each.isreg():
                content = hashlib.sha256(_read(tar, each)).hexdigest()
            entries[name] = Entry(kind, each.mode, each.uid, each.gid, each.mtime, content)
    links = frozenset(frozenset({first, *others}) for first, others in same.items())
    return Tree(entries, links)


def _relative(name: str, top: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")[len(top) :].strip(b"/")


def _read(tar: tarfile.TarFile, each: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(each)
    assert file is not None
    return file.read()
