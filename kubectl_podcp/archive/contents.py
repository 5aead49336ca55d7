"""One file's contents: out of an archive of that file alone, or as they are.

In: what a :class:`~kubectl_podcp.archive.follower.Follower` gives, or messages. Out: pieces of the
contents, and events. No I/O; one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256

from kubectl_podcp.archive.follower import EndOfArchive, Event, Hashed, Trailer
from kubectl_podcp.archive.headers import REGULAR, Member, encode
from kubectl_podcp.errors import IncompleteArchive, SourceFailed

_MODE = 0o644


class Contents:
    """Takes one file out of its archive. Header and padding do not go on."""

    def __init__(self) -> None:
        self._header = 0  # bytes of it that are still to come
        self._body = 0
        self._begun = False

    def only(self, items: Iterable[object]) -> Iterator[object]:
        """Return what goes on of ``items``: pieces of the file, and all events.

        :raises SourceFailed: it is no file, or not one alone.
        """
        for item in items:
            if isinstance(item, Member):
                self._begin(item)
            if not isinstance(item, bytes):
                yield item
            elif piece := self._cut(item):
                yield piece

    def _begin(self, member: Member) -> None:
        if self._begun or member.type != REGULAR:
            raise SourceFailed("the source is no file any more")
        self._begun = True
        self._header, self._body = len(encode(member)), member.size

    def _cut(self, piece: bytes) -> bytes:
        start = min(self._header, len(piece))
        self._header -= start
        piece = piece[start : start + self._body]
        self._body -= len(piece)
        return piece


class Raw:
    """Takes a file as it comes; an empty message says that it has come to its end.

    :param name: under which the digest of its contents is told.
    """

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._size = 0
        self._digest = sha256()
        self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes | Event]:
        """Take the next message; yield it, or at the end events about the whole file."""
        if data:
            self._size += len(data)
            self._digest.update(data)
            yield data
            return
        self._ended = True
        member = Member(self._name, REGULAR, self._size, _MODE, 0, 0, 0)
        yield member
        yield Hashed(member, self._digest.digest())
        yield EndOfArchive()
        yield Trailer(0)

    def end_of_input(self) -> None:
        """Say that nothing comes any more.

        :raises IncompleteArchive: the end has not come.
        """
        if not self._ended:
            raise IncompleteArchive("standard input was given up before its end")
