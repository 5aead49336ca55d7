"""How an archive is handed to the destination's stdin.

In go messages of the archive, each at most :data:`MESSAGE` bytes; out come messages for stdin, in
order, each at most that long. The very first is ``first``, which tells the destination's shell
(:func:`kubectl_podcp.remote.scripts.receive`) which of the two it is. No I/O, raises nothing.
Called by the sender's thread alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_podcp.remote.scripts import CHUNK

MESSAGE = 32 * 1024
"""Bytes in one message. The API server cuts longer ones to this, and for us they cost double."""


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

    A chunk is a line with its length in decimal, then that many bytes; ``0`` is the end. It is
    sent once it is whole, so that a source that dies never leaves half of one behind.
    """

    first = b"chunked\n"

    def __init__(self, chunk: int = CHUNK) -> None:
        self._chunk = chunk
        self._messages: list[bytes] = []
        self._size = 0

    def data(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Return the messages that may go now that ``messages`` came."""
        self._messages += messages
        self._size += sum(map(len, messages))
        return self._flush() if self._size >= self._chunk else ()

    def end(self) -> Sequence[bytes]:
        """Return the messages that are left at the end of the archive."""
        return [*(self._flush() if self._size else ()), b"0\n"]

    def _flush(self) -> list[bytes]:
        chunk = [b"%d\n" % self._size, *self._messages]
        self._messages.clear()
        self._size = 0
        return chunk


Feed = PlainFeed | ChunkedFeed
