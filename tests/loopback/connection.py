"""One TLS connection to a client, and the WebSocket messages on it.

What goes in: an accepted, not yet encrypted socket. What comes out: bytes, or whole messages of
the client. The end of the connection, however it came, is an empty :meth:`Connection.recv` for
the reader and a :class:`ConnectionError` for the writer.

One thread reads and closes: the one that made the connection. Any thread may send, and may end
the connection. OpenSSL forbids two threads inside one connection, so the socket never blocks,
every call into it holds a lock, and waiting happens outside that lock.
"""

from __future__ import annotations

import ctypes
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from websockets.frames import DATA_OPCODES, Close, CloseCode, Frame, Opcode
from websockets.protocol import SERVER, Protocol

_READ_SIZE = 64 * 1024
_HANDSHAKE_TIMEOUT = 10.0
_MAX_MESSAGE = 32 * 1024 * 1024 + 1
"""Bytes of one message from the client: 32 MiB and the channel byte, as in the API server."""

_LIBC = ctypes.CDLL(None, use_errno=True)


class Connection:
    """A TLS connection that one thread reads from while others write to it."""

    def __init__(self, accepted: socket.socket, context: ssl.SSLContext) -> None:
        """Shake hands.

        :raises OSError: the client does not like our certificate, or went away.
        """
        accepted.settimeout(_HANDSHAKE_TIMEOUT)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(accepted, server_side=True)
        self._socket.setblocking(False)
        self._tls = threading.Lock()  # around each call into the TLS layer; never held in a wait
        self._sending = threading.Lock()  # one whole message at a time; taken before _tls
        self._wake, self._waker = socket.socketpair()
        self._read_until: float | None = None

    def recv(self) -> bytes:
        """Return what the client sent next; nothing once it, or we, ended the connection."""
        while not self._expired():
            try:
                with self._tls:
                    return self._socket.recv(_READ_SIZE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wants:
                self._wait(wants)
            except OSError:
                break
        return b""

    def sendall(self, data: bytes) -> None:
        """Send all of `data`, however long the client takes to read it.

        :raises ConnectionError: the connection has ended.
        """
        view = memoryview(data)
        with self._sending:
            while view:
                view = view[self._send(view) :]

    def finish(self, linger: float = 0.0) -> None:
        """End the connection as a server does that has said everything.

        :param linger: seconds for which bytes from the client are still taken, and dropped by
            the reader. The kernel answers bytes that find the socket closed with a reset, and a
            reset throws away what the client has not read yet.
        """
        with self._tls, suppress(OSError, ValueError):  # the ValueError of a closed socket
            self._socket.unwrap()  # sends close_notify; the answer is not waited for
        self._shutdown(socket.SHUT_WR)
        self._read_until = time.monotonic() + linger
        self._poke()

    def abort(self) -> None:
        """End the connection as a server does that was killed: without close_notify."""
        self._shutdown(socket.SHUT_RDWR)
        self._read_until = 0.0
        self._poke()

    def reset(self) -> None:
        """End the connection by a TCP reset, which overtakes all that was sent.

        connect(2) to AF_UNSPEC does so at once, whichever thread waits for the socket.
        """
        unspecified = bytes(16)
        _LIBC.connect(self._socket.fileno(), unspecified, len(unspecified))
        self.abort()

    def close(self) -> None:
        """Give the socket back. For the reading thread, when it reads no more."""
        self.abort()
        with self._sending, self._tls:  # a sender has been woken by now, and leaves
            self._socket.close()
        self._wake.close()
        self._waker.close()

    def _send(self, view: memoryview) -> int:
        while True:
            try:
                with self._tls:
                    return self._socket.send(view)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wants:
                self._wait(wants)
                if self._read_until is not None:
                    raise ConnectionAbortedError("the connection was ended") from None
            except ConnectionError:
                raise
            except OSError as error:
                raise ConnectionAbortedError(f"the connection has ended: {error}") from error

    def _expired(self) -> bool:
        return self._read_until is not None and time.monotonic() >= self._read_until

    def _wait(self, wants: ssl.SSLError) -> None:
        """Wait until the socket can go on, or until somebody ends the connection."""
        poll = select.poll()
        reading = isinstance(wants, ssl.SSLWantReadError)
        poll.register(self._socket, select.POLLIN if reading else select.POLLOUT)
        if self._read_until is None:
            poll.register(self._wake, select.POLLIN)
            poll.poll()
        else:
            poll.poll(max(0.0, self._read_until - time.monotonic()) * 1000)

    def _poke(self) -> None:
        with suppress(OSError):
            self._waker.send(b"!")

    def _shutdown(self, how: int) -> None:
        # SSLSocket.shutdown would first forget the TLS state, under the feet of the reader.
        with suppress(OSError):
            socket.socket.shutdown(self._socket, how)


class WebSocket:
    """The messages on a connection that was upgraded."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._protocol = Protocol(SERVER, max_size=_MAX_MESSAGE)

    def messages(self) -> Iterator[bytes]:
        """Yield the client's messages until it says goodbye or is gone.

        A continuation frame counts as a message, as in the API server. Pings are answered here,
        so not while the caller is busy with a message: that too is a habit of real servers.
        """
        while data := self.connection.recv():
            self._protocol.receive_data(data)
            self._answer(b"".join(self._protocol.data_to_send()))
            for frame in self._protocol.events_received():
                if isinstance(frame, Frame) and frame.opcode in DATA_OPCODES:
                    yield bytes(frame.data)
            if self._protocol.close_expected():
                return

    def _answer(self, pong_or_close: bytes) -> None:
        if pong_or_close:
            with suppress(ConnectionError):
                self.connection.sendall(pong_or_close)

    def send(self, message: bytes) -> None:
        """Send one message, all of it.

        :raises ConnectionError: the connection has ended.
        """
        self.connection.sendall(Frame(Opcode.BINARY, message).serialize(mask=False))

    def send_ping(self, payload: bytes) -> None:
        """Send a ping.

        :raises ConnectionError: the connection has ended.
        """
        self.connection.sendall(Frame(Opcode.PING, payload).serialize(mask=False))

    def send_close(self) -> None:
        """Send a close frame with code 1000.

        :raises ConnectionError: the connection has ended.
        """
        goodbye = Close(CloseCode.NORMAL_CLOSURE, "").serialize()
        self.connection.sendall(Frame(Opcode.CLOSE, goodbye).serialize(mask=False))
