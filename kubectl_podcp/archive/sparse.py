"""Sparse files: the maps of GNU tar and pax, read and checked.

In: the map as one of four formats carries it. Out: a :class:`SparseMap`, which says where in
the file the stored bytes belong. Raises :class:`~kubectl_podcp.archive.headers.HeaderError`.
No I/O; any thread may call the functions, one at a time a :class:`TextMap`.

========= ============================= ============================== ====================
format    written by                    where its map is               stored bytes
========= ============================= ============================== ====================
old GNU   GNU and toybox with -S        header of type S, more blocks  the body
pax 0.0   GNU with --sparse-version=0.0 repeated records of ``x``      the body
pax 0.1   GNU with --sparse-version=0.1 one record of ``x``            the body
pax 1.0   bsdtar; GNU with pax and -S   text, the front of the body    the rest of the body
========= ============================= ============================== ====================

busybox knows none of the four, toybox only the first: sparse files go on as plain ones.
Where all destinations have GNU tar or bsdtar, they may go on as sparse ones, in old GNU's format:
both read that, and there it can stand behind pax records of other things.

Sources: the GNU tar manual, "Storing Sparse Files"; GNU tar's ``src/sparse.c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kubectl_podcp.archive.headers import (
    BLOCK,
    HeaderError,
    Member,
    checked_size,
    encode,
    field,
    number,
    pax_decimal,
    sparse_header,
)

Extent = tuple[int, int]
"""Where stored bytes belong: the offset in the file, and how many."""

MAX_EXTENTS = 256 * 1024
"""The longest map: it takes some 32 MiB here. GNU tar cuts a file of 2 GiB into so many only if
every second page of it were a hole."""

MOST_KEPT = 16 * 1024
"""The longest map that goes on; with more extents a file goes on as a plain one."""

_AREA = slice(386, 482)  # four extents in a header of type S
_MORE = 482
_REAL_SIZE = slice(483, 495)
_CONTINUED_AREA = slice(0, 504)  # 21 extents in each block behind it
_CONTINUED_MORE = 504
_ENTRY = 24  # two numeric fields
_LONGEST_LINE = 20  # of a map in text: 19 digits and a newline


@dataclass(frozen=True, slots=True)
class SparseMap:
    """``extents`` in order, without overlap, inside a file of ``size`` bytes.

    ``stored`` is how many bytes the archive has for it: the sum of the extents.
    """

    extents: Sequence[Extent]
    size: int
    stored: int

    @property
    def is_kept(self) -> bool:
        """Whether the map may go on, and is worth while.

        To GNU tar each extent begins a block of the archive, to bsdtar it follows the one before:
        behind an extent that is no multiple of a block they would read two different archives.
        """
        lengths = [length for _, length in self.extents if length]
        is_one_to_all = not any(length % BLOCK for length in lengths[:-1])
        return self.stored < self.size and len(self.extents) <= MOST_KEPT and is_one_to_all

    @classmethod
    def checked(cls, extents: Sequence[Extent], size: int, stored: int) -> SparseMap:
        """Return the map, or raise :class:`HeaderError` if it contradicts itself or the header."""
        end = 0
        for offset, length in extents:
            if offset < end:
                raise HeaderError("its sparse map goes back")
            end = offset + length
        if end > size:
            raise HeaderError("its sparse map goes beyond its end")
        if sum(length for _, length in extents) != stored:
            raise HeaderError("its sparse map does not fit its size in the archive")
        return cls(extents, size, stored)


# Old GNU


def header_map(block: bytes) -> tuple[list[Extent], bool, int]:
    """Return the extents in a header of type S, whether more follow, and the file's real size."""
    real_size = checked_size(number(block[_REAL_SIZE], "real size"))
    return _entries(block[_AREA]), bool(block[_MORE]), real_size


def continued_map(block: bytes) -> tuple[list[Extent], bool]:
    """Return the extents in a block behind such a header, and whether more follow."""
    return _entries(block[_CONTINUED_AREA]), bool(block[_CONTINUED_MORE])


_IN_HEADER, _IN_BLOCK = 4, 21


def encoded(member: Member, sparse: SparseMap) -> bytes:
    """Return the headers of a sparse file that goes on as such: its own, and the map's blocks.

    The last extent ends where the file does, for GNU tar makes it no longer than that.
    """
    *others, header = _blocks(encode(replace(member, size=sparse.stored)))
    extents = list(sparse.extents)
    if not extents or sum(extents[-1]) < sparse.size:
        extents.append((sparse.size, 0))
    first, rest = extents[:_IN_HEADER], extents[_IN_HEADER:]
    area = _written(first).ljust(_IN_HEADER * _ENTRY, b"\0")
    said = [*others, sparse_header(header, area, bool(rest), sparse.size)]
    while rest:
        some, rest = rest[:_IN_BLOCK], rest[_IN_BLOCK:]
        block = _written(some).ljust(_CONTINUED_MORE, b"\0") + bytes((bool(rest),))
        said.append(block.ljust(BLOCK, b"\0"))
    return b"".join(said)


def _blocks(data: bytes) -> list[bytes]:
    return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]


def _written(extents: Sequence[Extent]) -> bytes:
    return b"".join(field(each, 12) for extent in extents for each in extent)


def _entries(area: bytes) -> list[Extent]:
    used = len(area.rstrip(b"\0")) + _ENTRY - 1
    return [
        (
            checked_size(number(area[start : start + 12], "sparse map")),
            checked_size(number(area[start + 12 : start + 24], "sparse map")),
        )
        for start in range(0, used // _ENTRY * _ENTRY, _ENTRY)
    ]


# pax

_PREFIX = b"GNU.sparse."


@dataclass(frozen=True, slots=True)
class SparseRecords:
    """What the records of an ``x`` header say of a sparse file.

    ``name`` is None where the file's name is that of the header. ``extents`` is None where the
    map stands at the front of the body (1.0).
    """

    name: bytes | None
    size: int
    extents: list[Extent] | None


def sparse_records(records: Sequence[tuple[bytes, bytes]]) -> SparseRecords | None:
    """Return what pax records (see ``pax_records``) say of a sparse file; None: it is not one."""
    said: dict[bytes, list[bytes]] = {}
    for key, value in records:
        if key.startswith(_PREFIX):
            said.setdefault(key[len(_PREFIX) :], []).append(value)
    if not said:
        return None
    names = said.pop(b"name", [None])
    if b"major" in said:
        size, extents = _version_1(said), None
    else:
        size, extents = _version_0(said)
    return SparseRecords(names[0], size, extents)


def _version_1(said: dict[bytes, list[bytes]]) -> int:
    if set(said) != {b"major", b"minor", b"realsize"}:
        raise HeaderError("its sparse records are not those of version 1.0")
    if (said[b"major"], said[b"minor"]) != ([b"1"], [b"0"]):
        raise HeaderError("its sparse version is not 1.0")
    return checked_size(pax_decimal(said[b"realsize"][0]))


def _version_0(said: dict[bytes, list[bytes]]) -> tuple[int, list[Extent]]:
    if set(said) == {b"size", b"numblocks", b"map"}:
        numbers = [pax_decimal(value) for value in said[b"map"][0].split(b",")]
        offsets, lengths = numbers[::2], numbers[1::2]
    elif set(said) == {b"size", b"numblocks", b"offset", b"numbytes"}:
        offsets = [pax_decimal(value) for value in said[b"offset"]]
        lengths = [pax_decimal(value) for value in said[b"numbytes"]]
    else:
        raise HeaderError("its sparse records are not those of version 0.0 or 0.1")
    if not len(offsets) == len(lengths) == pax_decimal(said[b"numblocks"][0]):
        raise HeaderError("its sparse map is incomplete")
    return checked_size(pax_decimal(said[b"size"][0])), list(zip(offsets, lengths, strict=True))


class TextMap:
    """The map at the front of a body (1.0): decimal numbers, one a line, padded to a block.

    The first is how many extents there are, then come offset and length of each.
    """

    def __init__(self) -> None:
        self._text = bytearray()
        self._lines = 0
        self._wanted = 0

    @property
    def length(self) -> int:
        """How many bytes of the body it takes."""
        return len(self._text)

    def add(self, block: bytes) -> bool:
        """Take the next block of the body; return whether the map is complete."""
        if not self._text:
            self._wanted = 1 + 2 * self._count(block)
        self._text += block
        self._lines += block.count(b"\n")
        if self._lines >= self._wanted:
            return True
        if len(self._text) > self._wanted * _LONGEST_LINE + BLOCK:
            raise HeaderError("its sparse map has no end")
        return False

    def extents(self) -> list[Extent]:
        """Return the extents of a complete map."""
        numbers = [pax_decimal(line) for line in bytes(self._text).split(b"\n")[1 : self._wanted]]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _count(self, block: bytes) -> int:
        count = pax_decimal(block.partition(b"\n")[0])
        if count > MAX_EXTENTS:
            raise HeaderError(f"its sparse map has {count} extents, more than {MAX_EXTENTS}")
        return count
