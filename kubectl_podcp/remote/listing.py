"""What stands in a tree, name by name, as the listing scripts say it.

In goes the output of :func:`~kubectl_podcp.remote.scripts.list_source`,
:func:`~kubectl_podcp.remote.scripts.list_target` or
:func:`~kubectl_podcp.remote.scripts.list_staged`; out comes a :class:`Listing`. No I/O, raises
nothing: a listing that is not whole is no listing.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubectl_podcp.remote.scripts import JOINED, LISTING, SINCE

LIMIT = LISTING
"""Longest output of a listing script, in bytes: some 40,000 files. It is held in memory."""

_JOINED, _SINCE = JOINED.encode(), SINCE.encode()

_LINE = re.compile(  # no more digits than such a number can have: int() refuses very long ones
    rb"([0-9a-f]{1,8} \d{1,20} \d{1,20} -?\d{1,20} \d{1,10}:\d{1,10} \d{1,20})"
    rb" (\S+ \S+ \S+) \./(.+)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``stat`` says of a name.

    :ivar mode: type and mode (``st_mode``).
    :ivar size: bytes.
    :ivar stored: bytes that have a place on the disk; fewer where the file has holes.
    :ivar mtime: seconds since the epoch.
    :ivar owner: user and group id.
    :ivar links: names that the file has.
    """

    mode: int
    size: int
    stored: int
    mtime: int
    owner: tuple[int, int]
    links: int

    @property
    def is_lone_file(self) -> bool:
        """Whether it is a regular file with this name alone."""
        return stat.S_ISREG(self.mode) and self.links == 1


@dataclass(frozen=True, slots=True)
class Listing:
    """Names, relative to the tree's parent, and what ``stat`` said of each.

    :ivar said: what the script said at the end.
    :ivar newest: names of what changed last (``st_ctime``) and is no directory: one of them tar may
        have been writing. And of what a listing before has joined, for of that one nobody knows.
    """

    said: bytes
    newest: frozenset[bytes]
    _records: Mapping[bytes, bytes]  # parsed when asked for: a fifth of the memory

    def __contains__(self, name: bytes) -> bool:
        return name in self._records

    def __getitem__(self, name: bytes) -> Stat:
        mode, size, blocks, mtime, owner, links = self._records[name].split(b" ")
        uid, _, gid = owner.partition(b":")
        return Stat(
            int(mode, 16),
            int(size),
            int(blocks) * 512,
            _signed(int(mtime)),
            (int(uid), int(gid)),
            int(links),
        )

    @property
    def names(self) -> list[bytes]:
        """All names, in the order in which they were found: a directory before what is in it, but
        for what was joined by a listing before."""
        return list(self._records)

    def only(self, wanted: Callable[[bytes, bool], bool]) -> Listing:
        """Return the part of the listing that is wanted; in a directory that is not, nothing is.

        :param wanted: is given a name, and whether it is a directory.
        """
        kept: dict[bytes, bytes] = {}
        directories = set[bytes]()
        for name, record in self._records.items():
            parent, slash, _ = name.rpartition(b"/")
            if slash and parent not in directories:
                continue
            is_directory = stat.S_ISDIR(int(record.split(b" ", 1)[0], 16))
            if wanted(name, is_directory):
                kept[name] = record
                if is_directory:
                    directories.add(name)
        return Listing(self.said, self.newest & kept.keys(), kept)

    def joined(self, other: Listing) -> Listing:
        """Return the listing of what stands in either, and says what either says."""
        return Listing(self.said or other.said, frozenset(), {**self._records, **other._records})

    def renamed(self, top: bytes, new: bytes) -> Listing:
        """Return the listing of the same tree where that is called ``new`` instead of ``top``."""
        records = {new + name[len(top) :]: each for name, each in self._records.items()}
        return Listing(self.said, frozenset(), records)


def _signed(seconds: int) -> int:
    """Return a time as it is: toybox says those before 1970 as if its 64 bits had no sign."""
    return seconds - (1 << 64) if seconds >= 1 << 63 else seconds


def parse(output: bytes, nonce: str) -> Listing | None:
    """Return the listing that ``output`` is; None where it is not whole, or found an error."""
    digits = nonce.encode("ascii")
    end = re.search(rb"\npodcp-%b listed 0 ([^\n]*)\n\Z" % digits, output)
    if end is None:
        return None
    records: dict[bytes, bytes] = {}
    changed, newest, joined = b"", set[bytes](), set[bytes]()
    for line in output[: end.start()].split(digits + b" ")[1:]:
        match = _LINE.fullmatch(line.removesuffix(b"\n"))
        if match is None:
            return None
        record, when, name = match.groups()
        is_directory = stat.S_ISDIR(int(record.split(b" ", 1)[0], 16))  # we changed some ourselves
        # In ISO 8601 what is later sorts later. Of a file that we joined, the time is ours.
        if when == _JOINED:
            joined.add(name)
        elif name not in records and not is_directory and when != _SINCE and when >= changed:
            if when > changed:
                changed, newest = when, set()
            newest.add(name)
        records[name] = record
    return Listing(end[1], frozenset(newest | joined), records)
