"""What stands in a tree, name by name, as the listing scripts say it.

In goes the output of :func:`~kubectl_podcp.remote.scripts.list_source` or
:func:`~kubectl_podcp.remote.scripts.list_staged`; out comes a :class:`Listing`. No I/O, raises
nothing: a listing that is not whole is no listing.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass

LIMIT = 4 * 1024 * 1024
"""Longest output of a listing script, in bytes: some 40,000 files. It is held in memory."""


_LINE = re.compile(rb"([0-9a-f]+ \d+ \d+ -?\d+ \d+:\d+ \d+) (\S+ \S+ \S+) \./(.+)", re.DOTALL)


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
    :ivar newest: names that changed last (``st_ctime``): one of them tar may have been writing.
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
            int(mtime),
            (int(uid), int(gid)),
            int(links),
        )

    @property
    def names(self) -> list[bytes]:
        """All names, in the order in which they were found: a directory before what is in it."""
        return list(self._records)


def parse(output: bytes, nonce: str) -> Listing | None:
    """Return the listing that ``output`` is; None where it is not whole, or found an error."""
    digits = nonce.encode("ascii")
    end = re.search(rb"\npodcp-%b listed 0 ([^\n]*)\n\Z" % digits, output)
    if end is None:
        return None
    records: dict[bytes, bytes] = {}
    changed, newest = b"", set[bytes]()
    for line in output[: end.start()].split(digits + b" ")[1:]:
        match = _LINE.fullmatch(line.removesuffix(b"\n"))
        if match is None:
            return None
        record, when, name = match.groups()
        if name not in records and when >= changed:  # in ISO 8601 what is later sorts later
            newest = {*newest, name} if when == changed else {name}
            changed = when
        records[name] = record
    return Listing(end[1], frozenset(newest), records)
