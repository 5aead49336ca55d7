"""A connected socket, TLS or plain, that one reader and one writer may use at the same time.

In: a socket from :func:`kubectl_podcp.exec.tls.connect`. Out: bytes. Raises
:class:`~kubectl_podcp.errors.ConnectionLost`, :class:`~kubectl_podcp.errors.CertificateError`,
:class:`Aborted` and ``TimeoutError``; any other ``OSError`` stays inside.

Why it exists: OpenSSL forbids two threads in one connection at a time, and an ``SSLSocket`` does
not keep them apart; reading and writing at once with a time-out ended in false end-of-file on
Python 3.11, a crash on 3.12 and ``BlockingIOError`` on 3.13. Here the socket never blocks, one
lock surrounds each TLS call, and waiting (``poll``) happens outside of the lock.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from typing import NoReturn

from kubectl_podcp.errors import ConnectionLost
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.nonblocking import WOULD_BLOCK, wanted
from kubectl_podcp.exec.tls import refused_certificate

LOOK_AGAIN = 20
"""Milliseconds; see :meth:`Stream._wait`. Go's TLS, and so Kubernetes, never asks for it."""


class Aborted(OSError):
    """:meth:`Stream.abort` or :meth:`Stream.close` was called; nothing was lost but by our wish."""


class Stream:
    """One connection, one reader, one writer, and anybody who may abort it.

    Where a thread can block, and what wakes it: in :meth:`recv` and :meth:`send`, in ``poll``:
    the peer, the deadline of that direction, or :meth:`abort`. Nowhere else: the lock is held
    only while a non-blocking call runs.

    :ivar read_deadline: until when :meth:`recv` may block; set by the reader alone.
    :ivar write_deadline: until when :meth:`send` may block; set by the writer alone.
    """

    def __init__(self, sock: socket.socket | ssl.SSLSocket) -> None:
        sock.setblocking(False)
        self.read_deadline = Deadline(None)
        self.write_deadline = Deadline(None)
        # Set once. The byte that abort() puts into the pair is never read, so that it wakes
        # every poll that there is or will be.
        self._sock = sock
        self._waker, self._alarm = socket.socketpair()
        self._alarm.setblocking(False)
        self._reader = self._poller()
        self._writer = self._poller()
        self._lock = threading.Lock()
        # Goes from False to True once, without the lock: abort() must never wait.
        self._aborted = False
        # Guarded by the lock.
        self._polling = 0
        self._closing = False

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes, at least one; ``b""`` at the peer's end.

        In TLS, an end without close_notify, as that of a dying API server, looks the same, and
        before Python 3.13 a reset does too: what was received must prove by itself that it is
        whole.

        :raises TimeoutError: :attr:`read_deadline` has passed; call again to go on.
        :raises ConnectionLost: reset, or timed out by the system.
        :raises CertificateError: a TLS 1.3 server refused our certificate.
        :raises Aborted: after :meth:`abort`.
        """
        with self._lock:
            while True:
                self._check()
                try:
                    return self._sock.recv(size)
                except WOULD_BLOCK as reason:
                    event = wanted(reason, select.POLLIN)
                except OSError as error:
                    _lost("receiving", error)
                self._wait(self._reader, event, event != select.POLLIN, self.read_deadline)

    def send(self, data: bytes) -> int:
        """Send some of ``data``, not empty, and return how many bytes went; blocks until some did.

        After a ``TimeoutError``, and after :meth:`try_send` returned 0, the next call must
        begin with the same bytes: TLS may have encrypted them already, and Python does not enable
        partial writes (OpenSSL says ``bad length`` to less). Another place in memory is fine.

        :raises TimeoutError: :attr:`write_deadline` has passed.
        :raises ConnectionLost: the peer is gone. What it sent before can still be received.
        :raises Aborted: after :meth:`abort`.
        """
        with self._lock:
            while True:
                self._check()
                try:
                    return self._sock.send(data)
                except WOULD_BLOCK as reason:
                    event = wanted(reason, select.POLLOUT)
                except OSError as error:
                    _lost("sending", error)
                self._wait(self._writer, event, event != select.POLLOUT, self.write_deadline)

    def try_send(self, data: bytes) -> int:
        """Like :meth:`send`, but never wait: return 0 where nothing can go now."""
        with self._lock:
            self._check()
            try:
                return self._sock.send(data)
            except WOULD_BLOCK:
                return 0
            except OSError as error:
                _lost("sending", error)

    def settimeout(self, timeout: float | None) -> None:
        """Give reading and writing ``timeout`` seconds from now in all, or no limit.

        Unlike a socket's, it is not per call: steps that belong together share it.
        """
        self.read_deadline = self.write_deadline = Deadline(timeout)

    def gettimeout(self) -> float | None:
        """Return the seconds that reading may still take; ``None`` for no limit."""
        return self.read_deadline.remaining()

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once it is closed."""
        return self._sock.fileno()

    def abort(self) -> None:
        """Wake the reader and the writer; they and all later calls raise :class:`Aborted`.

        Idempotent; from any thread, and from a signal handler: it takes no lock.
        """
        self._aborted = True
        with suppress(OSError):  # full, or closed: then it has rung already
            self._alarm.send(b"\0")

    def close(self) -> None:
        """Abort, and close the socket as soon as no thread waits for it any more.

        Idempotent; from any thread. The descriptor is never closed under a thread's ``poll``,
        which would go on to wait for whatever file gets the same number next.
        """
        self.abort()
        with self._lock:
            self._closing = True
            self._close_if_unused()

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self._waker, select.POLLIN)
        poller.register(self._sock, 0)
        return poller

    def _check(self) -> None:
        if self._aborted:
            raise Aborted("the connection was closed by this side")

    def _wait(self, poller: select.poll, event: int, crosses: bool, deadline: Deadline) -> None:
        """Wait for ``event``, an abort or the deadline. The lock is held at entry and exit.

        :param crosses: TLS wants the other thread's direction (renegotiation). That thread may
            receive, or send, before we wait for it, and then nothing would wake us: look again
            soon.
        """
        timeout = deadline.milliseconds()
        if crosses:
            timeout = LOOK_AGAIN if timeout is None else min(timeout, LOOK_AGAIN)
        poller.modify(self._sock, event)
        self._polling += 1
        self._lock.release()
        try:
            ready = poller.poll(timeout)
        finally:
            self._lock.acquire()
            self._polling -= 1
            self._close_if_unused()
        if not ready and not crosses:
            raise TimeoutError("timed out")

    def _close_if_unused(self) -> None:
        if self._closing and not self._polling:
            for sock in (self._sock, self._waker, self._alarm):
                sock.close()


def _lost(doing: str, error: OSError) -> NoReturn:
    """Raise what a failure of the socket means."""
    reason = getattr(error, "reason", None) or error.strerror or error
    raise refused_certificate(error) or ConnectionLost(
        f"the connection to the API server broke while {doing}: {reason}",
        advice="Try again; a load balancer or VPN on the way may end connections.",
    ) from error
