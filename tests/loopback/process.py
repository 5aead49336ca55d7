"""A process of a Pod and its three pipes.

What goes in: a command line of :mod:`tests.loopback.isolation`. What comes out: a running
:class:`Process`. Its pipes are the kernel's own and nothing is queued in front of them, so a
process that reads slowly slows down whoever writes to it. Raises nothing of its own.

One thread reads stdout, one stderr, one writes stdin; any thread may close stdin or kill.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

_PIPE = subprocess.PIPE


class Process:
    """A process that was started in a Pod, with all that it started itself."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> None:
        """Start it. A stream that is not wanted is /dev/null, as in a container runtime."""
        self._process = subprocess.Popen(
            command,
            stdin=_PIPE if stdin else subprocess.DEVNULL,
            stdout=_PIPE if stdout else subprocess.DEVNULL,
            stderr=_PIPE if stderr else subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            umask=0o022,
            start_new_session=True,  # its process group is the whole family
        )
        self.stdin = StdinPipe(self._process.stdin)
        self.stdout: IO[bytes] | None = self._process.stdout
        self.stderr: IO[bytes] | None = self._process.stderr

    def wait(self) -> int:
        """Wait for the end; return the exit code, or 128 plus the signal that killed it."""
        code = self._process.wait()
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        """Kill the process and its family. Nothing happens when it has ended."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Give the pipes back, after :meth:`wait`."""
        self.stdin.close()
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()


class StdinPipe:
    """The writing end of a process's stdin; closing it wakes a writer that the process blocks."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe = pipe
        self._closed = pipe is None
        self._writing = threading.Lock()
        self._wake, self._waker = socket.socketpair()
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)

    def write(self, data: bytes) -> None:
        """Write all of `data`, however slowly the process reads.

        :raises BrokenPipeError: the process reads no more, or stdin was closed.
        """
        view = memoryview(data)
        with self._writing:
            while view:
                if self._closed or self._pipe is None:
                    raise BrokenPipeError("stdin is closed")
                try:
                    view = view[os.write(self._pipe.fileno(), view) :]
                except BlockingIOError:
                    self._wait(self._pipe)

    def close(self) -> None:
        """Let the process see the end of its stdin. May be called twice, by any thread."""
        self._closed = True
        with suppress(OSError):
            self._waker.send(b"!")
        with self._writing:
            if self._pipe is not None:
                self._pipe.close()
            self._wake.close()
            self._waker.close()

    def _wait(self, pipe: IO[bytes]) -> None:
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        poll.register(self._wake, select.POLLIN)
        poll.poll()
