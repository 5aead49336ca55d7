"""Tar headers: the four dialects in, the canonical one out.

In: blocks of 512 bytes as GNU tar, busybox, bsdtar (libarchive) and toybox write them, and the
bodies of the headers that only speak of the next member (GNU's ``L`` and ``K``, pax ``x``).
Out: a :class:`Member`, and from a :class:`Member` the one canonical form of its header.
Raises :class:`HeaderError`, never anything else, whatever the bytes are.
No state and no I/O: any thread may call anything here.

The canonical form is what GNU tar writes with ``--format=gnu --numeric-owner``, byte for byte:
all four tars read it alike. pax is not among the choices: busybox and toybox ignore its sizes,
owners and times. The one exception are fractions of a time and extended attributes, for a
destination whose tar reads them: a pax header in front of the others, which says nothing else.

Sources: POSIX.1-2017 ``pax``, "ustar Interchange Format" and "pax Header Block"; GNU tar's
``src/tar.h`` and ``src/create.c`` (``to_chars``, ``write_gnu_long_link``); what the four really
write was dumped (GNU 1.34, busybox 1.35, bsdtar 3.6.2, toybox 0.8.9).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from struct import Struct

BLOCK = 512
"""Everything in an archive is a multiple of this."""

RECORD = 20 * BLOCK
"""What tars pad a whole archive to, so that it fills the tape blocks of old."""

ZERO_BLOCK = bytes(BLOCK)

# Type flags: tar.h of POSIX, and of GNU for the capital letters.
REGULAR, OLD_REGULAR, CONTIGUOUS = b"0", b"\0", b"7"
HARD_LINK, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE = b"1", b"2", b"3", b"4"
DIRECTORY, FIFO = b"5", b"6"
SPARSE, LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL = b"S", b"L", b"K", b"x", b"g"
DEVICES = (CHARACTER_DEVICE, BLOCK_DEVICE)
LINKS = (HARD_LINK, SYMLINK)

GNU_MAGIC = b"ustar  \0"
USTAR_MAGIC = b"ustar\x0000"

MAX_ID = 2**32 - 2
"""The highest uid and gid. One more is -1, which chown(2) reads as "leave it as it is"; what
does not fit 32 bits is wrapped by the kernel, in the worst case to 0, which is root."""

MAX_SIZE = 2**63 - 1
"""off_t is a signed 64-bit number on every system that these tars run on."""

# Owner names are not read: they mean somebody else in another container.
_FIELDS = Struct("100s 8s 8s 8s 12s 12s 8s c 100s 8s 64x 8s 8s 167s")
_CANONICAL = Struct("100s 8s 8s 8s 12s 12s 8s c 100s 8s 64x 8s 8s 167x")
NAME_FIELD = 100
"""Bytes of a name that the header has room for."""

_EXTENSION_NAME = b"././@"
"""How the name begins of a header that only speaks of the next one, as GNU tar has it."""

_PLAIN_NAME = re.compile(rb"[A-Za-z0-9._/-]+")

# What GNU's header has where POSIX has the prefix: times (incremental archives only), the offset
# of multi-volume archives, then the sparse map, which only type S may have.
_OLD_GNU = Struct("12s 12s 17s 109s 17s")
_OLD_GNU_TIME = re.compile(rb"[0-7]{11}\0|\0{12}")
_OLD_GNU_EMPTY = bytes(167)

_PREFIX = Struct("155s 12s")
_PREFIX_PADDING = bytes(12)


class HeaderError(ValueError):
    """A header, or a record in one, that is not what any of the four tars writes.

    The text completes a sentence whose subject is the member: "its size is not a number".
    """


class NotTar(HeaderError):
    """A block that is no tar header at all: wrong checksum, or no known magic."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, as its header describes it.

    ``name`` is without the slash that tar puts after a directory's. ``type`` is one type flag.
    ``size`` is in bytes, ``mtime`` in whole seconds since 1970, floored; ``nanoseconds`` are those
    behind them where they are wanted, else 0. ``mode`` has the twelve permission bits alone.
    ``linkname`` is empty but for links, the numbers but for devices 0. ``xattrs`` are the names and
    values of extended attributes, which only files and directories have, where they are wanted.
    """

    name: bytes
    type: bytes
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    linkname: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    nanoseconds: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def padded(size: int) -> int:
    """Return what ``size`` bytes of body take in an archive."""
    return (size + BLOCK - 1) // BLOCK * BLOCK


# Reading


def parse(block: bytes) -> Member:
    """Read one header block.

    The name, the type and the link target come as they stand in the block: the trailing slash of
    a directory is there, and nothing is checked that depends on another header.

    :raises NotTar: its checksum is wrong, or it has no known magic.
    :raises HeaderError: a field has what none of the four tars writes there.
    """
    name, mode, uid, gid, size, mtime, checksum, flag, linkname, magic, major, minor, rest = (
        _FIELDS.unpack(block)
    )
    _verify(block, checksum)
    name = c_string(name)
    if magic == GNU_MAGIC:
        if rest != _OLD_GNU_EMPTY:
            _check_old_gnu(rest, flag)
    elif magic == USTAR_MAGIC and flag != SPARSE:
        name = _prefixed(rest, name)
    else:
        raise NotTar("it has no magic of a known tar; those of the old format v7 have none")
    device = flag in DEVICES
    return Member(
        name=name,
        type=flag,
        size=checked_size(number(size, "size")),
        mode=number(mode, "mode") & 0o7777,
        uid=checked_id(number(uid, "uid")),
        gid=checked_id(number(gid, "gid")),
        mtime=_time(number(mtime, "mtime")),
        linkname=c_string(linkname),
        devmajor=checked_device(number(major, "device number")) if device else 0,
        devminor=checked_device(number(minor, "device number")) if device else 0,
    )


def c_string(field: bytes) -> bytes:
    """Return ``field`` up to its first NUL, as every tar reads it."""
    return field.partition(b"\0")[0]


def long_name(body: bytes) -> bytes:
    """Return the name or link target in the body of an ``L`` or ``K`` member.

    :raises HeaderError: something stands behind its NUL, which some readers would see.
    """
    name = c_string(body)
    if body.strip(b"\0") != name:
        raise HeaderError("its long name has a NUL inside")
    return name


def checked_id(value: int) -> int:
    """Return a uid or gid that means the same owner everywhere, or raise :class:`HeaderError`."""
    if 0 <= value <= MAX_ID:
        return value
    raise HeaderError(f"its owner {value} does not exist")


def checked_size(value: int) -> int:
    """Return a size that a file can have, or raise :class:`HeaderError`."""
    if 0 <= value <= MAX_SIZE:
        return value
    raise HeaderError(f"its size {value} is not possible")


def checked_device(value: int) -> int:
    """Return a device number that a header has room for, or raise :class:`HeaderError`."""
    if 0 <= value < 2**32:
        return value
    raise HeaderError(f"its device number {value} does not exist")


def _time(value: int) -> int:
    if 2**63 <= value < 2**64:
        value -= 2**64  # toybox writes a time before 1970 as an unsigned 64-bit number
    return _checked_time(value)


def _checked_time(value: int) -> int:
    if -(2**63) <= value < 2**63:
        return value
    raise HeaderError("its time is not possible")


def _verify(block: bytes, field: bytes) -> None:
    """Check the checksum: the sum of all bytes, the checksum's own counted as spaces."""
    try:
        expected = number(field, "checksum")
    except HeaderError as error:
        raise NotTar(str(error)) from None
    found = _byte_sum(block) - sum(field) + len(field) * ord(" ")
    if found == expected:
        return
    # Some old tars summed signed characters; readers take either.
    negative = sum(byte >= 0x80 for byte in block) - sum(byte >= 0x80 for byte in field)
    if found - 256 * negative != expected:
        raise NotTar("its checksum is wrong")


def _byte_sum(block: bytes) -> int:
    """Return ``sum(block)`` for 512 bytes, seven times as fast: it is the dearest step of all.

    The lower half of Adler-32 is the sum of the bytes modulo 65,521, and 256 bytes come to
    65,280 at most.
    """
    first, second = zlib.adler32(block[:256], 0), zlib.adler32(block[256:], 0)
    return (first & 0xFFFF) + (second & 0xFFFF)


def number(field: bytes, what: str) -> int:
    """Read a numeric field: octal with spaces and NULs around it or none, or GNU's base-256.

    An empty field is 0: all that goes on has the canonical form, so nobody reads it otherwise.
    """
    digits = field.strip(b" \0")
    if digits.isdigit():  # int() alone would also take signs and underscores
        try:
            return int(digits, 8)
        except ValueError:
            raise HeaderError(f"its {what} is not octal") from None
    if not digits:
        return 0
    if field[0] & 0x80:
        return _base_256(field)
    raise HeaderError(f"its {what} is not a number")


def _base_256(field: bytes) -> int:
    """Read GNU's base-256: big-endian two's complement whose first bit is a flag."""
    if field[0] & 0x40:
        return int.from_bytes(field, "big", signed=True)
    return int.from_bytes(field, "big") - (1 << 8 * len(field) - 1)


def _prefixed(rest: bytes, name: bytes) -> bytes:
    prefix, padding = _PREFIX.unpack(rest)
    if padding != _PREFIX_PADDING:
        # star marks its own dialect here ("tar\0"), with times inside the prefix.
        raise HeaderError("its header has something behind the prefix")
    prefix = c_string(prefix)
    return prefix + b"/" + name if prefix else name


def _check_old_gnu(rest: bytes, flag: bytes) -> None:
    """Refuse what busybox and toybox would read as a prefix, GNU tar and bsdtar not.

    GNU's own fields stand there too; they are left behind when the header is written anew.
    """
    atime, ctime, offset, sparse, padding = _OLD_GNU.unpack(rest)
    if not (_OLD_GNU_TIME.fullmatch(atime) and _OLD_GNU_TIME.fullmatch(ctime)):
        raise HeaderError("its GNU header has a prefix")
    if offset.strip(b"\0") or padding.strip(b"\0"):
        raise HeaderError("its GNU header has a prefix")
    if sparse.strip(b"\0") and flag != SPARSE:
        raise HeaderError("its GNU header has a prefix")


# Reading pax records

XATTR = b"SCHILY.xattr."
"""Stands before the name of an extended attribute; both GNU tar and bsdtar write and read it."""

REPEATED = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
"""The keys that pax sparse 0.0 repeats, once for every extent."""

_RECORD_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_SECONDS = re.compile(rb"(-?[0-9]{1,19})(?:\.([0-9]*))?")


def pax_records(body: bytes) -> list[tuple[bytes, bytes]]:
    r"""Split the body of an ``x`` or ``g`` member, ``<length> <key>=<value>\n`` again and again.

    :raises HeaderError: a record is malformed, or a key comes twice: readers take the first or
        the last of them.
    """
    records: list[tuple[bytes, bytes]] = []
    keys: set[bytes] = set()
    at = 0
    while at < len(body):
        length = _RECORD_LENGTH.match(body, at)
        if length is None:
            raise HeaderError("its pax header has a record without a length")
        end = at + int(length[1])
        key, equals, value = body[length.end() : end - 1].partition(b"=")
        if end > len(body) or body[end - 1 : end] != b"\n" or not (key and equals):
            raise HeaderError("its pax header has a malformed record")
        if key in keys and key not in REPEATED:
            raise HeaderError("its pax header has a key twice")
        keys.add(key)
        records.append((key, value))
        at = end
    return records


def pax_text(value: bytes) -> bytes:
    """Return a name or link target, whatever its ``hdrcharset``: names are bytes to us."""
    if not value or b"\0" in value:
        raise HeaderError("its pax header has an empty name, or one with a NUL")
    return value


def pax_decimal(value: bytes) -> int:
    """Return a number that may not be negative."""
    if not _DECIMAL.fullmatch(value):
        raise HeaderError("its pax header has something else for a number")
    return int(value)


def pax_seconds(value: bytes) -> tuple[int, int]:
    """Return a time in whole seconds, and the nanoseconds behind them, both floored: ``-1.25`` is
    -2 and 750,000,000."""
    match = _SECONDS.fullmatch(value)
    if match is None:
        raise HeaderError("its pax header has something else for a time")
    whole, fraction = match[1], match[2] or b""
    seconds, nanoseconds = int(whole), int(fraction[:9].ljust(9, b"0"))
    if whole.startswith(b"-") and fraction.strip(b"0"):
        nanoseconds += bool(fraction[9:].strip(b"0"))
        seconds, nanoseconds = seconds - 1, 10**9 - nanoseconds
    return _checked_time(seconds), nanoseconds


# Writing


def encode(member: Member) -> bytes:
    """Return the canonical header of ``member``: one block, before it ``K`` and ``L`` if needed.

    Nanoseconds and extended attributes stand in an ``x`` before all of them, which GNU tar and
    bsdtar obey; busybox and toybox do not. No time before 1970 may have any nanoseconds.

    A directory's name gets its slash here. The length is a multiple of 512.
    """
    if member.nanoseconds or member.xattrs:
        return _pax(member) + encode(replace(member, nanoseconds=0, xattrs=()))
    name = member.name + b"/" if member.type == DIRECTORY else member.name
    block = _encode_block(name, member)
    if len(member.linkname) > NAME_FIELD or len(name) > NAME_FIELD:
        return _long(LONG_LINK, member.linkname) + _long(LONG_NAME, name) + block
    return block


def opening(headers: bytes, name: bytes) -> bytes:
    """Return the first member's headers as an archive may begin with them.

    Before bsdtar looks for an archive it looks whether the first bytes are of something compressed
    or uuencoded (libarchive's filters), and those are the name: ``BZh91AY&SY`` would be, and behind
    a gzip header for a name its first file's contents would be an archive that nobody has checked.
    So a name that has more than letters, digits and ``._-/`` comes in a ``L``, whose own is known.
    """
    if _PLAIN_NAME.fullmatch(name) or headers.startswith(_EXTENSION_NAME):
        return headers
    return _extension(LONG_NAME, c_string(headers[:NAME_FIELD]) + b"\0") + headers


def sparse_header(header: bytes, area: bytes, more: bool, size: int) -> bytes:
    """Return the header of a plain file as that of a sparse one, of type ``S``.

    :param header: one block, whose size is that of the stored bytes.
    :param area: the first four extents, 96 bytes.
    :param more: whether more of them follow.
    :param size: of the file.
    """
    block = b"%b        S%b%b%b%b%b" % (
        header[:148],
        header[157:386],
        area,
        bytes((more,)),
        field(size, 12),
        header[495:],
    )
    return _with_checksum(block)


def marker(nonce: str) -> bytes:
    """Return the empty member that a destination finds when every byte before it has arrived."""
    return encode(Member(b".podcp-" + nonce.encode(), REGULAR, 0, 0o600, 0, 0, 0))


def end_of_archive(sent: int) -> bytes:
    """Return the zero blocks that end an archive of which ``sent`` bytes were sent already.

    At least two blocks, and as many as make the whole a multiple of 10,240 bytes, as GNU tar and
    bsdtar have it: all four end properly then.
    """
    return bytes(2 * BLOCK + -(sent + 2 * BLOCK) % RECORD)


def _long(flag: bytes, text: bytes) -> bytes:
    """Return the member that carries a name too long for the header, or nothing if it fits."""
    if len(text) <= NAME_FIELD:
        return b""
    return _extension(flag, text + b"\0")


def _extension(flag: bytes, body: bytes) -> bytes:
    """Return a member that only speaks of the next one."""
    name = _EXTENSION_NAME + (b"PaxHeader" if flag == PAX else b"LongLink")
    header = _encode_block(name, Member(b"", flag, len(body), 0o644, 0, 0, 0))
    return header + body.ljust(padded(len(body)), b"\0")


def _pax(member: Member) -> bytes:
    """Return the pax header that carries a time below the second, and extended attributes."""
    body = b"".join(_record(_escaped(name), value) for name, value in member.xattrs)
    if member.nanoseconds:
        body = _record(b"mtime", b"%d.%09d" % (member.mtime, member.nanoseconds)) + body
    return _extension(PAX, body)


def _escaped(name: bytes) -> bytes:
    """Return the key of an extended attribute, as GNU tar writes it; bsdtar reads such names as
    they stand there."""
    return XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D")


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record; its length counts its own digits, too."""
    record = b" %b=%b\n" % (key, value)
    size = len(record)
    while size != len(record) + len(str(size)):
        size = len(record) + len(str(size))
    return b"%d%b" % (size, record)


def _encode_block(name: bytes, member: Member) -> bytes:
    device = member.type in DEVICES
    block = _CANONICAL.pack(
        name,
        field(member.mode, 8),
        field(member.uid, 8),
        field(member.gid, 8),
        field(member.size, 12),
        field(member.mtime, 12),
        b"        ",
        member.type,
        member.linkname,
        GNU_MAGIC,
        field(member.devmajor, 8) if device else b"",
        field(member.devminor, 8) if device else b"",
    )
    return _with_checksum(block)


def _with_checksum(block: bytes) -> bytes:
    """Return the block with its checksum, for which it has spaces."""
    return b"%b%06o\0 %b" % (block[:148], _byte_sum(block), block[156:])


def field(value: int, width: int) -> bytes:
    """Return octal digits and a NUL, or base-256 where they do not fit."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    number = value.to_bytes(width, "big", signed=True)
    return bytes((number[0] | 0x80,)) + number[1:]
