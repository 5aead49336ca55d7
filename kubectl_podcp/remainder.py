"""What of a source must still be sent, where that is not everything.

In go the source's listing and the files that the destination has already; out comes a
:class:`Remainder`: names for the source's tar, and which members of its archive do not go on.
No I/O.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kubectl_podcp.archive.headers import REGULAR, Member
from kubectl_podcp.errors import IncompleteArchive, printable
from kubectl_podcp.remote.listing import Listing

MOST_ODD = 1024
"""Bytes of names that may stand in a command line, which travels in a URL."""


_ODD = re.compile(rb"[\r\n]")
"""What ends a line of a list of names: to bsdtar a carriage return, too."""


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a file that is there already.

    :ivar size: how many bytes of it.
    """

    name: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left to be sent.

    :ivar whole: names of files that are staged already.
    :ivar current: names of files that are up to date where the copy comes to stand.
    :ivar part: the file that is there in part.
    :ivar names: names that must be archived, in order; None: the source's tar takes no list, and
        archives everything again.
    :ivar odd: further such names, which a list of lines cannot hold.
    """

    source: Listing
    whole: frozenset[bytes]
    current: frozenset[bytes]
    part: Part | None
    names: tuple[bytes, ...] | None
    odd: tuple[bytes, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is left to be sent."""
        return self.is_rest_alone and self.part is None

    @property
    def is_rest_alone(self) -> bool:
        """Whether nothing but the rest of one file is missing."""
        return self.names == () and not self.odd

    def has(self, member: Member) -> bool:
        """Whether ``member``, unless it is the :meth:`rest`, is there already.

        :raises IncompleteArchive: the file of which the rest was sent has changed since.
        """
        if self.part is not None and member == replace(self.rest(), mode=member.mode):
            return False  # its mode may be without setuid by now
        is_part = self.part is not None and member.name == self.part.name
        if not (is_part or member.name in self.whole or member.name in self.current):
            return False
        listed = self.source[member.name]
        same = (member.type, member.size, member.mtime) == (REGULAR, listed.size, listed.mtime)
        if is_part and not same:
            raise IncompleteArchive(f"'{printable(member.name)}' changed while it was copied")
        return same

    def rest(self) -> Member:
        """Return the header of what is missing of the part, as a file of its own."""
        assert self.part is not None
        whole = self._header(self.part.name)
        return replace(whole, size=whole.size - self.part.size)

    def staged(self) -> Iterator[Member]:
        """Yield the headers of the files that are staged already."""
        yield from self._headers(self.whole)

    def there(self) -> Iterator[Member]:
        """Yield the headers, as the source has them, of all files that need not be sent."""
        yield from self._headers(self.whole | self.current)

    def _headers(self, names: frozenset[bytes]) -> Iterator[Member]:
        return (self._header(name) for name in self.source.names if name in names)

    def _header(self, name: bytes) -> Member:
        listed = self.source[name]
        mode = stat.S_IMODE(listed.mode)
        return Member(name, REGULAR, listed.size, mode, *listed.owner, listed.mtime)

    def size(self) -> int:
        """Return how many bytes of contents are staged already."""
        there = sum(self.source[name].size for name in self.whole)
        return there + (self.part.size if self.part else 0)


def remainder(
    source: Listing,
    *,
    whole: frozenset[bytes] = frozenset(),
    current: frozenset[bytes] = frozenset(),
    part: Part | None = None,
) -> Remainder:
    """Return what is left of ``source`` where so much is there."""
    current -= whole
    if part is not None:
        current -= {part.name}
    names, odd = _names(source, whole | current, part)
    return Remainder(source, whole, current, part, names, odd)


def _names(
    source: Listing, there: frozenset[bytes], part: Part | None
) -> tuple[tuple[bytes, ...] | None, tuple[bytes, ...]]:
    """Return the names that are left for a list, and those that cannot be in one."""
    names = [name for name in source.names if name not in there]
    if part is not None:
        names.remove(part.name)
    odd = tuple(name for name in names if _ODD.search(name))
    is_lost = any(name.endswith(b"\n") for name in odd)  # by toybox, in a command line too
    is_told = b"names" in source.said.split() and not is_lost and sum(map(len, odd)) <= MOST_ODD
    if names and not is_told:
        return None, ()
    return tuple(name for name in names if not _ODD.search(name)), odd
