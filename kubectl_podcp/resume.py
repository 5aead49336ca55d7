"""How a copy goes on after an attempt that failed: what need not be sent again.

In go two listings, the source's and that of the staging folder; out comes a :class:`Resumption`.
No I/O.

A file is whole where size, time, mode and (as root) owner are those of the source: every tar sets
them when it has written the last byte. But bsdtar gives a file its full size before it writes it,
and its time even where the archive ends in the middle of it. So these count as not whole: what has
less on the disk than its size; what changed last, for that is what tar was writing; and what has a
time since which we may have been writing. At most one file is there in part; none from before
1970, for not every tar says such a time. Files with several names are sent again, since tar makes
links only between members of one archive.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from kubectl_podcp.archive.rewriting import Rewriting
from kubectl_podcp.remainder import Part, Remainder, remainder
from kubectl_podcp.remote.listing import Listing, Stat
from kubectl_podcp.remote.scripts import MOST_WORDS, words

SMALLEST_PART = 256 * 1024
"""Bytes of a file for which it is worth while to send only the rest."""

_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a copy goes on.

    :ivar doubtful: the file that goes on, and those that look whole and may not be: they must not
        look so next time.
    """

    remainder: Remainder
    doubtful: frozenset[bytes]


def resumption(
    source: Listing,
    staged: Listing,
    current: frozenset[bytes] = frozenset(),
    known: Iterable[bytes] | None = None,
    *,
    parts: bool = True,
    rewriting: Rewriting | None = None,
) -> Resumption | None:
    """Return what of ``source`` is staged; None where nothing of it can be used.

    :param current: files that need not be staged.
    :param known: the whole files that alone are of use; None: all are.
    :param parts: whether a file that is there in part is of use, too.
    :param rewriting: what the copy makes of modes and owners.
    """
    said = re.fullmatch(rb"(\d{1,10}) (\d{1,20})", staged.said)
    if said is None:  # a run was killed before it could note since when it is there
        return None
    user, since = int(said[1]), int(said[2])
    rewriting = rewriting or Rewriting()
    whole, doubtful, part = set(), set(), None
    for name in staged.names:
        if name not in source:
            return None  # the source has changed: what is staged is another tree's
        wanted, there = source[name], staged[name]
        if not _may_stay(wanted, there):
            return None
        if not (wanted.is_lone_file and there.is_lone_file):
            continue
        same = _same(wanted, there, user == 0, rewriting)
        if same and wanted.mtime < since and name not in staged.newest:
            whole.add(name)
        else:
            if same:
                doubtful.add(name)
            size = _arrived(there)
            if size >= wanted.size:  # its end is sent again
                size = (wanted.size - 1) // _BLOCK * _BLOCK
            useful = parts and wanted.mtime >= 0 and size >= SMALLEST_PART
            if useful and (part is None or size > part.size):
                part = Part(name, size)
    if known is not None:  # what else is there is sent again
        whole.intersection_update(known)
    doubtful.update([part.name] if part else ())
    # They may be dozens: a file system may have one time for all that changed within milliseconds.
    if not (whole or part) or len(words(doubtful)) > MOST_WORDS:
        return None
    # What is staged takes the place of what is up to date: so it is sent, too, unless it is whole.
    current -= frozenset(staged.names)
    left = remainder(source, whole=frozenset(whole), current=current, part=part)
    return Resumption(left, frozenset(doubtful))


def _may_stay(wanted: Stat, there: Stat) -> bool:
    """Whether what is there is of the kind that is to be there, and no symlink: the script removed
    those, since the next archive might write through them."""
    if stat.S_ISLNK(there.mode):
        return False
    return stat.S_IFMT(wanted.mode) == stat.S_IFMT(there.mode) or _holds_place(wanted, there)


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


def _same(wanted: Stat, there: Stat, is_root: bool, rewriting: Rewriting) -> bool:
    return (
        (wanted.size, wanted.mtime, rewriting.mode_of(wanted.mode))
        == (there.size, there.mtime, there.mode)
        and there.stored >= there.size
        and (not is_root or rewriting.owner_of(wanted.owner) == there.owner)
    )
