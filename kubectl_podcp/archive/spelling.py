"""Names that a file system may take for one: they differ in case, or in how Unicode composes them.

In go names as members have them; out comes the first that would take another's place. No I/O. One
thread takes note; any may say that nobody needs to know any more.

Where a directory knows no case (macOS as it is delivered, SMB volumes, vfat), tar puts the second
of two such files in the place of the first, and ends with 0: nothing but their names tells that
one was lost.
"""

from __future__ import annotations

import unicodedata

MOST = 1 << 20
"""Names that are remembered, some 150 bytes each; more cannot be told apart."""


class Spellings:
    """The names of one archive.

    :ivar clash: the first name that is another one's, spelled otherwise.
    :ivar is_full: whether there are more than can be told apart.
    """

    def __init__(self) -> None:
        self.clash: bytes | None = None
        self.is_full = False
        self._parent = b""
        self._seen: dict[int, int] | None = {}  # of what all spellings have in common, to the one

    @property
    def are_told_apart(self) -> bool:
        """Whether no two names are known, or may be, to be one."""
        return self.clash is None and not self.is_full

    def note(self, name: bytes) -> None:
        """Take the name of another member; the same one may come again. The directories that it
        names count as well, for tar makes them."""
        seen = self._seen
        if seen is None or not self.are_told_apart:
            return
        last, self._parent = self._parent, name.rpartition(b"/")[0]
        each = name
        while each and each != last:
            spelled = hash(each)
            if seen.setdefault(hash(_folded(each)), spelled) != spelled:
                self.clash = each
            each = each.rpartition(b"/")[0]
        self.is_full = len(seen) > MOST

    def forget(self) -> None:
        """Nobody needs to know any more."""
        self._seen = None


def _folded(name: bytes) -> bytes:
    """Return what all spellings of a name have in common."""
    if name.isascii():
        return name.lower()
    text = unicodedata.normalize("NFD", name.decode("utf-8", "surrogateescape")).casefold()
    return unicodedata.normalize("NFD", text).encode("utf-8", "surrogateescape")
