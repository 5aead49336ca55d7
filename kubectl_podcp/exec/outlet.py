"""This process's stdout, spoken to as if a command in a container stood behind it.

In: the bytes that are to be written. Out: :class:`Outlet`, whose events are what the destination's
shell would say. Raises :class:`~kubectl_podcp.errors.DestinationFailed`,
:class:`~kubectl_podcp.errors.Interrupted` where nobody reads any more, and
:class:`~kubectl_podcp.exec.stream.Aborted` after :meth:`Outlet.close`. One thread may receive
while another sends; any may close.

What was written cannot be taken back. So another try begins at the first byte again, and here the
bytes that were written before are left out, once they were found to be the same.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import stat
from hashlib import sha256

from kubectl_podcp.errors import DestinationFailed, Interrupted, SourceFailed
from kubectl_podcp.exec.channels import NORMAL_CLOSURE, Closed, Event, Protocol, Status, Stdout
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.lease import Lease
from kubectl_podcp.exec.stream import Aborted

_WHOLE = 1 << 20


class Written:
    """What was written to a descriptor, in all tries of one copy. The sender's.

    :ivar size: bytes.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = 0
        self._digest = sha256()
        # A pipe that has room for anything has room for so much, so that a write never blocks,
        # which nobody could wake. O_NONBLOCK would be set for whoever else has this pipe, too.
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._most = _WHOLE if regular else select.PIPE_BUF

    def write(self, data: memoryview) -> int:
        """Write some of ``data``, where there is room; return how much."""
        count = os.write(self.descriptor, data[: self._most])
        self._digest.update(data[:count])
        self.size += count
        return count

    def settle(self) -> None:
        """Close it, but for whoever else has it open: some file systems (NFS) tell then alone that
        there is no room."""
        os.close(os.dup(self.descriptor))

    def is_begun_by(self, digest: bytes) -> bool:
        """Whether this is the digest of what was written."""
        return self._digest.digest() == digest


class Outlet:
    """One try; see the module.

    :param ready: what is said on stdout at the beginning.
    :param acknowledgement: and when all was written.
    :ivar protocol: v5, for its stdin can be ended.
    :ivar stall_timeout: seconds for which the reader may take nothing; None: no limit.
    """

    protocol = Protocol.V5

    def __init__(self, written: Written, *, ready: bytes, acknowledgement: bytes) -> None:
        self.stall_timeout: float | None = None
        self._acknowledgement = acknowledgement
        self._events: queue.SimpleQueue[Event | Closed | None] = queue.SimpleQueue()
        self._events.put(Stdout(ready))
        # The sender's.
        self._written = written
        self._again = written.size  # bytes that were written before, and are still to come again
        self._seen = sha256()  # of those that came again
        self._lease = Lease("stdout")
        self._poller = select.poll()
        self._poller.register(self._lease.waker, select.POLLIN)
        self._poller.register(written.descriptor, select.POLLOUT)

    @property
    def buffered(self) -> bool:
        """Whether :meth:`receive` would give an event at once."""
        return not self._events.empty()

    def receive(self, timeout: float | None = None) -> Event | Closed:
        """Return the next event.

        :param timeout: seconds to wait; ``None`` until something comes or :meth:`close`.
        :raises TimeoutError: nothing came.
        :raises Aborted: after :meth:`close`.
        """
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("timed out") from None
        if event is None:
            self._events.put(None)
            raise Aborted("stdout was given up by this side")
        return event

    def send_stdin(self, *messages: bytes) -> None:
        """Write; blocks while nobody reads.

        :raises SourceFailed: this is not what was written before.
        :raises DestinationFailed: it cannot be written.
        :raises Interrupted: its reader has gone.
        :raises Aborted: after :meth:`close`.
        """
        with self._lease.use():
            for message in messages:
                self._write(memoryview(self._new(message)))

    def end_stdin(self) -> None:
        """Acknowledge: all was written.

        :raises SourceFailed: this is less than what was written before.
        :raises DestinationFailed: the file system has not taken it.
        """
        if self._again:
            raise self._changed()
        try:
            self._written.settle()
        except OSError as error:
            raise _unwritable(error) from None
        self._events.put(Stdout(self._acknowledgement))
        self._events.put(Status(True, "", "", 0))
        self._events.put(Closed(NORMAL_CLOSURE, ""))

    def ping(self) -> None:
        """Nothing is between us and the reader that could take it for idle."""

    def close(self) -> None:
        """Give it up; whoever waits raises :class:`Aborted`. Idempotent; from any thread."""
        self._lease.close()
        self._events.put(None)

    def _new(self, message: bytes) -> bytes:
        """Return what of ``message`` was not written before."""
        if not self._again:
            return message
        old, new = message[: self._again], message[self._again :]
        self._seen.update(old)
        self._again -= len(old)
        if not self._again and not self._written.is_begun_by(self._seen.digest()):
            raise self._changed()
        return new

    def _changed(self) -> SourceFailed:
        return SourceFailed(
            f"the source has changed: it does not begin any more with the {self._written.size:,} "
            "bytes that were written before"
        )

    def _write(self, left: memoryview) -> None:
        while left:
            self._wait()
            try:
                left = left[self._written.write(left) :]
            except BlockingIOError:  # somebody else made it so, and it has room for less
                continue
            except BrokenPipeError:
                raise Interrupted(signal.SIGPIPE) from None
            except OSError as error:
                raise _unwritable(error) from None

    def _wait(self) -> None:
        try:
            self._lease.ready(self._poller, Deadline(self.stall_timeout))
        except TimeoutError:
            raise DestinationFailed(
                f"nothing was read from our stdout for {self.stall_timeout:g} s",
                advice="--stall-timeout 0 waits for ever",
            ) from None


def _unwritable(error: OSError) -> DestinationFailed:
    return DestinationFailed(f"standard output cannot be written: {error.strerror}")
