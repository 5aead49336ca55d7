"""Each member of a copy as a line, or as an item of the document: ``--itemize``.

In: members as they pass, attempt by attempt. Out: a line each, at once, or all of them at the end.
A member that passes again in another attempt is told once. No I/O but by what is given; the
relay's source reader calls.
"""

from __future__ import annotations

import stat
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone

from kubectl_podcp.archive.headers import DIRECTORY, FIFO, HARD_LINK, SYMLINK, Member
from kubectl_podcp.errors import printable

_KINDS = {
    DIRECTORY: ("directory", "d"),
    SYMLINK: ("symlink", "l"),
    HARD_LINK: ("hardlink", "h"),
    FIFO: ("fifo", "p"),
}
_FILE = ("file", "-")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MASK = (1 << 64) - 1


def line(member: Member) -> str:
    """Return what ``--itemize`` prints: type and mode, size, time and name."""
    kind = _KINDS.get(member.type, _FILE)[1]
    name = printable(member.name)
    if member.linkname:
        name += f" {'link to' if member.type == HARD_LINK else '->'} {printable(member.linkname)}"
    permissions = stat.filemode(member.mode)[1:]
    return f"{kind}{permissions} {member.size:>14} {_time(member.mtime)} {name}"


def item(member: Member) -> dict[str, object]:
    """Return what the document says of a member."""
    return {
        "type": _KINDS.get(member.type, _FILE)[0],
        "name": printable(member.name),
        "size": member.size,
        "mode": f"{member.mode:04o}",
        "mtime": member.mtime,
        "link": printable(member.linkname) if member.linkname else None,
    }


def _time(seconds: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OverflowError:  # after the year 9999
        return f"@{seconds}"


class Lines:
    """Tells each member as it passes; eight bytes of it are kept, for another attempt.

    :param tell: is given each line, without its end.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = array("Q")
        self._before = array("Q")  # what earlier attempts have told, in order

    def restart(self) -> None:
        """Another copy begins: names may come that were in the one before."""
        self._told, self._before = array("Q"), array("Q")

    def begin(self, staged: Iterable[Member]) -> None:
        """An attempt begins, with these files there already."""
        self._before = array("Q", sorted([*self._before, *self._told]))
        self._told = array("Q")
        for member in staged:
            self.add(member)

    def add(self, member: Member) -> None:
        """A member passes."""
        key = hash(member.name) & _MASK
        at = bisect_left(self._before, key)
        if at < len(self._before) and self._before[at] == key:
            return
        self._told.append(key)
        self._tell(line(member))


class Collected:
    """All members of what was copied, for the end; each takes half a kilobyte of memory."""

    def __init__(self) -> None:
        self._members: dict[bytes, Member] = {}

    def restart(self) -> None:
        """Another copy begins."""
        self._members.clear()

    def begin(self, staged: Iterable[Member]) -> None:
        """An attempt begins, with these files there already: all others pass again."""
        self._members = {member.name: member for member in staged}

    def add(self, member: Member) -> None:
        """A member passes."""
        self._members[member.name] = member

    def items(self) -> list[dict[str, object]]:
        """Return what the document says of them, in the order in which they passed."""
        return [item(member) for member in self._members.values()]
