"""Which files need not be sent, since the destination has them as they are at the source.

In go two listings, the source's and that of the place where the copy comes to stand, and digests
of files where their times are not believed; out come names. No I/O.

What counts is what a copy would bring about: a regular file with this name alone, of the same
size, with the mode that a copy gives it (most take setuid and setgid off) and, where it is kept and
can be given away, the owner. Files with several names are sent, since tar makes links only between
members of one archive; what is no regular file costs next to nothing.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubectl_podcp.archive.rewriting import Rewriting
from kubectl_podcp.fidelity import OWNERSHIP
from kubectl_podcp.remote.listing import Listing, Stat


def alike(source: Listing, target: Listing, rewriting: Rewriting | None = None) -> list[bytes]:
    """Return the files that have nothing different but, maybe, time and contents.

    :param rewriting: what a copy makes of modes and owners.
    """
    rewriting = rewriting or Rewriting()
    gives = OWNERSHIP in rewriting.kept and b"gives" in target.said.split()
    return [
        name
        for name in source.names
        if name in target and _alike(source[name], target[name], gives, rewriting)
    ]


def _alike(wanted: Stat, there: Stat, gives: bool, rewriting: Rewriting) -> bool:
    return (
        wanted.is_lone_file
        and there.is_lone_file
        and (wanted.size, rewriting.mode_of(wanted.mode)) == (there.size, there.mode)
        and (not gives or rewriting.owner_of(wanted.owner) == there.owner)
    )


def same_time(names: Iterable[bytes], source: Listing, target: Listing) -> frozenset[bytes]:
    """Return those that have the same time, in seconds."""
    return frozenset(name for name in names if source[name].mtime == target[name].mtime)


def same_digest(
    names: Iterable[bytes], source: Mapping[bytes, bytes], target: Mapping[bytes, bytes]
) -> frozenset[bytes]:
    """Return those of which both ends told a digest, and the same."""
    return frozenset(name for name in names if name in source and source[name] == target.get(name))


def clashing(source: Listing, target: Listing) -> list[bytes]:
    """Return the names of what is no directory at either end."""
    return [
        name
        for name in source.names
        if name in target
        and not stat.S_ISDIR(source[name].mode)
        and not stat.S_ISDIR(target[name].mode)
    ]


@dataclass(frozen=True, slots=True)
class Current:
    """Files that were found up to date.

    :ivar source: the source's listing of that time; None where there was nothing to go by.
    :ivar names: which need not be sent, since they are there.
    :ivar clashing: names of what else is no directory at either end, in order.
    :ivar kept: those of ``names`` that are there, but not up to date.
    """

    source: Listing | None
    names: frozenset[bytes]
    clashing: tuple[bytes, ...] = ()
    kept: frozenset[bytes] = frozenset()

    def still(self, source: Listing) -> frozenset[bytes]:
        """Return those that did not change until ``source`` was listed."""
        then = self.source
        if then is None or then is source:
            return self.names
        return frozenset(
            name for name in self.names if name in source and source[name] == then[name]
        )
