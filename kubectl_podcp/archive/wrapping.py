"""An archive of anybody's, whose members have any names: put below one name of ours.

In: members as their headers describe them, in the archive's order. Out: members under ``top``, for
the rules of safety.py, and the directories that must be there before them. No I/O.

An archive need not name the directories above its files. Where tar makes them by itself, they get
the mode that its umask leaves, which is none here.
"""

from __future__ import annotations

from dataclasses import replace

from kubectl_podcp.archive.headers import DIRECTORY, HARD_LINK, Member
from kubectl_podcp.archive.safety import MAX_REMEMBERED, Refused

_MODE = 0o755
_SET_ENTRY = 80  # what a short bytes object and its place in a set take beside the text


class Wrapping:
    """Puts names under ``top``, and remembers which directories are there.

    :param mtime: of directories that the archive does not name.
    """

    def __init__(self, top: bytes, mtime: int) -> None:
        self._top = top
        self._mtime = mtime
        self._there: set[bytes] = set()
        self._room = MAX_REMEMBERED
        self._last = b""  # the directory that was last found to be there

    def wrapped(self, member: Member) -> Member:
        """Return ``member`` under ``top``; an absolute name stays one, and is refused as such."""
        linkname = member.linkname
        if member.type == HARD_LINK:
            linkname = self._below(linkname)
        return replace(member, name=self._below(member.name), linkname=linkname)

    def missing(self, member: Member) -> list[Member]:
        """Return the directories above ``member``, which was admitted, that are not there yet."""
        parent = member.name.rpartition(b"/")[0]
        found = []
        if parent and parent != self._last:
            found = [self._directory(each) for each in _upwards(parent) if self._is_new(each)]
            self._last = parent
        if member.type == DIRECTORY:
            self._is_new(member.name)
        return found

    def missing_top(self) -> list[Member]:
        """Return ``top``, where the archive had nothing."""
        return [self._directory(self._top)] if self._is_new(self._top) else []

    def _below(self, name: bytes) -> bytes:
        if name.startswith(b"/"):
            return name
        while name.startswith(b"./"):
            name = name[2:]
        return self._top if name in (b"", b".") else self._top + b"/" + name

    def _directory(self, name: bytes) -> Member:
        return Member(name, DIRECTORY, 0, _MODE, 0, 0, self._mtime)

    def _is_new(self, name: bytes) -> bool:
        if name in self._there:
            return False
        self._room -= len(name) + _SET_ENTRY
        if self._room < 0:
            raise Refused(name, "the archive has more directories than can be remembered")
        self._there.add(name)
        return True


def _upwards(path: bytes) -> list[bytes]:
    """Return ``path`` and the directories above it, the uppermost first."""
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(1, len(parts) + 1)]
