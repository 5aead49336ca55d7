"""How an archive is handed to the destination's stdin.

In go messages of the archive, each at most :data:`MESSAGE` bytes; out come messages for stdin, in
order, each at most that long. The very first is ``first``, which tells the destination's shell
(:func:`kubectl_podcp.remote.scripts.receive`) which of the two it is. No I/O, raises nothing.
Called by the sender's thread alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from kubectl_podcp.remote.scripts import CHUNK_BLOCK

MESSAGE = 32 * 1024
"""Bytes in one message. The API server cuts longer ones to this, and for us they cost double."""

MOST_BLOCKS = 64
"""Blocks in the longest chunk: 4 MiB."""

EXACT_CHUNK = 1024 * 1024
"""Bytes in the longest chunk of a file. ``dd`` holds it in memory."""

_ZEROS = bytes(MESSAGE)


class Feed(Protocol):
    """What each way of handing over is."""

    @property
    def first(self) -> bytes: ...
    def data(self, messages: Sequence[bytes]) -> Sequence[bytes]: ...
    def end(self) -> Sequence[bytes]: ...


class Encoder(Protocol):
    """Compresses a stream."""

    def encode(self, data: bytes) -> bytes:
        """Take ``data``, and return what is ready; that may be nothing."""

    def end(self) -> bytes:
        """Return the rest."""


class PlainFeed:
    """The archive as it is: where stdin can be ended (v5), or tar ends with the archive."""

    first = b"plain\n"

    def data(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Return the messages that may go now that ``messages`` came."""
        return messages

    def end(self) -> Sequence[bytes]:
        """Return the messages that are left at the end of the archive."""
        return ()


class ChunkedFeed:
    """The archive in chunks, where stdin cannot be ended (v4).

    A chunk is a line with its length in blocks of 64 KiB, in decimal, then those; ``0`` is the end.
    Its length is said before the archive's is known, so the last one is filled up with zeros,
    which every tar ignores behind the end. Each chunk is twice as long as the one before, up to
    ``most``: short archives need few zeros, and long ones few processes, for each chunk costs one.

    :param most: the longest chunk, in blocks.
    """

    first = b"chunked\n"

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self._most = most
        self._blocks = 1  # in the next chunk
        self._left = 0  # bytes that are missing in this one

    @classmethod
    def at_most(cls, size: float) -> ChunkedFeed:
        """Return a feed with chunks of ``size`` bytes at the most: zeros take their time, too."""
        return cls(max(1, min(MOST_BLOCKS, int(size / CHUNK_BLOCK))))

    def data(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Return the messages that may go now that ``messages`` came."""
        out: list[bytes] = []
        for message in messages:
            while len(message) > self._left:
                if self._left:
                    out.append(message[: self._left])
                    message = message[self._left :]
                out.append(self._begin())
            out.append(message)
            self._left -= len(message)
        return out

    def end(self) -> Sequence[bytes]:
        """Return the messages that are left at the end of the archive."""
        whole, rest = divmod(self._left, MESSAGE)
        zeros = [_ZEROS] * whole + [_ZEROS[:rest]] * (rest > 0)
        return [*zeros, b"0\n"]

    def _begin(self) -> bytes:
        """Begin a chunk; return its line."""
        line = b"%d\n" % self._blocks
        self._left = self._blocks * CHUNK_BLOCK
        self._blocks = min(2 * self._blocks, self._most)
        return line


class BareFeed(PlainFeed):
    """Nothing but the bytes themselves: where no shell reads a first line."""

    first = b""


class ExactFeed:
    """One file in chunks, where stdin cannot be ended (v4): no byte more than there are.

    A chunk is a line with its length in bytes, in decimal, then those; ``0`` is the end. One that
    is not full yet waits here for more.

    :param most: the longest chunk, in bytes.
    """

    first = b"chunked\n"

    def __init__(self, most: int = EXACT_CHUNK) -> None:
        self._most = most
        self._waiting: list[bytes] = []
        self._size = 0

    @classmethod
    def at_most(cls, size: float) -> ExactFeed:
        """Return a feed with chunks of ``size`` bytes at the most, or of a message."""
        return cls(max(MESSAGE, min(EXACT_CHUNK, int(size))))

    def data(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Return the messages that may go now that ``messages`` came."""
        out: list[bytes] = []
        for message in messages:
            if self._size + len(message) > self._most:
                out += self._chunk()
            self._waiting.append(message)
            self._size += len(message)
        return out

    def end(self) -> Sequence[bytes]:
        """Return the messages that are left at the end."""
        return [*self._chunk(), b"0\n"]

    def _chunk(self) -> list[bytes]:
        chunk = [b"%d\n" % self._size, *self._waiting] if self._size else []
        self._waiting, self._size = [], 0
        return chunk


class CompressedFeed:
    """The archive compressed, in another feed: not one that fills up with zeros."""

    def __init__(self, feed: PlainFeed | ExactFeed, encoder: Encoder) -> None:
        self._feed = feed
        self._encoder = encoder

    @property
    def first(self) -> bytes:
        """As of the other feed."""
        return self._feed.first

    def data(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Return the messages that may go now that ``messages`` came."""
        return self._feed.data(_cut(map(self._encoder.encode, messages)))

    def end(self) -> Sequence[bytes]:
        """Return the messages that are left at the end."""
        return [*self._feed.data(_cut([self._encoder.end()])), *self._feed.end()]


def _cut(pieces: Iterable[bytes]) -> list[bytes]:
    """Return ``pieces`` as messages, none of which is empty."""
    return [piece[at : at + MESSAGE] for piece in pieces for at in range(0, len(piece), MESSAGE)]
