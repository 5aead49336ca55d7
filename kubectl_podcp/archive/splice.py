"""The rest of a file, raw, in front of an archive: made a member of it.

In: the source's stdout, which begins with a known number of bytes of one file, and a line that says
what became of that file meanwhile. Out: what a
:class:`~kubectl_podcp.archive.follower.Follower` gives for the archive in which that file is the
first member. No I/O; one thread at a time. Raises
:class:`~kubectl_podcp.errors.IncompleteArchive`.

The line ends the file: where it does not stand behind the last byte the file has shrunk, and what
was taken for its end is the beginning of the archive. Where no archive follows, less may come in
all than was announced: then the source's trailer says so, behind which the source waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kubectl_podcp.archive.follower import TRAILER_MAX, Event, Follower, trailer_form
from kubectl_podcp.archive.headers import ZERO_BLOCK, Member, encode, padded
from kubectl_podcp.errors import IncompleteArchive, printable


class Splice:
    """Stands in front of ``follower``.

    :param rest: the member that the raw bytes are the body of.
    :param size: of the whole file.
    :param alone: whether no archive follows them.
    :ivar changed: whether the file was not as it had been listed any more when its rest was read.
    """

    def __init__(
        self, follower: Follower, rest: Member, *, nonce: str, size: int, alone: bool
    ) -> None:
        self.changed = False
        self._follower = follower
        self._rest = rest
        self._listed = size, rest.mtime
        self._header = encode(rest)
        self._left = rest.size
        self._line = b"\npodcp-%b rest " % nonce.encode("ascii")
        self._said = b""
        self._missing = len(self._line) + 42  # bytes of the line, of which all have one length
        self._trailer_form = trailer_form(nonce)
        self._tail = b""  # of all that came
        self._after = b"\0" * (padded(rest.size) - rest.size) + ZERO_BLOCK * (2 if alone else 0)

    def feed(self, data: bytes) -> Iterator[bytes | Event]:
        """Take the next message; see :meth:`Follower.feed`.

        :raises IncompleteArchive: the file has shrunk.
        """
        self._tail = (self._tail + data[-TRAILER_MAX:])[-TRAILER_MAX:]
        yield from self._take(data)
        if self._missing and self._trailer_form.search(self._tail):
            raise self._shorter()

    def _take(self, data: bytes) -> Iterator[bytes | Event]:
        if self._header:
            header, self._header = self._header, b""
            yield from self._follower.feed(header)
        if self._left:
            raw, data = data[: self._left], data[self._left :]
            self._left -= len(raw)
            yield from self._follower.feed(raw)
        if data and self._missing:
            said, data = data[: self._missing], data[self._missing :]
            self._missing -= len(said)
            self._said += said
            if self._missing:
                return
            self._hear()
            if self._after:
                yield from self._follower.feed(self._after)
        if data:
            yield from self._follower.feed(data)

    def _hear(self) -> None:
        """Compare what the source says of the file with what it said before."""
        told = re.fullmatch(re.escape(self._line) + rb" *(-?\d*) +(-?\d*)\n", self._said)
        if told is None:
            raise self._shorter()
        self.changed = told.groups() != tuple(b"%d" % each for each in self._listed)

    def _shorter(self) -> IncompleteArchive:
        return IncompleteArchive(
            f"'{printable(self._rest.name)}' became shorter while it was copied"
        )
