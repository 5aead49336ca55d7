"""An archive as it passes: which bytes of a message go on, and which are still undecided.

In: messages, one at a time. Out: the pieces of them that are to go on, in order. No I/O.
One thread at a time; the caller is the follower.

The bytes of a message fall into four stretches, from left to right::

    | handed on or dropped | kept, to be handed on | undecided | not read yet |
    0                    _start                  _mark       _at        len(message)

Kept bytes are handed on as late as possible: a message of which nothing is dropped leaves as the
very object that came. Undecided bytes (a header of which a part is missing) outlive their
message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

PIECE = 32 * 1024
"""The longest piece that is made here: the longest message to a destination's stdin."""

_ZEROS = bytes(PIECE)


def zeros(count: int) -> Iterator[bytes]:
    """Yield ``count`` zero bytes, in pieces of one shared constant: a hole costs no memory."""
    while count > PIECE:
        yield _ZEROS
        count -= PIECE
    if count:
        yield _ZEROS[:count]


class Tape:
    """The message at hand, and what was undecided at the end of those before it.

    :ivar passing: is shown, not copied, what :meth:`keep_next` lets go on; None where nobody looks.
    """

    __slots__ = ("_at", "_before", "_early", "_mark", "_message", "_start", "passing")

    def __init__(self) -> None:
        self.passing: Callable[[bytes | memoryview], object] | None = None
        self._message = b""
        self._start = self._mark = self._at = 0
        self._early: list[bytes] = []  # undecided bytes of earlier messages; then _start == 0
        self._before = 0

    @property
    def offset(self) -> int:
        """How many bytes were read, of all messages."""
        return self._before + self._at

    @property
    def left(self) -> int:
        """How many bytes of this message were not read yet."""
        return len(self._message) - self._at

    def load(self, message: bytes) -> None:
        """Put the next message in; the one before must have been turned over."""
        if self._message:
            raise AssertionError("the message before was not read to its end")
        self._message = message

    def turn(self) -> bytes:
        """Take the message out, read to its end; return what of it is kept."""
        message, mark = self._message, self._mark
        kept = message[self._start : mark]  # of a message kept whole, this is the message itself
        if mark < len(message):
            self._early.append(message[mark:])
        self._before += len(message)
        self._message = b""
        self._start = self._mark = self._at = 0
        return kept

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes (at most :attr:`left`), undecided for now."""
        start = self._at
        self._at += size
        return self._message[start : self._at]

    def held(self) -> bytes:
        """Return all undecided bytes."""
        held = self._message[self._mark : self._at]
        return b"".join((*self._early, held)) if self._early else held

    def keep(self) -> Iterable[bytes]:
        """Let the undecided bytes go on; return those of earlier messages, to hand on at once."""
        self._mark = self._at
        early = self._early
        if early:
            self._early = []
        return early

    def replace(self, new: bytes = b"") -> Iterator[bytes]:
        """Drop the undecided bytes; yield what was kept before them, then ``new``."""
        yield from self.cut()
        self._start = self._mark = self._at
        self._early = []
        for start in range(0, len(new), PIECE):
            yield new[start : start + PIECE]

    def cut(self) -> Iterator[bytes]:
        """Yield what is kept, so that something can be put in behind it."""
        if self._start < self._mark:
            yield self._message[self._start : self._mark]
            self._start = self._mark

    def keep_next(self, size: int) -> None:
        """Read ``size`` bytes (at most :attr:`left`) and let them go on; none is undecided."""
        if self.passing is not None:
            self.passing(memoryview(self._message)[self._at : self._at + size])
        self._at += size
        self._mark = self._at
