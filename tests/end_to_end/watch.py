"""Which exec sessions a test made the product open: the embedded cluster remembers.

What goes in: the embedded cluster, or none where another one is tested. What comes out: a
:class:`Watch`. Nothing is changed by watching. Used by the test's thread and the server's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.loopback.faults import Fault
from tests.loopback.server import Server

_PODS = [f"{name}-{number}" for name in ("gnu", "busybox", "bsdtar", "toybox") for number in (0, 1)]
_OTHERS = ["notar-0", "noshell-0", "user-0", "done-0", "pending-0"]


class Watch:
    """The command lines of the sessions that were opened; none where nobody can watch."""

    def __init__(self, server: Server | None) -> None:
        self.commands: list[str] = []
        for pod in _PODS + _OTHERS if server is not None else ():
            assert server is not None
            server.inject(pod, Fault(), command=self._see)

    @property
    def copies(self) -> list[str]:
        """Those that send or receive an archive; a mere look does not create anything, nor does
        asking what a wildcard stands for."""
        return [
            command
            for command in self.commands
            if "nonce=" in command and "\nliteral=" not in command
        ]

    def _see(self, command: Sequence[str]) -> bool:
        self.commands.append(" ".join(command))
        return False  # nothing is done to it, and other faults have their turn


@contextmanager
def watching(server: Server | None) -> Iterator[Watch]:
    """Watch until the block is left."""
    try:
        yield Watch(server)
    finally:
        if server is not None:
            server.clear_faults()
