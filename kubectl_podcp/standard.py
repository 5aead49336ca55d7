"""Ends of a copy that are no place: this process's stdin and stdout.

Out: :class:`Stdin` and :class:`Stdout`, to which the other end's archive, or contents, go as to a
shell. No script runs there, and nothing is left there. Raises
:class:`~kubectl_podcp.errors.UsageError` where there is no such stream.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from kubectl_podcp.ends import LocalEnd
from kubectl_podcp.errors import UsageError

if TYPE_CHECKING:  # imported where they are used: they are what start-up takes its time for
    from kubectl_podcp.ends import Session
    from kubectl_podcp.exec.inlet import Inlet
    from kubectl_podcp.exec.outlet import Outlet, Written


@dataclass(frozen=True, slots=True)
class _Stream(LocalEnd):
    """What both have."""

    identity = b"-"

    def run(
        self,
        script: str,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
        most: int | None = None,  # noqa: ARG002
        *,
        stdin: bytes = b"",  # noqa: ARG002
    ) -> bytes:
        """Say nothing: nothing is staged here, or left."""
        return b""

    ask = run


@dataclass(frozen=True, slots=True)
class Stdin(_Stream):
    """What comes on stdin."""

    descriptor: int = 0

    def __str__(self) -> str:
        return "stdin"

    def spoken(self, session: Session) -> str:  # noqa: ARG002
        return "stdin"

    def inlet(self, ending: bytes) -> Inlet:
        """Return a session that gives what comes, and ``ending`` behind it."""
        from kubectl_podcp.exec.inlet import Inlet

        return Inlet(self.descriptor, ending=ending)

    @classmethod
    def ours(cls) -> Stdin:
        """Return this process's.

        :raises UsageError: it is closed.
        """
        if _is_closed(sys.stdin):
            raise UsageError("standard input is closed", advice="pipe something into it")
        return cls()


def _written() -> Written:
    from kubectl_podcp.exec.outlet import Written

    return Written(1)


@dataclass(frozen=True, slots=True)
class Stdout(_Stream):
    """What is written to stdout, in all tries."""

    written: Written = field(default_factory=_written)

    def __str__(self) -> str:
        return "stdout"

    def spoken(self, session: Session) -> str:  # noqa: ARG002
        return "stdout"

    def outlet(self, nonce: str) -> Outlet:
        """Return a session that says what a destination's shell would say in a copy."""
        from kubectl_podcp.exec.outlet import Outlet

        return Outlet(
            self.written,
            ready=f"\npodcp-{nonce} ready\n".encode(),
            acknowledgement=f"\npodcp-{nonce} 0 1 0\n".encode(),
        )

    @property
    def left(self) -> str:
        """What a copy that failed has left, as a sentence."""
        size = self.written.size
        if not size:
            return "nothing was written to standard output"
        return f"{size:,} bytes were written to standard output, and that is not all"

    @classmethod
    def ours(cls) -> Stdout:
        """Return this process's.

        :raises UsageError: it is closed, or a terminal.
        """
        if _is_closed(sys.stdout):
            raise UsageError("standard output is closed", advice="redirect it to a file or a pipe")
        if os.isatty(1):
            raise UsageError(
                "standard output is a terminal, which is no place for what is copied",
                advice="redirect it: to a file with '>', or into a command with '|'",
            )
        return cls()


def _is_closed(stream: TextIO | None) -> bool:
    return stream is None or stream.closed
