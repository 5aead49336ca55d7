"""Which names an archive has had, and of what kind each was.

In: names, and a small number for the kind. Out: the kind that a name had before. No I/O; one thread
at a time.

What is kept of a name is a hash of 61 bits, of which nobody outside this process knows the key: two
of ten million names are taken for one in one of 40,000 such copies, and then the copy is refused.
"""

from __future__ import annotations

from array import array

MOST = 1 << 23
"""Names that are told apart. The table takes 12 to 24 bytes for each, 128 MiB in all, and half as
much again while it grows."""

_KIND = 7
_DIGEST = 2**64 - 1 - _KIND
_FIRST = 1024


class Seen:
    """The names of one archive: a table with open addressing. A dict takes ten times as much."""

    def __init__(self) -> None:
        self._slots = array("Q", [0]) * _FIRST  # a hash and a kind; 0: nothing
        self._count = 0

    @property
    def is_full(self) -> bool:
        """Whether there are more than can be told apart."""
        return self._count > MOST

    def note(self, name: bytes, kind: int) -> int:
        """Remember that ``name`` is of ``kind`` (1 to 7) from now on; return what it was before, 0
        where it is new."""
        digest = hash(name) & _DIGEST
        at = self._place(digest)
        before = self._slots[at] & _KIND
        self._slots[at] = digest | kind
        if not before:
            self._count += 1
            if 3 * self._count > 2 * len(self._slots):
                self._grow()
        return before

    def _place(self, digest: int) -> int:
        """Return where a hash is, or where it belongs."""
        slots = self._slots
        mask = len(slots) - 1
        at = digest // (_KIND + 1) & mask
        while (found := slots[at]) and found & _DIGEST != digest:
            at = at + 1 & mask
        return at

    def _grow(self) -> None:
        before, self._slots = self._slots, array("Q", [0]) * (2 * len(self._slots))
        for each in before:
            if each:
                self._slots[self._place(each & _DIGEST)] = each
