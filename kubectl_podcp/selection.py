"""What of a source is wanted, where that is not all of it.

In: patterns of what is left out, and names of what alone is wanted. Out: whether a member of the
source's archive, or a name of its listing, is wanted. What stands here is asked of each member as
it passes, so it means the same whatever the source's tar can do. No I/O. Raises
:class:`~kubectl_podcp.errors.UsageError` for a name that cannot be in the source.

Members' names begin with the source's own, which is always wanted; patterns and names are seen from
there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from kubectl_podcp.errors import UsageError, printable
from kubectl_podcp.ignore import Patterns, Prune

LONGEST = 4096
"""Bytes of a name; Linux takes no longer path (PATH_MAX)."""

Words = tuple[str | bytes, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted.

    :ivar only: names that alone are wanted, with all that is in them; None: all that there is.
    :ivar above: the directories above them.
    """

    patterns: Patterns
    only: frozenset[bytes] | None = None
    above: frozenset[bytes] = frozenset()

    @property
    def is_all(self) -> bool:
        """Whether nothing was said."""
        return self.only is None and not self.patterns

    @property
    def prunes(self) -> list[Prune]:
        """What the source need not look at."""
        return self.patterns.prunes

    def wants(self, name: bytes, *, is_directory: bool) -> bool:
        """Whether a member is wanted."""
        path = name.partition(b"/")[2]
        if not path:
            return True
        if self.patterns.leave_out(path, is_directory=is_directory):
            return False
        return self.only is None or (is_directory and path in self.above) or self._is_named(path)

    def _is_named(self, path: bytes) -> bool:
        assert self.only is not None
        while path not in self.only:
            path = path.rpartition(b"/")[0]
            if not path:
                return False
        return True


@functools.lru_cache(maxsize=4)
def selection(exclude: Words, only: Words | None) -> Selection:
    """Return what is wanted where ``exclude`` are patterns, as :mod:`ignore` has them, and ``only``
    are names.

    :raises UsageError: a name is absolute, or leads out of the source.
    """
    patterns = Patterns(map(_bytes, exclude))
    if only is None:
        return Selection(patterns)
    names = frozenset(map(_relative, map(_bytes, only)))
    if b"" in names:
        return Selection(patterns)
    return Selection(patterns, names, frozenset(_above(names)))


def _bytes(word: str | bytes) -> bytes:
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")


def _relative(name: bytes) -> bytes:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if name.startswith(b"/") or b".." in parts:
        raise UsageError(
            f"'{printable(name)}' in --files-from does not stand in the source",
            advice="names are relative to SOURCE, and without '..'",
        )
    if not name or b"\0" in name or len(name) > LONGEST:
        said = printable(name[:100])
        raise UsageError(f"'{said}' in --files-from is no name of a file", advice="see --null")
    return b"/".join(parts)


def _above(names: Iterable[bytes]) -> set[bytes]:
    """Return the directories above ``names``, the source itself not among them."""
    found = set[bytes]()
    for name in names:
        parent = name.rpartition(b"/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition(b"/")[0]
    return found


class Unseen:
    """Names that are wanted by name, until they were seen at the source."""

    def __init__(self, wanted: Selection) -> None:
        patterns = wanted.patterns
        self._names = {
            name
            for name in wanted.only or ()
            if not any(patterns.leave_out(name, is_directory=kind) for kind in (False, True))
        }

    def note(self, name: bytes) -> None:
        """Take note of a member, or of a name in a listing."""
        self._names.discard(name.partition(b"/")[2])

    def lines(self) -> str:
        """Return a line for each name that was not seen."""
        return "".join(
            f"{printable(name)}: there is no such name in the source\n"
            for name in sorted(self._names)
        )
