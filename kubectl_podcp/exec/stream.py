"""A connected socket, TLS or plain, that one reader and one writer may use at the same time.

In: a socket from :func:`kubectl_podcp.exec.tls.dial`. Out: bytes. Raises
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
from kubectl_podcp.exec.records import Records
from kubectl_podcp.exec.tls import refused_certificate

LOOK_AGAIN = 20
"""Milliseconds; see :meth:`Stream._wait`. Go's TLS, and so Kubernetes, never asks for it."""

READ_AHEAD = 256 * 1024
"""Most bytes that are taken from the system at once."""


class Aborted(OSError):
    """:meth:`Stream.abort` or :meth:`Stream.close` was called; nothing was lost but by our wish."""


class Stream:
    """One connection, one reader, one writer, and anybody who may abort it.

    Where a thread can block, and what wakes it: in :meth:`recv` and :meth:`send`, in ``poll``:
    the peer, the deadline of that direction, or :meth:`abort`. Nowhere else: the lock is held
    only while a non-blocking call runs.

    :ivar read_deadline: until when :meth:`recv` may block; set by the reader alone.
    :ivar write_deadline: until when :meth:`send` may block; set by the writer alone.
    :ivar stall_timeout: seconds for which :meth:`send` may get rid of nothing; None: no limit.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.read_deadline = Deadline(None)
        self.write_deadline = Deadline(None)
        self.stall_timeout: float | None = None
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
        self._records: Records | None = None  # None: not in TLS
        self._received = b""  # plaintext that nobody asked for yet
        self._due = memoryview(b"")  # what the system has not taken yet, in order
        self._broken: OSError | None = None  # what sending failed with, whoever sent
        self._receiving = False  # a thread is in recv(): what comes is for it
        self._sending = False  # a thread is in send(): nobody else may begin something
        self._polling = 0
        self._closing = False

    def secure(self, context: ssl.SSLContext, server_name: str) -> None:
        """Make the TLS handshake, within :attr:`read_deadline`; at most once, before all else.

        :param server_name: the name that the certificate must hold.
        :raises OSError: as it happened, ``ssl.SSLError`` and ``TimeoutError`` among them: the
            caller knows whom we talk to.
        :raises ValueError: no certificate could hold the name.
        """
        records = Records(context, server_name)
        with self._lock:
            while not self._handshake_done(records):
                while (data := self._taken()) is None:
                    self._wait(self._reader, select.POLLIN, self.read_deadline)
                    self._check()
                records.take(data)
            self._records = records

    def recv(self, size: int = READ_AHEAD) -> bytes:
        """Return up to ``size`` bytes, at least one; ``b""`` at the peer's end.

        In TLS, an end without close_notify, as that of a dying API server, looks the same: what
        was received must prove by itself that it is whole.

        :raises TimeoutError: :attr:`read_deadline` has passed; call again to go on.
        :raises ConnectionLost: reset, or timed out by the system.
        :raises CertificateError: a TLS 1.3 server refused our certificate.
        :raises Aborted: after :meth:`abort`.
        """
        with self._lock:
            self._receiving = True
            try:
                if not self._received:
                    self._received = self._next()
                self._check()
            finally:
                self._receiving = False
            data, self._received = self._received[:size], self._received[size:]
            return data

    def send(self, data: bytes) -> None:
        """Send all of ``data``, not empty; blocks until the system has taken it.

        :raises TimeoutError: :attr:`write_deadline` has passed, or nothing went for
            :attr:`stall_timeout`. Nothing can be sent any more then.
        :raises ConnectionLost: the peer is gone. What it sent before can still be received.
        :raises Aborted: after :meth:`abort`.
        """
        with self._lock:
            self._sending = True
            try:
                self._drain(self.write_deadline)
                while not self._begin(data):
                    # TLS waits for the peer (renegotiation). The reader may receive that before
                    # we wait for it, and then nothing would wake us: look again soon.
                    self._wait(self._writer, select.POLLIN, self.write_deadline, LOOK_AGAIN)
                    self._check()
                    self._receive_for_tls()
                self._drain(self.write_deadline)
            finally:
                self._sending = False

    def try_send(self, data: bytes) -> bool:
        """Send all of ``data`` where that takes no waiting; return whether it will go."""
        with self._lock:
            self._check()
            if self._sending:
                return False
            self._flush()
            if self._due or not self._begin(data):
                return False
            self._flush()
            return True

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

    # All of these are called with the lock held.

    def _handshake_done(self, records: Records) -> bool:
        """Go on with the handshake as far as what came allows; return whether it is done."""
        try:
            done = records.shake_hands()
        except ssl.SSLError:
            self._due = memoryview(records.due())
            with suppress(ConnectionLost):  # the peer may not want to hear of it
                self._flush()
            raise
        self._due = memoryview(records.due())
        try:
            self._drain(self.read_deadline)
        except ConnectionLost as lost:
            raise lost.__cause__ or lost from None
        return done

    def _next(self) -> bytes:
        """Wait for what comes next."""
        while True:
            self._check()
            try:
                data = self._decrypted()
            except OSError as error:
                _lost("receiving", error)
            with suppress(ConnectionLost):  # reading finds out by itself
                self._answer()
                self._flush()
            if data is not None:
                return data
            # A sender sees to it that what is due goes; without one, we do.
            event = select.POLLOUT if self._due and not self._sending else 0
            self._wait(self._reader, select.POLLIN | event, self.read_deadline)

    def _receive_for_tls(self) -> None:
        """Give TLS what it waits for, where no reader does; plaintext is kept for one."""
        if self._records is None or self._receiving:
            return
        try:
            ciphertext = self._taken()
        except OSError as error:
            _lost("receiving", error)
        if ciphertext is not None:
            self._records.take(ciphertext)

    def _decrypted(self) -> bytes | None:
        """Return what came; ``b""`` at the peer's end, None where that would take waiting."""
        if self._records is None:
            return self._taken()
        while (data := self._records.decrypt()) is None:
            ciphertext = self._taken()
            if ciphertext is None:
                return None
            self._records.take(ciphertext)
        return data

    def _taken(self) -> bytes | None:
        try:
            return self._sock.recv(READ_AHEAD)
        except BlockingIOError:
            return None

    def _begin(self, data: bytes) -> bool:
        """Make ``data`` due, and all of it; return False where TLS is not ready for it."""
        if self._records is None:
            self._due = memoryview(data)
            return True
        try:
            done = self._records.encrypt(data)
        except OSError as error:
            _lost("sending", error)
        self._answer()
        return done

    def _answer(self) -> None:
        """Make due what TLS has to say, and send of it what takes no waiting."""
        if self._records is not None and (ciphertext := self._records.due()):
            self._due = memoryview(bytes(self._due) + ciphertext if self._due else ciphertext)
            self._flush()

    def _flush(self) -> None:
        """Send of what is due as much as takes no waiting."""
        if self._broken is not None:
            _lost("sending", self._broken)
        while self._due:
            try:
                self._due = self._due[self._sock.send(self._due) :]
            except BlockingIOError:
                return
            except OSError as error:
                self._due = memoryview(b"")
                self._broken = error
                _lost("sending", error)

    def _drain(self, deadline: Deadline) -> None:
        """Send all that is due."""
        while True:
            self._check()
            self._flush()
            if not self._due:
                return
            stalled = None if self.stall_timeout is None else Deadline(self.stall_timeout)
            self._wait(self._writer, select.POLLOUT, stalled or deadline)

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self._waker, select.POLLIN)
        poller.register(self._sock, 0)
        return poller

    def _check(self) -> None:
        if self._aborted:
            raise Aborted("the connection was closed by this side")

    def _wait(
        self, poller: select.poll, event: int, deadline: Deadline, most: int | None = None
    ) -> None:
        """Wait for ``event``, an abort or the deadline. The lock is held at entry and exit.

        :param most: milliseconds after which it returns whatever happened.
        """
        timeout = deadline.milliseconds()
        if most is not None:
            timeout = most if timeout is None else min(timeout, most)
        poller.modify(self._sock, event)
        self._polling += 1
        self._lock.release()
        try:
            ready = poller.poll(timeout)
        finally:
            self._lock.acquire()
            self._polling -= 1
            self._close_if_unused()
        if not ready and most is None:
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
