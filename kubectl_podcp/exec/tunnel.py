"""Through an HTTP proxy to the API server: CONNECT, and TLS within the proxy's TLS.

In: a connected socket to the proxy. Out: the same socket, at whose other end is the API server
(:func:`ask`), or a new one in its place (:func:`carry`). Raises
:class:`~kubectl_podcp.errors.Unreachable` and ``TimeoutError``. Called by the thread that
connects; :func:`carry` starts a thread of its own, which ends with the connection.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading

from kubectl_podcp.errors import Unreachable, printable
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.nonblocking import WOULD_BLOCK, wanted
from kubectl_podcp.logs import Request

MAX_ANSWER = 16 * 1024
"""Longest head of an answer to CONNECT, in bytes."""

log = logging.getLogger(__name__)

_PIECE = 64 * 1024


def ask(sock: socket.socket, authority: str, authorization: str | None, deadline: Deadline) -> None:
    """Ask the proxy to connect ``sock`` to ``authority``, ``host:port`` (RFC 9110, 9.3.6).

    :param authorization: value of ``Proxy-Authorization``; never in an error.
    :raises Unreachable: the proxy refused, or its answer is no HTTP.
    :raises OSError: the connection failed; ``TimeoutError`` after ``deadline``.
    """
    headers = {"Host": authority}
    if authorization is not None:
        headers["Proxy-Authorization"] = authorization
    asked = Request(log, f"CONNECT {authority}", headers)
    lines = [f"CONNECT {authority} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    sock.settimeout(deadline.remaining())
    sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    status_line = _answer(sock, deadline).partition(b"\r\n")[0]
    version, _, status = status_line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not status[:3].isdigit():
        raise Unreachable(
            f"the proxy does not answer in HTTP: {printable(status_line[:100])}",
            advice="Check the proxy's address and whether it is http:// or https://.",
        )
    asked.answered(int(status[:3]))
    if status[:1] != b"2":
        raise _refused(authority, status)


def _answer(sock: socket.socket, deadline: Deadline) -> bytes:
    """Read the head of the answer, byte by byte: what follows it is the API server's."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        sock.settimeout(deadline.remaining())
        data = sock.recv(1)
        answer += data
        if not data or len(answer) > MAX_ANSWER:
            break
    return answer


def _refused(authority: str, status: bytes) -> Unreachable:
    said = f"the proxy refused to connect to {authority}: {printable(status.strip()[:100])}"
    if status.startswith(b"407"):
        return Unreachable(said, advice="Put the proxy's user and password into its URL.")
    return Unreachable(said, advice="Check that the proxy may reach the API server, or NO_PROXY.")


def carry(proxied: ssl.SSLSocket) -> socket.socket:
    """Return a plain socket whose bytes travel within ``proxied``, which is given away.

    Python's ``wrap_socket`` takes over a file descriptor, so TLS cannot be wrapped in TLS. A
    thread carries the bytes between ``proxied`` and a pair of sockets instead. It holds at most
    64 KiB in each direction, and ends, closing both, when either end closes.
    """
    ours, given = socket.socketpair()
    for sock in (ours, proxied):
        sock.setblocking(False)
    thread = threading.Thread(
        target=_carry,
        args=(ours, proxied),
        name="tls-in-tls",
        daemon=True,  # it ends with its connection, which a process that exits need not close
    )
    thread.start()
    return given


def _carry(ours: socket.socket, proxied: ssl.SSLSocket) -> None:
    with ours, proxied:
        ways = (_Way(ours, proxied), _Way(proxied, ours))
        try:
            while True:
                poller = select.poll()
                events: dict[socket.socket, int] = {}
                for way in ways:
                    sock, event = way.advance()
                    events[sock] = events.get(sock, 0) | event
                for sock, event in events.items():
                    poller.register(sock, event)
                poller.poll()  # woken by either end, at the latest when the user closes theirs
        except (OSError, EOFError):
            pass  # the user of the other end sees the end of the connection


class _Way:
    """One direction: what was read from ``source`` and not yet written to ``sink``."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source = source
        self._sink = sink
        self._data = b""

    def advance(self) -> tuple[socket.socket, int]:
        """Move bytes until that would block; return the socket and the event to wait for.

        :raises EOFError: the source has ended, and all that it sent was passed on.
        """
        while True:
            try:
                while self._data:
                    self._data = self._data[self._sink.send(self._data) :]
            except WOULD_BLOCK as reason:
                return self._sink, wanted(reason, select.POLLOUT)
            try:
                self._data = self._source.recv(_PIECE)
            except WOULD_BLOCK as reason:
                return self._source, wanted(reason, select.POLLIN)
            if not self._data:
                raise EOFError
