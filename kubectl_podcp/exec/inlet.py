"""This process's stdin, listened to as if a command in a container wrote it.

In: a descriptor. Out: :class:`Inlet`, whose events are those of
:mod:`kubectl_podcp.exec.channels`. Raises :class:`~kubectl_podcp.errors.SourceFailed` and
:class:`~kubectl_podcp.exec.stream.Aborted` after :meth:`Inlet.close`. One thread may receive; any
may close.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from kubectl_podcp.errors import SourceFailed
from kubectl_podcp.exec.channels import NORMAL_CLOSURE, Closed, Event, Protocol, Status, Stdout
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.lease import Lease

IDLE_AFTER = 30.0
"""Seconds for which nothing comes, after which :attr:`Inlet.on_idle` is called, again and again."""

_READ = 32 * 1024


class Inlet:
    """See the module.

    :param ending: is said when stdin has ended, as a message of its own.
    :ivar protocol: as that of a command on this machine.
    :ivar stall_timeout: nothing is sent, so nothing can stall.
    :ivar on_idle: keeps alive what else waits for stdin.
    """

    protocol = Protocol.V5

    def __init__(self, descriptor: int, *, ending: bytes) -> None:
        self.stall_timeout: float | None = None
        self.on_idle: Callable[[], None] = lambda: None
        self._descriptor = descriptor
        self._ending: bytes | None = ending
        self._status: Status | None = Status(True, "", "", 0)
        self._lease = Lease("stdin")
        self._poller = select.poll()
        for each in (descriptor, self._lease.waker):
            self._poller.register(each, select.POLLIN)

    @property
    def buffered(self) -> bool:
        """Whether :meth:`receive` would give an event at once."""
        return self._ending is not None and bool(self._poller.poll(0))

    def receive(self, timeout: float | None = None) -> Event | Closed:  # noqa: ARG002
        """Return the next event; :class:`Closed` at the end, again and again.

        :param timeout: is not kept: whoever writes our stdin may take its time.
        :raises SourceFailed: it cannot be read.
        :raises Aborted: after :meth:`close`.
        """
        with self._lease.use():
            if self._ending is not None:
                return self._read()
            status, self._status = self._status, None
            return status or Closed(NORMAL_CLOSURE, "")

    def send_stdin(self, *messages: bytes) -> None:
        """Nobody is there who would hear it."""

    def end_stdin(self) -> None:
        """Nobody is there who would hear it."""

    def ping(self) -> None:
        """Nothing is between us and the writer that could take it for idle."""

    def close(self) -> None:
        """Give it up; whoever waits raises :class:`Aborted`. Idempotent; from any thread."""
        self._lease.close()

    def _read(self) -> Stdout:
        self._wait()
        try:
            data = os.read(self._descriptor, _READ)
        except OSError as error:
            raise SourceFailed(f"standard input cannot be read: {error.strerror}") from None
        if not data:
            assert self._ending is not None
            data, self._ending = self._ending, None
        return Stdout(data)

    def _wait(self) -> None:
        while True:
            try:
                self._lease.ready(self._poller, Deadline(IDLE_AFTER))
            except TimeoutError:
                self.on_idle()
            else:
                return
