"""How a copy goes on after an attempt that failed: what need not be sent again.

In go two listings, the source's and that of the staging folder; out comes a :class:`Resumption`.
No I/O.

A file is whole where size, time, mode and (as root) owner are those of the source: every tar sets
them when it has written the last byte. But bsdtar gives a file its full size before it writes it,
and its time even where the archive ends in the middle of it. So these count as not whole: what has
less on the disk than its size; what changed last, for that is what tar was writing; and what has a
time since which we may have been writing. At most one file is there in part. Files with several
names are sent again, since tar makes links only between members of one archive.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

from kubectl_podcp.archive.headers import REGULAR, Member
from kubectl_podcp.errors import IncompleteArchive, printable
from kubectl_podcp.remote.listing import Listing, Stat

SMALLEST_PART = 256 * 1024
"""Bytes of a file for which it is worth while to send only the rest."""

MOST_ODD = 1024
"""Bytes of names that may stand in a command line, which travels in a URL."""

_BLOCK = 64 * 1024
_COMPARED = ~(stat.S_ISUID | stat.S_ISGID)  # which a copy does not keep


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a file that is there already.

    :ivar size: how many bytes of it.
    """

    name: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Resumption:
    """What is there already.

    :ivar whole: names of files that are whole.
    :ivar part: the file that is there in part.
    :ivar names: names that must be archived, in order; None: the source's tar takes no list, and
        archives everything again.
    :ivar odd: further such names, which a list of lines cannot hold.
    :ivar doubtful: files that look whole, and may not be: they must not look so next time.
    """

    source: Listing
    whole: frozenset[bytes]
    part: Part | None
    names: tuple[bytes, ...] | None
    odd: tuple[bytes, ...] = ()
    doubtful: frozenset[bytes] = frozenset()

    @property
    def is_rest_alone(self) -> bool:
        """Whether nothing but the rest of one file is missing."""
        return self.names == ()

    def has(self, member: Member) -> bool:
        """Whether ``member``, unless it is the :meth:`rest`, is there already.

        :raises IncompleteArchive: the file of which the rest was sent has changed since.
        """
        if self.part is not None and member == self.rest():
            return False
        is_part = self.part is not None and member.name == self.part.name
        if not is_part and member.name not in self.whole:
            return False
        listed = self.source[member.name]
        same = (member.type, member.size, member.mtime) == (REGULAR, listed.size, listed.mtime)
        if is_part and not same:
            raise IncompleteArchive(f"'{printable(member.name)}' changed while it was copied")
        return same

    def rest(self) -> Member:
        """Return the header of what is missing of the part, as a file of its own."""
        assert self.part is not None
        listed = self.source[self.part.name]
        return Member(
            self.part.name,
            REGULAR,
            listed.size - self.part.size,
            stat.S_IMODE(listed.mode),
            *listed.owner,
            listed.mtime,
        )

    def size(self) -> int:
        """Return how many bytes of contents are there already."""
        there = sum(self.source[name].size for name in self.whole)
        return there + (self.part.size if self.part else 0)


def resumption(source: Listing, staged: Listing) -> Resumption | None:
    """Return what of ``source`` is staged; None where nothing of it can be used."""
    user, since = (int(word) for word in staged.said.split(b" "))
    whole, doubtful, part = set(), set(), None
    for name in staged.names:
        if name not in source:
            return None  # the source has changed: what is staged is another tree's
        wanted, there = source[name], staged[name]
        if stat.S_IFMT(wanted.mode) != stat.S_IFMT(there.mode) and not _holds_place(wanted, there):
            return None
        if not (wanted.is_lone_file and there.is_lone_file):
            continue
        same = _same(wanted, there, user == 0)
        if same and wanted.mtime < since and name not in staged.newest:
            whole.add(name)
        else:
            if same:
                doubtful.add(name)
            size = _arrived(there)
            if size >= wanted.size:  # its end is sent again
                size = (wanted.size - 1) // _BLOCK * _BLOCK
            if size >= SMALLEST_PART and (part is None or size > part.size):
                part = Part(name, size)
    if not whole and part is None:
        return None
    if part is not None:
        doubtful.discard(part.name)
    if sum(map(len, doubtful)) > MOST_ODD:
        return None
    names, odd = _names(source, whole, part)
    return Resumption(source, frozenset(whole), part, names, odd, frozenset(doubtful))


def _holds_place(wanted: Stat, there: Stat) -> bool:
    """Whether this is the empty file that GNU tar makes in place of a symlink that leads out of
    the tree, until it ends; killed, it leaves it. The symlink is sent again in any case."""
    return stat.S_ISLNK(wanted.mode) and stat.S_ISREG(there.mode) and there.size == 0


def _arrived(there: Stat) -> int:
    """Return how many bytes of an unfinished file are there.

    Its size is no proof: bsdtar gives a file its full size before it writes it. What was not
    written yet has no place on the disk, but for the rest of the last block.
    """
    return there.size if there.stored >= there.size else max(0, there.stored - _BLOCK)


def _same(wanted: Stat, there: Stat, is_root: bool) -> bool:
    return (
        (wanted.size, wanted.mtime, wanted.mode & _COMPARED)
        == (there.size, there.mtime, there.mode & _COMPARED)
        and there.stored >= there.size
        and (not is_root or wanted.owner == there.owner)
    )


def _names(
    source: Listing, whole: set[bytes], part: Part | None
) -> tuple[tuple[bytes, ...] | None, tuple[bytes, ...]]:
    """Return the names that are left for a list, and those that cannot be in one."""
    names = [name for name in source.names if name not in whole]
    if part is not None:
        names.remove(part.name)
    odd = tuple(name for name in names if b"\n" in name)
    if names and (source.said != b"names" or sum(map(len, odd)) > MOST_ODD):
        return None, ()
    return tuple(name for name in names if b"\n" not in name), odd
