"""How an archive is handed to the destination's stdin.

In go pieces of the archive, each at most :data:`MESSAGE` bytes; out come messages for stdin, in
order, each at most that long. The very first is ``first``, which tells the destination's shell
(:func:`kubectl_podcp.remote.scripts.receive`) which of the two it is. No I/O, raises nothing.
Called by the sender's thread alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubectl_podcp.remote.scripts import CHUNK

MESSAGE = 32 * 1024
"""Bytes in one message. The API server cuts longer ones to this, and for us they cost double."""


class PlainFeed:
    """The archive as it is: where stdin can be ended (v5), or tar ends with the archive."""

    first = b"plain\n"

    def data(self, piece: bytes) -> Iterator[bytes]:
        """Return the messages that may go now that ``piece`` came."""
        yield piece

    def end(self) -> Iterator[bytes]:
        """Return the messages that are left at the end of the archive."""
        return iter(())


class ChunkedFeed:
    """The archive in chunks, where stdin cannot be ended (v4).

    A chunk is a line with its length in decimal, then that many bytes; ``0`` is the end. It is
    sent once it is whole, so that a source that dies never leaves half of one behind.
    """

    first = b"chunked\n"

    def __init__(self, chunk: int = CHUNK) -> None:
        self._chunk = chunk
        self._pieces: list[bytes] = []
        self._size = 0

    def data(self, piece: bytes) -> Iterator[bytes]:
        """Return the messages that may go now that ``piece`` came."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= self._chunk:
            yield from self._flush()

    def end(self) -> Iterator[bytes]:
        """Return the messages that are left at the end of the archive."""
        if self._size:
            yield from self._flush()
        yield b"0\n"

    def _flush(self) -> Iterator[bytes]:
        yield b"%d\n" % self._size
        yield from self._pieces
        self._pieces.clear()
        self._size = 0


Feed = PlainFeed | ChunkedFeed
