"""The headers of one member, settled into one description of it.

In: the member's own header as :func:`~kubectl_podcp.archive.headers.parse` read it, and what
the headers in front of it say (GNU's ``L`` and ``K``, pax ``x``). Out: a
:class:`~kubectl_podcp.archive.headers.Member` of a type that all four tars know, which has one
reading. Raises :class:`~kubectl_podcp.archive.headers.HeaderError` where they would read
differently and none is plainly right. No I/O; any thread.

=========================================  ========================================================
what tars read differently                 here
=========================================  ========================================================
pax size, owner, time, path, link target   settled: pax says what holds, as POSIX has it
GNU.sparse.name against path               settled: the former, with the file expanded
prefix in a GNU header                     refused (headers.py)
the same pax key twice                     refused (headers.py)
global pax header with a size or a path    refused
``x`` beside ``L`` or ``K``; two of a kind refused
links, devices, directories with a body    refused
a name ending in ``/`` of a plain file     a directory if the size is 0, else refused
types M, N, D, I, X, V, A and unknown ones refused
=========================================  ========================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kubectl_podcp.archive.headers import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    CONTIGUOUS,
    DEVICES,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    LINKS,
    LONG_LINK,
    LONG_NAME,
    OLD_REGULAR,
    PAX,
    REGULAR,
    SPARSE,
    SYMLINK,
    XATTR,
    HeaderError,
    Member,
    checked_device,
    checked_id,
    checked_size,
    long_name,
    pax_decimal,
    pax_records,
    pax_seconds,
    pax_text,
)
from kubectl_podcp.archive.sparse import SparseRecords, sparse_records
from kubectl_podcp.errors import printable

_PLAIN = (REGULAR, OLD_REGULAR, CONTIGUOUS)
_WITHOUT_BODY = (HARD_LINK, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO)

Records = Sequence[tuple[bytes, bytes]]

_PAX: dict[bytes, Callable[[Member, bytes], Member]] = {
    b"path": lambda member, value: replace(member, name=pax_text(value)),
    b"linkpath": lambda member, value: replace(member, linkname=pax_text(value)),
    b"size": lambda member, value: replace(member, size=checked_size(pax_decimal(value))),
    b"uid": lambda member, value: replace(member, uid=checked_id(pax_decimal(value))),
    b"gid": lambda member, value: replace(member, gid=checked_id(pax_decimal(value))),
    b"mtime": lambda member, value: _with_time(member, *pax_seconds(value)),
    b"SCHILY.devmajor": lambda member, value: replace(member, devmajor=_number(member, value)),
    b"SCHILY.devminor": lambda member, value: replace(member, devminor=_number(member, value)),
}
"""The records that are obeyed, beside those of :data:`_KEPT`. Others say what no canonical header
can carry (access times, owner names), and go."""

_KEPT = XATTR + b"user."
"""The extended attributes that may go on: others give rights, or are the system's own."""
_BSDTAR = b"LIBARCHIVE.xattr."
_ESCAPED, _GNU_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})"), re.compile(rb"%(25|3D)")

_FOREIGN_BODY = (b"SCHILY.realsize", b"SUN.holesdata", b"GNU.volume.")
"""Records of star's and Solaris' sparse files and of multi-volume archives: some tars take the
body for something else than its bytes."""


@dataclass(slots=True)
class Extension:
    """What the headers in front of a member's own say of it."""

    name: bytes | None = None
    linkname: bytes | None = None
    records: Records | None = None

    @property
    def said_name(self) -> bytes | None:
        """The member's name, as far as it is said here."""
        records = dict(self.records or ())
        return self.name or records.get(b"GNU.sparse.name") or records.get(b"path")

    def add(self, flag: bytes, body: bytes) -> None:
        """Take in the body of one of them, a member of type ``L``, ``K`` or ``x``."""
        named = self.name is not None or self.linkname is not None
        if self.records is not None or (flag == PAX and named):
            # GNU tar and bsdtar obey the x, busybox and toybox the L.
            raise HeaderError("it has a pax header and another one")
        if flag == PAX:
            self.records = pax_records(body)
        elif flag == LONG_NAME and self.name is None:
            self.name = long_name(body)
        elif flag == LONG_LINK and self.linkname is None:
            self.linkname = long_name(body)
        else:
            raise HeaderError("it has two long names")


def check_global(body: bytes) -> None:
    """Refuse a global pax header that says something of members: GNU tar alone obeys it."""
    for key, _ in pax_records(body):
        if key in _PAX or key.startswith((b"GNU.sparse.", *_FOREIGN_BODY)):
            raise HeaderError(f"a global pax header says {printable(key)}")


def settle(header: Member, extension: Extension | None) -> tuple[Member, SparseRecords | None]:
    """Return the member, and what is to be done with its body if it is a sparse file of pax.

    The type is one of ``0`` to ``6``, or ``S``: a map of old GNU follows the header. A
    directory's name has no slash any more; what is not a link has no link target.
    """
    sparse = None
    if extension is not None:
        header, sparse = _extended(header, extension)
    if header.type in _PLAIN:
        header = _settled_plain(header)
        if sparse is None or header.type == REGULAR:
            return header, sparse
    if sparse is not None:
        raise HeaderError("it is sparse, but not a plain file")
    if header.type == SPARSE:
        if extension is not None and extension.records is not None:
            raise HeaderError("it is sparse in GNU's way, with a pax header")
        # As a plain file with a link target, it would be a hard link to toybox.
        return replace(header, linkname=b""), None
    if header.type not in _WITHOUT_BODY:
        raise HeaderError(f"its type {header.type!r} is not read alike by all tars")
    return _settled_bodiless(header), None


def _extended(header: Member, extension: Extension) -> tuple[Member, SparseRecords | None]:
    if extension.name is not None:
        header = replace(header, name=extension.name)
    if extension.linkname is not None:
        header = replace(header, linkname=extension.linkname)
    if extension.records is None:
        return header, None
    for key, value in extension.records:
        if key.startswith(_FOREIGN_BODY):
            raise HeaderError(f"its pax header says {printable(key)}")
        obey = _PAX.get(key)
        if obey is not None:
            header = obey(header, value)
    if xattrs := _xattrs(extension.records):
        header = replace(header, xattrs=xattrs)
    sparse = sparse_records(extension.records)
    if sparse is not None and sparse.name is not None:
        header = replace(header, name=pax_text(sparse.name))
    return header, sparse


def _xattrs(records: Records) -> tuple[tuple[bytes, bytes], ...]:
    """Return those that may go on, with their names as they are.

    GNU tar writes ``%25`` and ``%3D`` for what has a meaning there (``src/xheader.c``); bsdtar
    writes each twice, and in both names any character so that is not plain.
    """
    said = {key.removeprefix(_BSDTAR) for key, _ in records if key.startswith(_BSDTAR)}
    found = []
    for key, value in records:
        if key.startswith(_KEPT):
            name = key.removeprefix(XATTR)
            escaped = _ESCAPED if name in said else _GNU_ESCAPED
            name = escaped.sub(lambda digits: bytes((int(digits[1], 16),)), name)
            if b"\0" in name:
                raise HeaderError("it has an extended attribute whose name has a NUL")
            found.append((name, value))
    return tuple(found)


def _with_time(member: Member, seconds: int, nanoseconds: int) -> Member:
    return replace(member, mtime=seconds, nanoseconds=nanoseconds)


def _number(member: Member, value: bytes) -> int:
    """Return a device number of ``member``, which is 0 where it is no device."""
    number = checked_device(pax_decimal(value))
    return number if member.type in DEVICES else 0


def _settled_plain(header: Member) -> Member:
    if header.name.endswith(b"/"):  # how tars of the seventies wrote a directory
        return _settled_bodiless(replace(header, type=DIRECTORY, linkname=b""))
    if header.type == REGULAR and not header.linkname:
        return header
    return replace(header, type=REGULAR, linkname=b"")


def _settled_bodiless(header: Member) -> Member:
    if header.size:
        # Every tar takes the body for headers; POSIX allows one for hard links.
        raise HeaderError("it has a body, which its type does not have")
    if header.type == DIRECTORY:
        header = replace(header, name=header.name.removesuffix(b"/"))
    if header.type not in LINKS:
        return replace(header, linkname=b"") if header.linkname else header
    if not header.linkname:
        raise HeaderError("it is a link to nothing")
    return header
