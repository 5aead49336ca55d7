"""The rest of a file, raw, in front of an archive: made a member of it.

In: the source's stdout, which begins with a known number of bytes of one file. Out: what a
:class:`~kubectl_podcp.archive.follower.Follower` gives for the archive in which that file is the
first member. No I/O; one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubectl_podcp.archive.follower import Event, Follower
from kubectl_podcp.archive.headers import ZERO_BLOCK, Member, encode, padded


class Splice:
    """Stands in front of ``follower``.

    :param rest: the member that the raw bytes are the body of.
    :param alone: whether no archive follows them.
    """

    def __init__(self, follower: Follower, rest: Member, *, alone: bool) -> None:
        self._follower = follower
        self._header = encode(rest)
        self._left = rest.size
        self._after = b"\0" * (padded(rest.size) - rest.size) + ZERO_BLOCK * (2 if alone else 0)

    def feed(self, data: bytes) -> Iterator[bytes | Event]:
        """Take the next message; see :meth:`Follower.feed`."""
        if self._header:
            header, self._header = self._header, b""
            yield from self._follower.feed(header)
        if self._left:
            raw, data = data[: self._left], data[self._left :]
            self._left -= len(raw)
            yield from self._follower.feed(raw)
            if self._left:
                return
            if self._after:
                yield from self._follower.feed(self._after)
        if data:
            yield from self._follower.feed(data)
