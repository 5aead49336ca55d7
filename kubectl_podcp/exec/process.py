"""A command on this machine, spoken to as if it ran in a container.

In: a command. Out: :class:`ProcessSession`, whose events are those of
:mod:`kubectl_podcp.exec.channels`; :func:`run` for a small one. Raises
:class:`~kubectl_podcp.errors.ConnectionLost`, :class:`~kubectl_podcp.errors.ExecFailed`,
:class:`~kubectl_podcp.exec.stream.Aborted` after :meth:`ProcessSession.close`, and
``TimeoutError``. One thread may receive while another sends; any may close.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from kubectl_podcp.errors import ConnectionLost, ExecFailed
from kubectl_podcp.exec.channels import (
    NON_ZERO_EXIT_CODE,
    NORMAL_CLOSURE,
    Closed,
    Event,
    Protocol,
    Status,
    Stderr,
    Stdout,
)
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.lease import Lease

MAX_OUTPUT = 1024 * 1024
"""Usual limit of :func:`run`'s output, in bytes, as in a container."""

_READ = 32 * 1024
_PIPE = 1024 * 1024
"""Bytes that a pipe should hold. Linux gives 64 KiB, which costs a context switch each."""

_END_WITHIN = 5.0
"""Seconds in which a command must end once its pipes are closed; then it is killed."""

_SIGNALLED = 128  # a shell's exit code for a command that a signal ended, less the signal's number


class ProcessSession:
    """One command on this machine, in a session and process group of its own.

    Ctrl-C at the terminal does not reach it: like a command in a container, it learns by the end
    of its stdin that we are gone.

    :param command: the program and its arguments.
    :ivar protocol: v5, for its stdin can be ended.
    :ivar stall_timeout: seconds for which :meth:`send_stdin` may get rid of nothing; None: no
        limit.
    :raises ExecFailed: it cannot be started.
    """

    protocol = Protocol.V5

    def __init__(self, command: Sequence[str]) -> None:
        self.stall_timeout: float | None = None
        self._process = _start(command)
        self._stdin, stdout, stderr = _pipes(self._process)
        self._lease = Lease("the command", self._free)
        # The reader's: what of the output has not ended yet.
        self._outputs: dict[int, type[Stdout | Stderr]] = {
            stdout.fileno(): Stdout,
            stderr.fileno(): Stderr,
        }
        self._reader = _poller(select.POLLIN, self._lease.waker, *self._outputs)
        self._closed: Closed | None = None
        # The sender's.
        self._writer = _poller(select.POLLOUT, self._stdin.fileno())
        self._writer.register(self._lease.waker, select.POLLIN)

    @property
    def buffered(self) -> bool:
        """Whether :meth:`receive` would give an event at once. The reader's."""
        return bool(self._outputs) and bool(self._reader.poll(0))

    def receive(self, timeout: float | None = None) -> Event | Closed:
        """Return the next event; :class:`Closed` at the end, again and again.

        :param timeout: seconds to wait; ``None`` until something comes or :meth:`close`.
        :raises TimeoutError: nothing came.
        :raises Aborted: after :meth:`close`.
        """
        deadline = Deadline(timeout)
        with self._lease.use():
            while self._outputs:
                if (event := self._read(self._lease.ready(self._reader, deadline))) is not None:
                    return event
            if self._closed is None:
                status = self._status(deadline)
                self._closed = Closed(NORMAL_CLOSURE, "")
                return status
            return self._closed

    def send_stdin(self, *messages: bytes) -> None:
        """Write to the command's stdin; blocks while it does not read.

        :raises ConnectionLost: it reads no more, or took nothing for :attr:`stall_timeout`.
        :raises Aborted: after :meth:`close`.
        """
        left = memoryview(b"".join(messages))
        with self._lease.use():
            while left:
                self._wait_for_room()
                try:
                    left = left[os.write(self._stdin.fileno(), left) :]
                except BlockingIOError:  # room for less than a page
                    continue
                except BrokenPipeError:
                    raise ConnectionLost("a command on this machine reads no more") from None

    def end_stdin(self) -> None:
        """End the command's stdin; nothing can be sent any more."""
        with self._lease.use():
            self._stdin.close()

    def ping(self) -> None:
        """Nothing is between us and the command that could take the session for idle."""

    def close(self) -> None:
        """Give the session up: end the command's stdin, and take no more of its output.

        Idempotent; from any thread. Whoever waits in :meth:`receive` or :meth:`send_stdin` raises
        :class:`Aborted`. The last one to leave waits until the command has ended; one that does
        not is killed.
        """
        self._lease.close()

    def _free(self) -> None:
        for pipe in _pipes(self._process):
            with suppress(OSError):
                pipe.close()
        _end(self._process)

    def _read(self, ready: list[int]) -> Event | None:
        """Return what the first of the descriptors gives; None at its end."""
        descriptor = ready[0]
        data = os.read(descriptor, _READ)
        if data:
            return self._outputs[descriptor](data)
        self._reader.unregister(descriptor)
        del self._outputs[descriptor]
        return None

    def _status(self, deadline: Deadline) -> Status:
        try:
            code = self._process.wait(deadline.remaining())
        except subprocess.TimeoutExpired:
            raise TimeoutError("timed out") from None
        if code < 0:
            code = _SIGNALLED - code
        return Status(code == 0, NON_ZERO_EXIT_CODE if code else "", "", code)

    def _wait_for_room(self) -> None:
        try:
            self._lease.ready(self._writer, Deadline(self.stall_timeout))
        except TimeoutError:
            raise ConnectionLost(
                f"a command on this machine took nothing for {self.stall_timeout:g} s"
            ) from None


def run(
    command: Sequence[str], timeout: float, *, stdin: bytes = b"", most: int
) -> tuple[int, bytes, bytes]:
    """Run a small command to its end; return its exit code, stdout and stderr.

    :param timeout: seconds; a command that takes longer is given up.
    :param stdin: at most 64 KiB, which a pipe holds.
    :param most: longest output that is taken, in bytes; stdout and stderr each.
    :raises ExecFailed: it cannot be started, takes longer, or says more.
    """
    deadline = Deadline(timeout)
    output = {Stdout: bytearray(), Stderr: bytearray()}
    session = ProcessSession(command)
    try:
        with suppress(ConnectionLost):  # it need not read
            session.send_stdin(stdin)
        session.end_stdin()
        while not isinstance(event := session.receive(deadline.remaining()), Status):
            if isinstance(event, Stdout | Stderr):
                output[type(event)] += event.data
                if len(output[type(event)]) > most:
                    raise ExecFailed(f"{command[0]} on this machine says more than {most} bytes")
        return event.exit_code or 0, bytes(output[Stdout]), bytes(output[Stderr])
    except TimeoutError:
        raise ExecFailed(f"{command[0]} on this machine did not end within {timeout:g} s") from None
    finally:
        session.close()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    # macOS's tar would add a file to each that has extended attributes.
    environment = {**os.environ, "COPYFILE_DISABLE": "1"}
    try:
        return subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise ExecFailed(f"{command[0]} cannot be run on this machine: {error.strerror}") from error


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin and process.stdout and process.stderr
    return process.stdin, process.stdout, process.stderr


def _poller(event: int, *descriptors: int) -> select.poll:
    """Return a poller of pipes, which it makes non-blocking, and long where the system allows."""
    poller = select.poll()
    for descriptor in descriptors:
        os.set_blocking(descriptor, False)
        with suppress(AttributeError, OSError):  # not Linux, or the user has too many
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE)
        poller.register(descriptor, event)
    return poller


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait until a command has ended; kill it and its children if it does not."""
    try:
        process.wait(_END_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
