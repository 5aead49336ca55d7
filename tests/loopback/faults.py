"""Faults: what can go wrong with an exec session, to be injected by a test.

What goes in: the bytes of a session as they pass. What comes out: the bytes that shall pass
instead, and orders to the session (:class:`Control`): close the process's stdin, kill it, end
the session this way or that. Inject one with :meth:`tests.loopback.server.Server.inject`::

    server.inject(pod="gnu-0", fault=CutStdout(after=20_480), command=runs("tar cf"))

A fault object belongs to the sessions that it was injected into, and keeps count over all of
them: make a new one for each test. `stdout` is called by the thread that reads the process's
stdout, `stdin` and `end_of_stdin` by the thread that reads the connection; the two sides of one
object share nothing unless they say so.
"""

# ruff: noqa: ARG002 - a hook has all parameters of its interface, needed or not

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from tests.loopback import statuses
from tests.loopback.statuses import Status
from tests.loopback.web import Response


class Ending(Enum):
    """The ways in which a session can end on the client's side of the server."""

    SUCCESS = auto()
    """A Success status on channel 3, close 1000, the end of the connection."""
    STATUS_ONLY = auto()
    """A Success status on channel 3 and the end of the connection, without a close frame."""
    CLOSE_ONLY = auto()
    """Close 1000 and the end of the connection, without a status."""
    FIN = auto()
    """The end of the TCP connection alone, as when an API server is killed."""
    RESET = auto()
    """A TCP reset, which throws away what is on its way."""
    STALL = auto()
    """Nothing any more: the connection stays open, and nobody reads or writes it."""


class Control(Protocol):
    """What a fault can order a session to do. Each may be called by any thread."""

    def send_stdout(self, data: bytes) -> None:
        """Send bytes to the client as the process's stdout."""

    def say(self, channel: int, data: bytes) -> None:
        """Send the client a message, whatever the channel, and however long."""

    def ping(self, payload: bytes) -> None:
        """Send the client a ping."""

    def write_stdin(self, data: bytes) -> None:
        """Write bytes to the process's stdin."""

    def close_stdin(self) -> None:
        """Let the process see the end of its stdin; what the client still sends is dropped."""

    def kill(self) -> None:
        """Kill the process and its children with SIGKILL."""

    def end(self, ending: Ending) -> None:
        """End the session now. The process goes on, but the client hears nothing more of it."""


class Fault:
    """The fault that does nothing; the others override what they need."""

    def answer(self) -> Response | None:
        """Return what the client is answered instead of getting its session."""
        return None

    def begin(self, session: Control) -> None:
        """A session begins; its process runs."""

    def stdout(self, session: Control, data: bytes) -> bytes:
        """Return what the client gets in place of `data`, which the process wrote."""
        return data

    def end_of_stdout(self, session: Control) -> bytes:
        """Return what the client still gets now that the process's stdout has ended."""
        return b""

    def stdin(self, session: Control, data: bytes) -> bytes:
        """Return what the process gets in place of `data`, which the client sent."""
        return data

    def end_of_stdin(self, session: Control) -> bytes:
        """Return what the process still gets now that the client has ended stdin (v5)."""
        return b""

    def status(self, session: Control, status: Status) -> Status:
        """Return the status that the client gets in place of the true one."""
        return status

    def unread_stdin(self, session: Control) -> None:
        """The client sends on, but the process reads no more: it, or its stdin, has ended."""


def runs(text: str) -> Callable[[Sequence[str]], bool]:
    """Return a predicate for :meth:`Server.inject`: the command line contains `text`."""
    return lambda command: text in " ".join(command)


class _Allowance:
    """Bytes that may pass before something happens."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, data: bytes) -> bytes:
        """Return the part of `data` that may pass."""
        passed = data[: self._left]
        self._left -= len(passed)
        return passed

    @property
    def spent(self) -> bool:
        """Whether the last byte has been taken."""
        return self._left == 0


class CutStdout(Fault):
    """The client gets the first `after` bytes of stdout, then the session ends as told.

    Where `after` is a border between two members of an archive, this is the cut that no tar
    notices. The process stays, blocked, unless it is to be killed.
    """

    def __init__(self, after: int, ending: Ending = Ending.SUCCESS, *, kill: bool = False) -> None:
        self._allowance = _Allowance(after)
        self._ending = ending
        self._kill = kill

    def stdout(self, session: Control, data: bytes) -> bytes:
        passed = self._allowance.take(data)
        if not self._allowance.spent:
            return passed
        session.send_stdout(passed)
        session.end(self._ending)
        if self._kill:
            session.kill()
        return b""


class CutStdin(Fault):
    """The process gets the first `after` bytes of stdin, then sees its end.

    The client is told nothing until the process ends: then its true status, or Success.
    """

    def __init__(self, after: int, *, success: bool = False) -> None:
        self._allowance = _Allowance(after)
        self._success = success

    def stdin(self, session: Control, data: bytes) -> bytes:
        passed = self._allowance.take(data)
        if not self._allowance.spent:
            return passed
        session.write_stdin(passed)
        session.close_stdin()
        return b""

    def status(self, session: Control, status: Status) -> Status:
        return statuses.success() if self._success else status


class EndEarly(Fault):
    """The process is killed, and the session may be ended, after `after` bytes of stdin.

    Without an `ending` the client gets the true status: exit code 137.
    """

    def __init__(self, after: int, ending: Ending | None = None) -> None:
        self._allowance = _Allowance(after)
        self._ending = ending

    def stdin(self, session: Control, data: bytes) -> bytes:
        passed = self._allowance.take(data)
        if not self._allowance.spent:
            return passed
        session.write_stdin(passed)
        if self._ending is not None:
            session.end(self._ending)
        session.kill()
        return b""


class EndAll(Fault):
    """All sessions end as told, once `after` bytes of stdout have passed in all of them.

    Injected into both sides of a copy with :attr:`Ending.SUCCESS`, it is a kubelet that dies:
    both clients read Success, while the process at the source stays.
    """

    def __init__(self, after: int, ending: Ending = Ending.SUCCESS) -> None:
        self._allowance = _Allowance(after)
        self._ending = ending
        self._lock = threading.Lock()  # guards all but the ending
        self._sessions: list[Control] = []

    def begin(self, session: Control) -> None:
        with self._lock:
            self._sessions.append(session)

    def stdout(self, session: Control, data: bytes) -> bytes:
        with self._lock:
            passed = self._allowance.take(data)
            if not self._allowance.spent:
                return passed
            sessions = list(self._sessions)
        session.send_stdout(passed)
        for each in sessions:
            each.end(self._ending)
        return b""


class FalseStatus(Fault):
    """The client is told Success, whatever the process's exit code."""

    def status(self, session: Control, status: Status) -> Status:
        return statuses.success()


class HangOnEarlyExit(Fault):
    """A process that ends while the client still sends leaves the session hanging.

    Real servers do this most of the time. Neither a status nor an end comes, and what the
    client sends is not read.
    """

    def unread_stdin(self, session: Control) -> None:
        session.end(Ending.STALL)


class Refuse(Fault):
    """The session is not opened: this is answered instead."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def answer(self) -> Response:
        return self._response


class PingFlood(Fault):
    """With each message of stdout come as many pings as told."""

    def __init__(self, pings: int) -> None:
        self._pings = pings

    def stdout(self, session: Control, data: bytes) -> bytes:
        for number in range(self._pings):
            session.ping(b"ping %d" % number)
        return data


class Stray(Fault):
    """In front of the first message of stdout comes one that nobody asked for."""

    def __init__(self, channel: int, data: bytes) -> None:
        self._message: tuple[int, bytes] | None = (channel, data)

    def stdout(self, session: Control, data: bytes) -> bytes:
        message, self._message = self._message, None
        if message is not None:
            session.say(*message)
        return data


class RewriteStdout(Fault):
    """What matches a pattern in stdout is replaced, also where it stands across messages.

    :param pattern: a pattern over bytes.
    :param replacement: as for :func:`re.sub`.
    :param opening: the literal bytes with which each match begins.
    :param longest: bytes of the longest match; so much may be held back behind an opening.
    """

    def __init__(
        self, pattern: bytes, replacement: bytes, *, opening: bytes, longest: int = 512
    ) -> None:
        self._rewriter = _Rewriter(pattern, replacement, opening, longest)

    def stdout(self, session: Control, data: bytes) -> bytes:
        return self._rewriter.feed(data)

    def end_of_stdout(self, session: Control) -> bytes:
        return self._rewriter.finish()


class RewriteStdin(Fault):
    """What matches a pattern in stdin is replaced, also where it stands across messages.

    The parameters are those of :class:`RewriteStdout`.
    """

    def __init__(
        self, pattern: bytes, replacement: bytes, *, opening: bytes, longest: int = 512
    ) -> None:
        self._rewriter = _Rewriter(pattern, replacement, opening, longest)

    def stdin(self, session: Control, data: bytes) -> bytes:
        return self._rewriter.feed(data)

    def end_of_stdin(self, session: Control) -> bytes:
        return self._rewriter.finish()


_WORD = rb"podcp-[0-9a-f]{32}"
_LINE = rb"\npodcp-[0-9a-f]{32} [^\n]*\n"
_MARKER = rb"\.podcp-[0-9a-f]{32}\0[\s\S]{472}"
"""The header block of the marker member: a name of 39 bytes, its NUL, the rest of 512 bytes."""


def no_trailer() -> Fault:
    """Return a fault that drops each line with a nonce: the trailer, or the acknowledgement."""
    return RewriteStdout(_LINE, b"\n", opening=b"\npodcp-")


def wrong_nonce() -> Fault:
    """Return a fault that puts another nonce into each line that has one."""
    return RewriteStdout(rb"\n" + _WORD, b"\npodcp-" + b"0123456789abcdef" * 2, opening=b"\npodcp-")


def no_marker() -> Fault:
    """Return a fault that takes the marker member out of the archive on its way to tar (v5).

    On v4, where the length of a chunk precedes it, use :func:`other_marker`.
    """
    return RewriteStdin(_MARKER, b"", opening=b".podcp-")


def other_marker() -> Fault:
    """Return a fault that gives the marker member another name of the same length and sum."""
    return RewriteStdin(
        rb"\.podcp-([0-9a-f]{16})([0-9a-f]{16})(\0[\s\S]{472})",
        rb".podcp-\2\1\3",
        opening=b".podcp-",
    )


class _Rewriter:
    """Replaces what matches in a stream that comes in pieces."""

    def __init__(self, pattern: bytes, replacement: bytes, opening: bytes, longest: int) -> None:
        self._pattern = re.compile(pattern)
        self._replacement = replacement
        self._opening = opening
        self._longest = longest
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may pass; the beginning of a possible match is held back."""
        held = self._held + data
        passed = []
        position = 0
        for match in self._pattern.finditer(held):
            passed += [held[position : match.start()], match.expand(self._replacement)]
            position = match.end()
        rest = held[position:]
        border = self._possible_match(rest)
        self._held = rest[border:]
        return b"".join([*passed, rest[:border]])

    def finish(self) -> bytes:
        """Return what was held back to the end."""
        held, self._held = self._held, b""
        return held

    def _possible_match(self, data: bytes) -> int:
        """Return where a match may begin that ends in bytes still to come."""
        whole = data.find(self._opening, max(0, len(data) - self._longest + 1))
        if whole >= 0:
            return whole
        for size in range(min(len(self._opening), len(data) + 1) - 1, 0, -1):
            if data.endswith(self._opening[:size]):
                return len(data) - size
        return len(data)
