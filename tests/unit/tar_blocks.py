"""Tar blocks made by hand, independent of the code under test, and an archive fed to it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from kubectl_podcp.archive.follower import Event, Follower
from kubectl_podcp.archive.safety import Policy

NONCE = "0123456789abcdef" * 2
END = bytes(1024)
GNU = b"ustar  \0"
USTAR = b"ustar\x0000"

Record = tuple[bytes, bytes]


def trailer(code: int = 0, nonce: str = NONCE) -> bytes:
    """Return what the source's shell writes after its tar."""
    return b"\npodcp-%b %d\n" % (nonce.encode(), code)


def octal(value: int, width: int) -> bytes:
    """Return a numeric field as GNU tar writes it: digits and a NUL."""
    return b"%0*o\0" % (width - 1, value)


def checked(block: bytes) -> bytes:
    """Return ``block`` with a right checksum."""
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def header(
    name: bytes,
    flag: bytes = b"0",
    size: int | bytes = 0,
    *,
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    gid: bytes = b"0000000\0",
    mtime: bytes = b"14000000000\0",
    linkname: bytes = b"",
    magic: bytes = GNU,
    owner: bytes = b"",
    devices: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    """Return a header block with these fields; ``rest`` is what follows the device numbers."""
    size_field = size if isinstance(size, bytes) else octal(size, 12)
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            mode + uid + gid + size_field + mtime,
            b" " * 8 + flag,
            linkname.ljust(100, b"\0"),
            magic,
            owner.ljust(32, b"\0") * 2,
            devices.ljust(16, b"\0"),
            rest.ljust(167, b"\0"),
        )
    )
    assert len(block) == 512
    return checked(block)


def body(data: bytes) -> bytes:
    """Return ``data`` padded to whole blocks."""
    return data + bytes(-len(data) % 512)


def member(name: bytes, data: bytes = b"") -> bytes:
    """Return a plain file."""
    return header(name, b"0", len(data)) + body(data)


def long_name(flag: bytes, text: bytes) -> bytes:
    """Return GNU's ``L`` or ``K`` member as GNU tar writes it with --numeric-owner."""
    return header(
        b"././@LongLink", flag, len(text) + 1, mtime=bytes(11).replace(b"\0", b"0") + b"\0"
    ) + body(text + b"\0")


def records(pairs: Iterable[Record]) -> bytes:
    """Return pax records with their lengths."""
    lines = []
    for key, value in pairs:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        lines.append(str(length).encode() + rest)
    return b"".join(lines)


def pax(*pairs: Record, flag: bytes = b"x") -> bytes:
    """Return an extended header with these records."""
    text = records(pairs)
    return header(b"PaxHeaders/x", flag, len(text), magic=USTAR) + body(text)


def old_sparse(
    name: bytes, data: bytes, extents: Iterable[tuple[int, int]], real_size: int, **fields: bytes
) -> bytes:
    """Return a sparse file as GNU tar and toybox write it with -S."""
    entries = [octal(offset, 12) + octal(length, 12) for offset, length in extents]
    further = [entries[start : start + 21] for start in range(4, len(entries), 21)]
    rest = bytes(41) + b"".join(entries[:4]).ljust(96, b"\0")
    rest += (b"\1" if further else b"\0") + octal(real_size, 12)
    blocks = [header(name, b"S", len(data), rest=rest, **fields)]
    for number, chunk in enumerate(further, 1):
        more = b"\1" if number < len(further) else b"\0"
        blocks.append((b"".join(chunk).ljust(504, b"\0") + more).ljust(512, b"\0"))
    return b"".join(blocks) + body(data)


def cuts(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return ``data`` cut at ``places``."""
    edges = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def in_steps(data: bytes, step: int) -> list[bytes]:
    """Return ``data`` in messages of ``step`` bytes."""
    return [data[start : start + step] for start in range(0, len(data), step)]


def follow(
    messages: Iterable[bytes],
    top: bytes = b"top",
    policy: Policy | None = None,
    *,
    fractions: bool = False,
    xattrs: bool = False,
    holes: bool = False,
    hashes: bool = False,
) -> tuple[bytes, list[Event]]:
    """Feed a whole stream; return the archive that goes on, without its end, and all events."""
    follower = Follower(
        NONCE, top, policy, fractions=fractions, xattrs=xattrs, holes=holes, hashes=hashes
    )
    archive: list[bytes] = []
    events: list[Event] = []
    for message in messages:
        for item in follower.feed(message):
            if isinstance(item, bytes):
                assert 0 < len(item) <= max(len(message), 32 * 1024)
                archive.append(item)
            else:
                events.append(item)
    follower.end_of_input()
    assert follower.received == sum(map(len, messages)) if isinstance(messages, list) else True
    return b"".join(archive), events
