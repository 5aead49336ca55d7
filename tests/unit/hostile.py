"""Members that no destination may get: what is hostile in a name, times where a name stands.

Each is an archive's part that has to be refused before a byte of it goes on; :attr:`Hostile.why`
and :attr:`Hostile.printed` are what a user must read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.unit.tar_blocks import USTAR, body, header, long_name, member, old_sparse, pax

TOP = b"top"
ESCAPES = r"\033]0;evil\007\033[2J\23331m\015"
"""As printf spells them: the title, the screen, a colour in one byte, the line's start."""
EVIL = b"\x1b]0;evil\x07\x1b[2J\x9b31m\r"
PRINTED = r"\x1b]0;evil\x07\x1b[2J\x9b31m\x0d"


@dataclass(frozen=True)
class Hostile:
    """``archive`` is refused with ``why``, and ``printed`` is its name as a terminal may see it.

    :ivar before: what has to stand in front of it, and may go on.
    """

    name: str
    archive: bytes
    why: str
    printed: str = PRINTED
    before: bytes = b""

    def __str__(self) -> str:
        return self.name


NAMES = {
    "absolute": (b"/" + EVIL, "a name is absolute"),
    "up": (b"../" + EVIL, "a name has the part '..'"),
    "out": (b"top/../../" + EVIL, "a name has the part '..'"),
    "other": (EVIL, "a name does not stand under 'top'"),
    "beside": (b"top" + EVIL + b"/x", "a name does not stand under 'top'"),
    "empty part": (b"top//" + EVIL, "a name has an empty part"),
    "dot": (b"top/./" + EVIL, "a name has an empty part"),
}
TYPES = {
    "file": b"0",
    "old file": b"\0",
    "contiguous": b"7",
    "hard link": b"1",
    "symlink": b"2",
    "character device": b"3",
    "block device": b"4",
    "directory": b"5",
    "fifo": b"6",
}
DIALECTS = ("gnu", "L", "x", "ustar", "prefix")


def named(name: bytes, flag: bytes, dialect: str) -> bytes:
    """Return a member whose name is said in the way of one dialect."""
    target = b"top/good" if flag in (b"1", b"2") else b""
    if dialect == "L":
        return long_name(b"L", name) + header(b"top/x", flag, linkname=target)
    if dialect == "x":
        return pax((b"path", name)) + header(b"top/x", flag, linkname=target, magic=USTAR)
    if dialect == "prefix":
        prefix, _, name = name.rpartition(b"/")
        return header(name, flag, linkname=target, magic=USTAR, rest=prefix)
    magic = {"magic": USTAR} if dialect == "ustar" else {}
    return header(name, flag, linkname=target, **magic)


def linked(target: bytes, flag: bytes, dialect: str) -> bytes:
    """Return a link whose target is said in the way of one dialect."""
    name = b"top/" + EVIL
    if dialect == "L":
        return long_name(b"K", target) + header(name, flag)
    if dialect == "x":
        return pax((b"linkpath", target)) + header(name, flag, linkname=b"top/good", magic=USTAR)
    return header(name, flag, linkname=target, magic=USTAR)


def hostile_names() -> Iterator[Hostile]:
    """Yield each hostile name, of each type of member, in each dialect."""
    for kind, (name, why) in NAMES.items():
        for what, flag in TYPES.items():
            for dialect in DIALECTS:
                if dialect == "prefix" and not name.rpartition(b"/")[0]:
                    continue  # it has nothing to put there
                yield Hostile(f"{kind} {what} by {dialect}", named(name, flag, dialect), why)


def hostile_targets() -> Iterator[Hostile]:
    """Yield hard links to each hostile name, in each dialect."""
    for kind, (name, why) in NAMES.items():
        for dialect in ("ustar", "L", "x"):
            yield Hostile(f"hard link to {kind} by {dialect}", linked(name, b"1", dialect), why)


EVIL_NAME = TOP + b"/" + EVIL
_SPARSE = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))


def _global(*records: tuple[bytes, bytes]) -> bytes:
    text = pax(*records, flag=b"g")
    return header(EVIL_NAME, b"g", int(text[124:135], 8), magic=USTAR) + text[512:]


HIDDEN = member(b"top/hidden", b"hidden")


def read_differently() -> Iterator[Hostile]:
    """Yield what four tars do not read alike, but for what is settled."""
    for key in (b"size", b"path", b"linkpath", b"uid", b"GNU.sparse.major", b"SCHILY.realsize"):
        yield Hostile(
            f"global {key.decode()}", _global((key, b"1")) + HIDDEN, "a global pax header says"
        )
    for flag in (b"0", b"\0", b"7"):
        yield Hostile(
            f"{flag!r} with a slash and a body",
            header(EVIL_NAME + b"/", flag, 512) + HIDDEN,
            "it has a body",
        )
    for letter in "123456":
        flag = letter.encode()
        link = header(EVIL_NAME, flag, 1024, linkname=b"top/good") + HIDDEN
        yield Hostile(f"{letter} with a body", link, "it has a body")
        by_pax = header(EVIL_NAME, flag, linkname=b"top/good", magic=USTAR)
        by_pax = pax((b"size", b"1024")) + by_pax + HIDDEN
        yield Hostile(f"{letter} with a body by x", by_pax, "it has a body")
    for letter in "VMNDIXAZ8":
        unknown = header(EVIL_NAME, letter.encode(), 1024) + HIDDEN
        yield Hostile(f"type {letter}", unknown, "is not read alike by all tars")
    yield Hostile(
        "x then L",
        pax((b"path", b"top/a")) + long_name(b"L", b"top/b") + header(b"top/c"),
        "it has a pax header and another one",
        "'top/a'",
    )
    yield Hostile(
        "path twice",
        pax((b"path", b"top/a"), (b"path", b"top/b")) + header(b"top/c"),
        "its pax header has a key twice",
        "'PaxHeaders/x'",
    )
    yield Hostile(
        "a prefix in a GNU header", header(EVIL_NAME, rest=b"prefix"), "its GNU header has a prefix"
    )


def lies() -> Iterator[Hostile]:
    """Yield numbers that cannot be, and maps and lengths that contradict themselves."""
    for what, fields, why in (
        ("size", {"size": b"\xff" * 12}, "its size -1 is not possible"),
        ("owner", {"uid": b"\xff" * 8}, "its owner -1 does not exist"),
        ("mode", {"mode": b"rw-r--r-"}, "its mode is not a number"),
        ("time", {"mtime": b"\x80\1" + bytes(10)}, "its time is not possible"),
    ):
        yield Hostile(f"an impossible {what}", header(EVIL_NAME, **fields), why)
        by_name = long_name(b"L", EVIL_NAME) + header(b"top/x", **fields)
        yield Hostile(f"an impossible {what} behind L", by_name, why)
    for key in (b"size", b"uid", b"mtime", b"SCHILY.realsize", b"GNU.volume.size"):
        by_pax = pax((b"path", EVIL_NAME), (key, b"x")) + header(b"top/x", magic=USTAR)
        yield Hostile(f"an impossible {key.decode()} by x", by_pax, "its pax header")
    yield Hostile(
        "a sparse map that goes back",
        old_sparse(EVIL_NAME, bytes(8), [(8, 4), (0, 4)], 12),
        "its sparse map goes back",
    )
    records = pax(*_SPARSE, (b"GNU.sparse.realsize", b"8"), (b"GNU.sparse.name", EVIL_NAME))
    yield Hostile(
        "a sparse map that lies",
        records + header(b"top/x", size=1024, magic=USTAR) + body(b"1\n0\n8\n") + bytes(512),
        "its sparse map does not fit",
    )
    yield Hostile(
        "a sparse file that looks like a directory",
        pax(
            (b"GNU.sparse.size", b"512"),
            (b"GNU.sparse.numblocks", b"1"),
            (b"GNU.sparse.map", b"512,0"),
        )
        + header(EVIL_NAME + b"/", magic=USTAR)
        + HIDDEN,
        "it is sparse, but not a plain file",
    )
    yield Hostile(
        "a pax header of 4 GiB",
        header(EVIL_NAME, b"x", (4 << 30) - 1, magic=USTAR) + bytes(100_000),
        "a header of 4294967295 bytes",
    )
    yield Hostile(
        "a name of 4 GiB", header(EVIL_NAME, b"L", (4 << 30) - 1) + bytes(100_000), "4294967295"
    )
    wrong = bytearray(member(EVIL_NAME))
    wrong[0] ^= 1
    yield Hostile("a wrong checksum", bytes(wrong), "its checksum is wrong", "at byte")
    yield Hostile("no magic", header(EVIL_NAME, magic=bytes(8)), "no magic", "at byte")


def hostile_ways() -> Iterator[Hostile]:
    """Yield what is written, or linked, through a symlink."""
    link = header(TOP + b"/link", b"2", linkname=b"/outside")
    through = TOP + b"/link/" + EVIL
    why = "it leads through a symlink of the same archive"
    for what, flag in TYPES.items():
        for dialect in ("gnu", "L", "x", "prefix"):
            written = named(through, flag, dialect)
            yield Hostile(f"{what} through a symlink by {dialect}", written, why, before=link)
    for dialect in ("ustar", "L", "x"):
        hard = linked(through, b"1", dialect)
        yield Hostile(f"hard link through a symlink by {dialect}", hard, why, before=link)
    second = link + header(TOP + b"/second", b"1", linkname=TOP + b"/link")
    below = member(TOP + b"/second/" + EVIL)
    yield Hostile("file through a hard link to a symlink", below, why, before=second)
    evil = header(EVIL_NAME, b"2", linkname=b"/outside")
    for flag in (b"0", b"1", b"2", b"5", b"6"):
        again = header(EVIL_NAME, flag, linkname=b"top/good" if flag in (b"1", b"2") else b"")
        why = "the archive has a symlink of the same name"
        yield Hostile(f"{flag.decode()} in a symlink's place", again, why, before=evil)


def hostile_members() -> dict[str, Hostile]:
    """Return all of them by their names."""
    kinds = (hostile_names(), hostile_targets(), read_differently(), lies(), hostile_ways())
    return {each.name: each for kind in kinds for each in kind}
