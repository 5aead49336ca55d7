"""An exec session without a network: the test says what the server says, and sees what we send.

It keeps the contract of :class:`kubectl_podcp.relay.Session`, with one difference in time: a
``receive`` with a time-out does not wait. It takes what was said before, or raises
``TimeoutError`` at once, unless the session is :attr:`~ScriptedSession.patient`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from kubectl_podcp.errors import ConnectionLost
from kubectl_podcp.exec.channels import Closed, Event, Protocol
from kubectl_podcp.exec.stream import Aborted

SECONDS = 10.0
"""Longest wait for anything; only a failing test waits that long."""

END = Closed(1000, "")


class ScriptedSession:
    """One session; the public attributes are read by the test, under :meth:`wait_for` or after.

    :ivar sent: messages that came for stdin, in order.
    :ivar stdin_ended: whether stdin was ended (v5).
    :ivar pings: how many pings were sent.
    :ivar taken: how many events were received.
    :ivar receiving: whether a thread is blocked in :meth:`receive`.
    :ivar sending: whether a thread is blocked in :meth:`send_stdin`.
    :ivar patient: whether a ``receive`` with a time-out waits as if it had none.
    :ivar gathers: whether what was said before can be received together (``buffered``).
    :ivar repeat: said again and again once nothing else is left.
    :ivar after_close: what a blocked or later call raises once we closed the session.
    :ivar on_send: called before each message, and before the end of stdin.
    :ivar on_close: called before the session is closed.
    :ivar on_aborted: called by a :meth:`receive` that ends after we closed.
    """

    def __init__(self, protocol: Protocol = Protocol.V5) -> None:
        self.protocol = protocol
        self.sent: list[bytes] = []
        self.stdin_ended = False
        self.pings = 0
        self.taken = 0
        self.receiving = False
        self.sending = False
        self.patient = False
        self.gathers = False
        self.repeat: Event | None = None
        self.closed = False
        self.after_close: BaseException = Aborted("closed by this side")
        self.on_send: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self.on_aborted: Callable[[], None] = lambda: None
        self._changed = threading.Condition()
        self._events: deque[Event | Closed | BaseException] = deque()
        self._room: int | None = None
        self._refusal: BaseException | None = None

    # What the test does.

    def say(self, *events: Event | Closed | BaseException) -> None:
        """Let these be received next; an exception is raised instead."""
        with self._changed:
            self._events.extend(events)
            self._changed.notify_all()

    def allow(self, messages: int | None) -> None:
        """Let so many more messages be sent; the next one blocks. None is no limit."""
        with self._changed:
            self._room = messages
            self._changed.notify_all()

    def refuse(self, error: BaseException | None = None) -> None:
        """Let every send fail from now on."""
        with self._changed:
            self._refusal = error or ConnectionLost("the connection broke while sending")
            self._changed.notify_all()

    def wait_for(self, what: Callable[[ScriptedSession], bool], timeout: float = SECONDS) -> None:
        """Return when ``what`` holds of this session."""
        assert self.comes(what, timeout), "it never came to that"

    def comes(self, what: Callable[[ScriptedSession], bool], timeout: float) -> bool:
        """Whether ``what`` comes to hold within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: what(self), timeout)

    @property
    def input(self) -> bytes:
        """All that came for stdin."""
        return b"".join(self.sent)

    # What the relay does.

    def receive(self, timeout: float | None = None) -> Event | Closed:
        """Return the next event; :class:`Closed` stays the last one for ever."""
        try:
            return self._next(timeout)
        finally:
            if self.closed:
                self.on_aborted()

    def _next(self, timeout: float | None) -> Event | Closed:
        with self._changed:
            if timeout is None or self.patient:
                self._block("receiving", lambda: bool(self._events or self.repeat))
            if self.closed:
                raise self.after_close
            if not self._events:
                if self.repeat is None:
                    raise TimeoutError("timed out")
                return self.repeat
            event = self._events[0]
            if not isinstance(event, Closed):
                self._events.popleft()
                self.taken += 1
                self._changed.notify_all()
            if isinstance(event, BaseException):
                raise event
            return event

    @property
    def buffered(self) -> bool:
        """Whether more was said already; always false unless it :attr:`gathers`."""
        with self._changed:
            return self.gathers and bool(self._events)

    def send_stdin(self, *messages: bytes) -> None:
        """Note each message, as soon as there is room for it."""
        assert sum(map(len, messages)) <= 1 << 20, "so much at once costs many times its size"
        for message in messages:
            self._send(message)

    def _send(self, data: bytes) -> None:
        self.on_send()
        with self._changed:
            self._block("sending", lambda: self._room != 0 or self._refusal is not None)
            if self.closed:
                raise self.after_close
            if self._refusal is not None:
                raise self._refusal
            if self._room is not None:
                self._room -= 1
            self.sent.append(data)
            self._changed.notify_all()

    def end_stdin(self) -> None:
        """Note the end of stdin."""
        assert self.protocol is Protocol.V5, "v4 cannot"
        self.on_send()
        with self._changed:
            if self._refusal is not None:
                raise self._refusal
            self.stdin_ended = True
            self._changed.notify_all()

    def ping(self) -> None:
        """Note it."""
        with self._changed:
            self.pings += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Wake whoever is blocked."""
        self.on_close()
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _block(self, where: str, ready: Callable[[], bool]) -> None:
        setattr(self, where, True)
        self._changed.notify_all()
        self._changed.wait_for(lambda: self.closed or ready())
        setattr(self, where, False)
