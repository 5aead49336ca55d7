"""Peers for the tests of ``kubectl_podcp.exec``: certificates, and a server that plays a script.

A script is a function that gets a :class:`Peer`, one accepted connection, and does what a server
would: in its own thread, frame by frame, well behaved or not.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trustme

from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.stream import Stream
from kubectl_podcp.exec.tls import Endpoint, Proxy
from kubectl_podcp.exec.tunnel import carry

SECONDS = 20.0
"""Longest wait for anything; only a failing test waits that long."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@functools.cache
def authority() -> trustme.CA:
    """Return the tests' certificate authority."""
    return trustme.CA()


def server_context(name: str = "localhost", **issued: Any) -> ssl.SSLContext:
    """Return a server's context with a certificate for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(name, **issued).configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """Return a client's context that trusts the tests' authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._received = b""

    def read_head(self) -> list[str]:
        """Return the lines of an HTTP request's head."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return head.decode("latin-1").split("\r\n")

    def accept(self, protocol: str = "v5.channel.k8s.io", *more: str) -> list[str]:
        """Answer an opening handshake with 101; return the request's lines."""
        lines = self.read_head()
        name = "sec-websocket-key: "
        (key,) = (line[len(name) :] for line in lines if line.lower().startswith(name))
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        answer = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        ]
        if protocol:
            answer.append(f"Sec-WebSocket-Protocol: {protocol}")
        self.write("\r\n".join([*answer, *more, "", ""]).encode())
        return lines

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def send(self, payload: bytes, opcode: int = BINARY, final: bool = True) -> None:
        """Send one frame."""
        self.write(frame(payload, opcode, final))

    def status(self, document: bytes = b'{"status":"Success"}', code: int = 1000) -> None:
        """End the session as Kubernetes does: the status, then a close frame."""
        self.send(b"\x03" + document)
        self.send(code.to_bytes(2, "big"), CLOSE)

    def read_frame(self) -> tuple[int, bytes]:
        """Return opcode and unmasked payload of the next frame, which must be whole and masked."""
        first, second = self.read(2)
        assert first & 0xF0 == 0x80, "a fragment, or a reserved bit"
        assert second & 0x80, "a client's frame must be masked"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self.read(2 if size == 126 else 8), "big")
        key = self.read(4)
        return first & 0x0F, unmasked(key, self.read(size))

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes."""
        while len(self._received) < size:
            self._receive()
        data, self._received = self._received[:size], self._received[size:]
        return data

    def wait_for_end(self) -> None:
        """Return when the client has closed, or reset, the connection."""
        self.rest()

    def rest(self) -> bytes:
        """Return what the client still sends before it closes, or resets, the connection."""
        with suppress(OSError, EOFError):
            while True:
                self._receive()
        return self._received

    def reset(self) -> None:
        """Close with a TCP reset."""
        linger = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 seconds
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def _receive(self) -> None:
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError("the client closed")
        self._received += data


def frame(payload: bytes, opcode: int = BINARY, final: bool = True, size: int = -1) -> bytes:
    """Return a server's frame; ``size`` announces another length than the payload's."""
    size = len(payload) if size < 0 else size
    head = bytes((opcode | (0x80 if final else 0),))
    if size < 126:
        return head + bytes((size,)) + payload
    if size < 1 << 16:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload


def unmasked(key: bytes, data: bytes) -> bytes:
    """Return ``data`` XORed with the repeated ``key``, a byte at a time: the plain definition."""
    return bytes(byte ^ key[position % 4] for position, byte in enumerate(data))


Script = Callable[[Peer], None]


@contextmanager
def serving(
    *scripts: Script, context: ssl.SSLContext | None = None, proxy: Proxy | None = None
) -> Iterator[Endpoint]:
    """Give the endpoint of a server that plays one script for each connection, in turn.

    Leaving it waits for the scripts that were begun, and raises what they raised.
    """
    failures: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_play, args=(listener, scripts, context, failures))
        thread.start()
        host, port = ("localhost" if context else "127.0.0.1"), listener.getsockname()[1]
        trusting = client_context() if context else None
        try:
            yield Endpoint(host, port, "", trusting, host, proxy)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)
            assert not thread.is_alive(), "the server's script hangs"
    if failures:
        raise failures[0]


def _play(
    listener: socket.socket,
    scripts: tuple[Script, ...],
    context: ssl.SSLContext | None,
    failures: list[BaseException],
) -> None:
    for script in scripts:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # nobody else came
        sock.settimeout(SECONDS)
        if context is not None:
            try:
                sock = context.wrap_socket(sock, server_side=True)
            except OSError:
                continue  # either side refuses the other: the test looks at ours
        try:
            with sock:
                script(Peer(sock))
        except BaseException as failure:
            failures.append(failure)


def stream_pair(version: ssl.TLSVersion | None = None) -> tuple[Stream, socket.socket]:
    """Return a stream and the blocking socket at its other end, over TCP.

    :param version: the highest of TLS that the other end speaks; None for no TLS.
    """
    ours, theirs = tcp_pair()
    stream = Stream(ours)
    stream.settimeout(SECONDS)
    return stream, theirs if version is None else secured(stream, theirs, version)


def secured(
    stream: Stream, theirs: socket.socket, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLSocket:
    """Make the handshake between a stream and ``theirs``; return what takes its place."""
    context = server_context()
    context.maximum_version = version
    accepting = Background(lambda: context.wrap_socket(theirs, server_side=True))
    stream.secure(client_context(), "localhost")
    sock: ssl.SSLSocket = accepting.result()
    assert sock.version() == version.name.replace("_", ".")
    return sock


def for_two_threads(sock: socket.socket) -> socket.socket:
    """Return a plain socket in place of ``sock``, which may be in TLS, for a :class:`Stream`."""
    return carry(sock) if isinstance(sock, ssl.SSLSocket) else sock


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for sock in (ours, theirs):
        sock.settimeout(SECONDS)
    return ours, theirs


class Background:
    """A function in a thread; :meth:`result` is what it returned, or raises what it raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._result: Any = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as failure:
            self._failure = failure

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def result(self, timeout: float = SECONDS) -> Any:
        """Wait for the end."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "still blocked"
        if self._failure is not None:
            raise self._failure
        return self._result

    def failure(self) -> BaseException | None:
        """Wait for the end and return what it raised."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "still blocked"
        return self._failure


def noise(size: int) -> bytes:
    """Return random bytes."""
    return os.urandom(size)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does soon."""
    deadline = Deadline(SECONDS)
    while not condition():
        deadline.remaining()
        threading.Event().wait(0.001)
