"""Faults that know what a copy says: its nonce, its trailer, its chunks, its acknowledgement.

What goes in: the bytes of a session of a copy, as :mod:`tests.loopback.faults` hands them over.
What comes out: sessions that end at the worst moment, and lines that only a liar would write.
Inject a :class:`Lie` with ``command=lie.meant``, which reads the nonce from the command line.
Each object is for one session.
"""

# ruff: noqa: ARG002 - a hook has all parameters of its interface, needed or not

from __future__ import annotations

import re
from collections.abc import Sequence

from kubectl_podcp.remote.scripts import CHUNK_BLOCK
from tests.loopback.faults import Control, Ending, Fault

_NONCE = re.compile(r"\bnonce=([0-9a-f]{32})\b")
OTHER_NONCE = b"0123456789abcdef" * 2


class Lie(Fault):
    """A fault that knows the nonce of the session that it is meant for.

    :ivar line: what each line of that session's shell begins with.
    """

    line: bytes

    def meant(self, command: Sequence[str]) -> bool:
        """Return whether this is a session of a copy, for :meth:`Server.inject`."""
        found = _NONCE.search(" ".join(command))
        self.line = b"\npodcp-%b " % found[1].encode() if found else b""
        return found is not None


class FalseTrailer(Lie):
    """After ``after`` bytes of stdout comes a trailer that says that all is well, and no more."""

    def __init__(self, after: int, code: bytes = b"0", instead: bytes = b"") -> None:
        self._left = after
        self._last = instead
        self._code = code
        self._done = False

    def stdout(self, session: Control, data: bytes) -> bytes:
        if self._done:
            return b""
        passed = data[: self._left]
        self._left -= len(passed)
        if self._left:
            return passed
        self._done = True
        return passed + self._last + self.line + self._code + b"\n"


class FalseAcknowledgement(Lie):
    """After ``after`` bytes of stdin the client is told what nobody knows yet.

    The process gets no more: who says this has ended.
    """

    def __init__(self, after: int, claim: bytes = b"0 1 0") -> None:
        self._left = after
        self._claim = claim

    def stdin(self, session: Control, data: bytes) -> bytes:
        was_due = self._left <= 0
        self._left -= len(data)
        if self._left <= 0 and not was_due:
            session.send_stdout(self.line + self._claim + b"\n")
            session.close_stdin()
        return data


class NoLastWord(Lie):
    """The session ends in front of its last word: the trailer, or the acknowledgement."""

    def __init__(self, ending: Ending = Ending.SUCCESS) -> None:
        self._held = b""
        self._ending = ending
        self._ended = False

    def stdout(self, session: Control, data: bytes) -> bytes:
        if self._ended:
            return b""
        held = self._held + data
        if found := re.search(re.escape(self.line) + rb"\d", held):
            self._ended = True
            session.send_stdout(held[: found.start()])
            session.end(self._ending)
            return b""
        border = max(0, len(held) - len(self.line))
        self._held = held[border:]
        # "ready" is no last word, and nothing comes behind it that would push it out of here.
        if self._held.endswith(b"\n"):
            border, self._held = len(held), b""
        return held[:border]


class CutArchive(Fault):
    """The destination's tar sees the end of its input after ``after`` bytes of the archive.

    Where the archive comes in chunks (v4), what they are wrapped in is not counted. The client
    gets no status but Success.
    """

    def __init__(self, after: int) -> None:
        self._left = after
        self._chunked: bool | None = None
        self._chunk = 0

    def stdin(self, session: Control, data: bytes) -> bytes:
        if self._chunked is None:  # the first message says which of the two it is
            self._chunked = data == b"chunked\n"
            return data
        if self._chunked and not self._chunk:  # the line with the chunk's length
            self._chunk = int(data) * CHUNK_BLOCK
            return data
        self._chunk -= len(data)
        passed = data[: self._left]
        self._left -= len(passed)
        if self._left:
            return passed
        session.write_stdin(passed)
        session.close_stdin()
        session.end(Ending.SUCCESS)
        return b""


class CutConnection(Fault):
    """The session ends for the client after ``after`` bytes of stdin; nobody harms the process."""

    def __init__(self, after: int, ending: Ending) -> None:
        self._left = after
        self._ending = ending

    def stdin(self, session: Control, data: bytes) -> bytes:
        was_due = self._left <= 0
        self._left -= len(data)
        if self._left <= 0 and not was_due:
            session.end(self._ending)
        return data


class OtherAcknowledgement(Lie):
    """The acknowledgement carries another nonce, as if it were of another copy."""

    def stdout(self, session: Control, data: bytes) -> bytes:
        # The shell writes its line at once, and no more than 46 bytes: a pipe keeps it together.
        of_another = b"\npodcp-" + OTHER_NONCE + b" "
        return re.sub(re.escape(self.line) + rb"(?=\d)", of_another, data)
