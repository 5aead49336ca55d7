"""A plain client of the embedded cluster, for the tests of the cluster itself.

It is made of the `websockets` library and of nothing of the product, so that the two cannot be
wrong in the same way. What goes in: a running server, and what to ask of it. What comes out: the
answer, or an open :class:`Session` and its :class:`Outcome`. Raises what the libraries raise.

A session belongs to one thread at a time. The library's own client is not used: it reads and
writes one TLS socket from two threads, and in one of fifty connections loses the handshake.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tests.loopback.access import ADMIN, User
from tests.loopback.kubeconfig import ADDRESS
from tests.loopback.pods import NAMESPACE
from tests.loopback.server import Server
from tests.loopback.statuses import V4, V5

END_OF_STDIN = b"\xff\x00"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a GET."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON of the body."""
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a session sent until it ended."""

    messages: list[bytes]
    close_code: int | None
    """The code of the server's close frame; None if none came."""

    def stream(self, channel: int) -> bytes:
        """Return what came on a channel."""
        return b"".join(message[1:] for message in self.messages if message[0] == channel)

    @property
    def stdout(self) -> bytes:
        """What came on channel 1."""
        return self.stream(1)

    @property
    def status(self) -> dict[str, Any] | None:
        """The document of channel 3; None if none came."""
        text = self.stream(3)
        document: dict[str, Any] | None = json.loads(text) if text else None
        return document


def tls(server: Server) -> ssl.SSLContext:
    """Return a TLS context that trusts the server."""
    return ssl.create_default_context(cadata=server.authority.certificate.decode())


def bearer(server: Server, user: User = ADMIN) -> dict[str, str]:
    """Return the headers that say who is asking."""
    return {"Authorization": f"Bearer {server.tokens.of(user)}"}


def get(server: Server, path: str, headers: dict[str, str] | None = None) -> Answer:
    """Send a GET to the v5 server, as the administrator unless headers say otherwise."""
    connection = http.client.HTTPSConnection(
        ADDRESS, server.ports["v5"], context=tls(server), timeout=10
    )
    try:
        connection.request("GET", path, headers=bearer(server) if headers is None else headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def exec_path(
    pod: str,
    command: Sequence[str],
    streams: Sequence[str] = ("stdin", "stdout", "stderr"),
    container: str = "",
) -> str:
    """Return the path and the query of an exec request."""
    query = [*(("command", word) for word in command), *((stream, "true") for stream in streams)]
    query += [("container", container)] if container else []
    return f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/exec?{urlencode(query)}"


class Session:
    """An exec session, from its handshake on."""

    def __init__(self, raw: ssl.SSLSocket, protocol: ClientProtocol) -> None:
        self.socket = raw
        self._protocol = protocol
        self._messages: deque[bytes] = deque()

    @property
    def subprotocol(self) -> str | None:
        """The exec protocol that the server chose."""
        return self._protocol.subprotocol

    @property
    def close_code(self) -> int | None:
        """The code of the server's close frame; None if none came."""
        received = self._protocol.close_rcvd
        return None if received is None else int(received.code)

    def send(self, message: bytes, *more: bytes) -> None:
        """Send a message; in several fragments if there are more.

        :raises OSError: the connection has ended.
        """
        opcodes = [Opcode.BINARY, *(Opcode.CONT for _ in more)]
        for number, (opcode, data) in enumerate(zip(opcodes, (message, *more), strict=True)):
            frame = Frame(opcode, data, fin=number == len(more))
            self.socket.sendall(frame.serialize(mask=True))

    def receive(self, timeout: float = 20.0) -> bytes | None:
        """Return the next message; None when the session has ended.

        :param timeout: seconds without any data after which it is given up.
        :raises TimeoutError: nothing came.
        """
        self.socket.settimeout(timeout)
        while not self._messages:
            data = self._receive_data()
            if not data:
                return None
            self._take(data)
        return self._messages.popleft()

    def handshake(self, headers: dict[str, str]) -> None:
        """Ask for the session.

        :raises websockets.exceptions.InvalidStatus: the server refused.
        """
        request = self._protocol.connect()
        request.headers.update(headers)
        self._protocol.send_request(request)
        for data in self._protocol.data_to_send():
            self.socket.sendall(data)
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            data = self._receive_data()
            if not data:
                raise ConnectionError("the connection ended in the handshake")
            self._take(data)
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc

    def _receive_data(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            return b""

    def _take(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self._messages.append(bytes(event.data))


def open_session(
    server: Server,
    pod: str,
    *command: str,
    protocols: Sequence[str] = (V5, V4),
    streams: Sequence[str] = ("stdin", "stdout", "stderr"),
    container: str = "",
    to: str = "v5",
    user: User = ADMIN,
) -> Session:
    """Open an exec session.

    :param to: which server is asked: v5 or v4.
    :raises websockets.exceptions.InvalidStatus: the server refused.
    """
    container = container or ("main" if pod == "gnu-0" else "")
    plain = socket.create_connection((ADDRESS, server.ports[to]), timeout=20)
    session = Session(
        tls(server).wrap_socket(plain, server_hostname=ADDRESS),
        ClientProtocol(
            parse_uri(f"wss://{ADDRESS}{exec_path(pod, command, streams, container)}"),
            subprotocols=[Subprotocol(protocol) for protocol in protocols],
            max_size=None,
        ),
    )
    try:
        session.handshake(bearer(server, user))
    except BaseException:
        session.socket.close()
        raise
    return session


def finish(session: Session) -> Outcome:
    """Read a session to its end."""
    messages: list[bytes] = []
    try:
        while (message := session.receive()) is not None:
            messages.append(message)
    finally:
        session.socket.close()
    return Outcome(messages, session.close_code)


def run(server: Server, pod: str, *command: str, stdin: bytes = b"", **how: Any) -> Outcome:
    """Run a command to its end; `how` is as for :func:`open_session`."""
    session = open_session(server, pod, *command, **how)
    with suppress(OSError):  # the session may have ended already
        if stdin:
            session.send(b"\0" + stdin)
        if session.subprotocol == V5:
            session.send(END_OF_STDIN)
    return finish(session)
