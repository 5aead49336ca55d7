"""Descriptors that several threads use, given up by any of them.

In: what frees them. Out: :class:`Lease`: whoever works with them does so inside of
:meth:`Lease.use`, and waits in a poll that has :attr:`Lease.waker` too. Raises :class:`Aborted`
after :meth:`Lease.close`.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.stream import Aborted


class Lease:
    """See the module.

    :param free: called once, by whoever leaves last after :meth:`close`.
    :ivar waker: readable since :meth:`close`: the byte in this pipe is never read, so that it wakes
        every poll that there is or will be.
    """

    def __init__(self, what: str, free: Callable[[], None] = lambda: None) -> None:
        self.waker, self._alarm = os.pipe()
        self._what = what
        self._free = free
        # Guarded by the lock.
        self._lock = threading.Lock()
        self._closing = False
        self._users = 0  # threads at work with the descriptors, which must not be closed then
        self._gone = False

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep the descriptors open meanwhile."""
        with self._lock:
            self._check()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
            self._go()

    def close(self) -> None:
        """Wake whoever waits, and free everything when all have left. Idempotent; any thread."""
        with self._lock:
            if not self._closing:
                self._closing = True
                os.write(self._alarm, b"\0")
        self._go()

    def ready(self, poller: select.poll, deadline: Deadline) -> list[int]:
        """Wait until something can be done; return the descriptors with which it can.

        :param poller: has :attr:`waker`.
        :raises TimeoutError: nothing can be done in time.
        """
        ready = poller.poll(deadline.milliseconds())
        self._check()
        if not ready:
            raise TimeoutError("timed out")
        return [descriptor for descriptor, _ in ready]

    def _check(self) -> None:
        if self._closing:
            raise Aborted(f"{self._what} was given up by this side")

    def _go(self) -> None:
        """Free everything, where that is due and nobody is at work with it."""
        with self._lock:
            if not self._closing or self._users or self._gone:
                return
            self._gone = True
        os.close(self.waker)
        os.close(self._alarm)
        self._free()
