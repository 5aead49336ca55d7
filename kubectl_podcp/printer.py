"""Lines to a stream from a thread that must not be held up for ever: a stop wakes it.

In: text. Out: the same on a file, a pipe or a terminal, some of it together. Whoever reads a pipe
may do so slowly, or not at all, and a write that is blocked in the system hears of nothing: so it
waits in ``poll`` for the stream and for the stop, and writes only what does not block. Raises
``OSError`` where the stream cannot be written.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import TextIO

AT_ONCE = select.PIPE_BUF
"""Bytes for which a pipe has room where ``poll`` says that it has some."""


class Printer:
    """One thread writes, any other one may stop it.

    :param stream: must have a descriptor.
    :raises OSError: it has none.
    """

    def __init__(self, stream: TextIO) -> None:
        stream.flush()
        self._number = stream.fileno()
        self._encoding = stream.encoding or "utf-8"
        self._at_once = stream.isatty()
        self._waiting = bytearray()
        self._alarm, self._waker = os.pipe()
        self._stopped = False
        self._poll = select.poll()
        self._poll.register(self._number, select.POLLOUT)
        self._poll.register(self._alarm, select.POLLIN)

    def close(self) -> None:
        """Write what still waits."""
        try:
            self.flush()
        finally:
            self._stopped = True
            os.close(self._waker)
            os.close(self._alarm)

    def line(self, text: str) -> None:
        """Write a line, now or with those behind it."""
        self._waiting += f"{text}\n".encode(self._encoding, "backslashreplace")
        if self._at_once or len(self._waiting) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits; once it was stopped, drop what there is no room for."""
        waiting, self._waiting = memoryview(bytes(self._waiting)), bytearray()
        while waiting:
            was_stopped = self._stopped
            ready = dict(self._poll.poll(0 if was_stopped else None))
            if self._number in ready:
                waiting = waiting[os.write(self._number, waiting[:AT_ONCE]) :]
            elif was_stopped:
                return

    def stop(self) -> None:
        """Wake the thread that writes, and let it wait no more; a signal's handler may do so."""
        if not self._stopped:
            self._stopped = True
            with suppress(OSError):  # it has just been closed
                os.write(self._waker, b"x")
