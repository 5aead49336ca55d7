"""One exec session: a process of a Pod on one side, a client's connection on the other.

What goes in: an admitted :class:`ExecRequest` and its :class:`Transport`. :meth:`ExecSession.run`
returns when nothing more is to be read from the client; the session itself lasts until its
process has ended. Raises nothing: what goes wrong is told to the client as a Status.

Four threads take part::

    reader    (the connection's own)   client ──channel 0──▶ process's stdin
    2 pumps                            process's stdout, stderr ──channels 1, 2──▶ client
    finisher                           waits for pumps and process, sends the status, ends

None of them queues anything: each hands one message on before it takes the next, so a slow
process slows down its client through TCP, and a slow client its process through the pipe.

The habits of real servers, see k8s.io/apimachinery/pkg/util/httpstream/wsstream and
k8s.io/apiserver/pkg/util/proxy/translatinghandler.go:

- First comes an empty message on the lowest output channel that was asked for.
- Messages carry at most 32 KiB of output. The status follows the last of them, then close 1000,
  then at once the end of the connection, whether the client has read all that or not.
- ``FF 00`` ends stdin on v5; anything longer or shorter on that channel drops the connection.
  On v4 nothing ends stdin. Messages on unknown channels are dropped.
- When the client is gone, stdin ends, but nobody closes the process's output: a tar that is
  blocked in a write stays so. It is killed when the container is stopped, and not before.
- stdin is closed as soon as stdout or stderr comes to its end (containerd#13934).

In one thing we are kinder, unless :class:`tests.loopback.faults.HangOnEarlyExit` is injected:
when a process ends before its stdin does, the client gets the status, where real servers mostly
hang.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Protocol

from tests.loopback import statuses
from tests.loopback.connection import Connection
from tests.loopback.faults import Ending, Fault
from tests.loopback.pods import Container, NotStarted
from tests.loopback.process import Process
from tests.loopback.statuses import Status

STDIN, STDOUT, STDERR, STATUS = range(4)
CLOSE = 255

_OUTPUT_SIZE = 32 * 1024
_LINGER = 0.5
"""Seconds for which a client that still sends may do so after the end; see Connection.finish."""


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """What a client asks for: a command in a container, and which of its streams."""

    container: Container
    command: tuple[str, ...]
    protocol: str
    stdin: bool
    stdout: bool
    stderr: bool
    stdin_can_end: bool
    """Whether ``FF 00`` means anything: on v5, and where SPDY carries the session."""

    @property
    def channels(self) -> frozenset[int]:
        """The channels that the session has."""
        wanted = {STDIN: self.stdin, STDOUT: self.stdout, STDERR: self.stderr, STATUS: True}
        return frozenset(channel for channel, is_wanted in wanted.items() if is_wanted)


class Transport(Protocol):
    """What carries a session: a WebSocket, or the streams of SPDY."""

    connection: Connection

    def messages(self) -> Iterator[bytes]:
        """Yield the client's messages until it is gone."""

    def send(self, message: bytes) -> None:
        """Send one message, or raise ConnectionError."""

    def send_ping(self, payload: bytes) -> None:
        """Ask for a sign of life, or raise ConnectionError."""

    def send_close(self) -> None:
        """Say goodbye, or raise ConnectionError."""


class ExecSession:
    """A session from its first message to the end of its process."""

    def __init__(self, request: ExecRequest, transport: Transport, fault: Fault) -> None:
        self.request = request
        self._transport = transport
        self._fault = fault
        self._process: Process | None = None
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()  # a thread can be waited for once it was started
        self._sending = threading.Lock()  # one message at a time, and none after the last
        self._over = False  # the client hears nothing more; set once
        self._running = True
        self._stalled = False
        self._stopped = threading.Event()
        self._client_sends = request.stdin

    def run(self) -> None:
        """Run the session for as long as its client is there. For the connection's thread."""
        try:
            if self._greet() and self._start():
                self._read_client()
        finally:
            self.close_stdin()
            self._running = False

    def stop(self) -> None:
        """Cut the client off, kill the process, and wait until the session's threads end."""
        self._over = True
        self._stopped.set()
        self._transport.connection.abort()
        self.kill()
        with self._starting:
            threads = self._threads
        for thread in threads:
            thread.join()

    @property
    def ended(self) -> bool:
        """Whether it has run, its process and threads have ended, and nobody waits for a stop.

        One that has not begun yet has no threads either: who forgets it can never stop it.
        """
        at_work = self._running or any(thread.is_alive() for thread in self._threads)
        return not self._stalled and not at_work

    # What a fault can order: the interface is faults.Control.

    def send_stdout(self, data: bytes) -> None:
        """Send bytes to the client as the process's stdout."""
        with suppress(ConnectionError):
            if data:
                self._send(STDOUT, data)

    def say(self, channel: int, data: bytes) -> None:
        """Send a message, whatever the channel, and however long."""
        with suppress(ConnectionError):
            self._send(channel, data)

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        with self._sending, suppress(ConnectionError):
            self._transport.send_ping(payload)

    def write_stdin(self, data: bytes) -> None:
        """Write bytes to the process's stdin; they are dropped where it reads no more."""
        if self._process is None or not data:
            return
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            self._fault.unread_stdin(self)

    def close_stdin(self) -> None:
        """Let the process see the end of its stdin."""
        if self._process is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """Kill the process and its children with SIGKILL."""
        if self._process is not None:
            self._process.kill()

    def end(self, ending: Ending) -> None:
        """End the session for the client; its process goes on."""
        if ending is Ending.SUCCESS:
            self._finish(statuses.success(), close=True)
        elif ending is Ending.STATUS_ONLY:
            self._finish(statuses.success(), close=False)
        elif ending is Ending.CLOSE_ONLY:
            self._finish(None, close=True)
        else:
            self._break_off(ending)

    # The reader.

    def _greet(self) -> bool:
        """Send the empty message that comes first; return whether the client is still there."""
        try:
            self._send(min(self.request.channels - {STDIN}), b"")
        except ConnectionError:
            return False
        return True

    def _start(self) -> bool:
        """Start the process and its threads; return whether there is one."""
        request = self.request
        try:
            process = request.container.run(
                request.command, stdin=request.stdin, stdout=request.stdout, stderr=request.stderr
            )
        except NotStarted as error:
            self._finish(statuses.not_started(str(error), request.protocol), close=True)
            return False
        self._process = process
        self._fault.begin(self)
        pumps = [
            threading.Thread(target=self._pump, args=(channel, pipe), daemon=True)
            for channel, pipe in ((STDOUT, process.stdout), (STDERR, process.stderr))
            if pipe is not None
        ]
        finisher = threading.Thread(target=self._await_end, args=(process, pumps), daemon=True)
        with self._starting:
            self._threads = [*pumps, finisher]
            for thread in self._threads:
                thread.start()
        return True

    def _read_client(self) -> None:
        """Hand on what the client sends; return when it is gone, or broke the protocol."""
        for message in self._transport.messages():
            if self._stalled:
                self._stopped.wait()
            if self._over or not message:
                continue  # it is read only so that it does not draw a reset
            if message[0] == STDIN and self.request.stdin:
                self.write_stdin(self._fault.stdin(self, message[1:]))
            elif message[0] == CLOSE and self.request.stdin_can_end:
                if len(message) != 2:
                    return
                if message[1] == STDIN:
                    self._end_stdin()

    def _end_stdin(self) -> None:
        self._client_sends = False
        self.write_stdin(self._fault.end_of_stdin(self))
        self.close_stdin()

    # The pumps and the finisher.

    def _pump(self, channel: int, pipe: IO[bytes]) -> None:
        """Send what the process writes, until it ends or the client is gone."""
        descriptor = pipe.fileno()
        try:
            while data := os.read(descriptor, _OUTPUT_SIZE):
                if channel == STDOUT:
                    data = self._fault.stdout(self, data)
                if self._over:
                    return  # and leave the pipe open, full as it is
                if data:
                    self._send(channel, data)
            if channel == STDOUT and (data := self._fault.end_of_stdout(self)):
                self._send(channel, data)
        except ConnectionError:
            return  # as above
        self.close_stdin()

    def _await_end(self, process: Process, pumps: list[threading.Thread]) -> None:
        """Wait for all output and for the process, then say how it ended."""
        for pump in pumps:
            pump.join()
        code = process.wait()
        process.close()
        status = statuses.exit_code(code, self.request.command, self.request.protocol)
        self._finish(self._fault.status(self, status), close=True)

    def _send(self, channel: int, data: bytes) -> None:
        """Send one message.

        :raises ConnectionError: the session is over, or the client is gone.
        """
        with self._sending:
            if self._over:
                raise ConnectionAbortedError("the session is over")
            self._transport.send(bytes((channel,)) + data)

    def _finish(self, status: Status | None, *, close: bool) -> None:
        """Say the last words and end the connection at once, as real servers do."""
        with self._sending:
            if self._over:
                return
            self._over = True
            with suppress(ConnectionError):
                if status is not None:
                    self._transport.send(bytes((STATUS,)) + json.dumps(status).encode())
                if close:
                    self._transport.send_close()
        self._transport.connection.finish(_LINGER if self._client_sends else 0.0)

    def _break_off(self, ending: Ending) -> None:
        """End without last words, even where a message is stuck half-way."""
        self._over = True
        if ending is Ending.STALL:
            self._stalled = True
        elif ending is Ending.RESET:
            self._transport.connection.reset()
        else:
            self._transport.connection.abort()
