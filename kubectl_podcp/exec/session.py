"""An exec session: a command in a container, its stdin, stdout, stderr and status.

In: where and what to run. Out: :class:`ExecSession`, whose events are those of
:mod:`kubectl_podcp.exec.channels`, :class:`Closed` among them. Raises the errors of
:mod:`kubectl_podcp.errors`, :class:`Aborted` after :meth:`ExecSession.close`, and ``TimeoutError``.
One thread may receive while another sends; any may close.

websocket-client makes the opening handshake. Its receive loop is not used: it answers pings and
close frames at once, in the sender's turn, so that a stalled sender stops the reader; and it asks
the connection five times for each message, where :mod:`~kubectl_podcp.exec.frames` takes many at
once.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import websocket

from kubectl_podcp.errors import ConnectionLost, PodcpError, ServerError, Unreachable
from kubectl_podcp.exec import channels, trace
from kubectl_podcp.exec.channels import Closed, Event, Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.frames import CLOSE, PING, PONG, Message, MessageReader, Violation
from kubectl_podcp.exec.handshake import (
    ExecTarget,
    HandshakeSocket,
    exec_path,
    header_lines,
    without_secrets,
)
from kubectl_podcp.exec.masking import Masker
from kubectl_podcp.exec.refusals import refusal
from kubectl_podcp.exec.stream import Aborted, Stream
from kubectl_podcp.exec.tls import Endpoint, dial, handshake_errors
from kubectl_podcp.logs import CHOICES, Request

__all__ = ["Aborted", "Closed", "Completed", "ExecSession", "ExecTarget", "run"]

MAX_INPUT = 64 * 1024
MAX_OUTPUT = 1024 * 1024
"""Limits of :func:`run`, in bytes; the output's is the usual one."""

OPEN_TIMEOUT = 8.0
"""Seconds for connecting and the handshake: with start-up, a user waits 10 at the most."""

log = logging.getLogger(__name__)
_numbers = itertools.count(1)  # of sessions, for the log

PING_AFTER = 30.0
"""Seconds without a word from the server, after which a ping goes: load balancers end a connection
that is idle, often after a minute."""

_PIECE = 32 * 1024
_NO_STATUS_RECEIVED = 1005  # RFC 6455, section 7.1.5: a close frame without a code


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that :func:`run` ran to its end."""

    stdout: bytes
    stderr: bytes
    status: Status


class ExecSession:
    """One command in one container.

    One thread receives (:meth:`receive`, :meth:`finish`), one sends (:meth:`send_stdin`,
    :meth:`end_stdin`), any may :meth:`close`.

    Pings are answered without ever waiting, since the answer needs the sender's turn, and a
    stalled destination may keep that for hours: the reader sends the pong if nobody is sending
    and the socket takes it, else the sender does before its next message. Of several pings the
    last is answered, as RFC 6455, section 5.5.3, allows. A close frame is answered likewise.

    A session on which nothing comes is kept open by pings of ours, which never wait either. Whether
    they are answered does not matter: a server whose stdin is stalled does not even read them.

    :param name: what the session is called in the log.
    :ivar protocol: the version that the server chose.
    """

    def __init__(self, stream: Stream, protocol: Protocol, name: str = "exec") -> None:
        self.protocol = protocol
        self._stream = stream
        self._trace = trace.begun(name)
        # The reader's.
        self._messages = MessageReader()
        self._events: deque[Event] = deque()
        self._failure: ServerError | None = None
        self._closed: Closed | None = None  # the sender looks at it
        # Put there by the reader, taken by either: the newest control frame that is due.
        self._due: deque[bytes] = deque(maxlen=1)
        # The sender's.
        self._masker = Masker()

    @property
    def stall_timeout(self) -> float | None:
        """Seconds for which :meth:`send_stdin` may get rid of nothing; None for no limit."""
        return self._stream.stall_timeout

    @stall_timeout.setter
    def stall_timeout(self, seconds: float | None) -> None:
        self._stream.stall_timeout = seconds

    @classmethod
    def open(
        cls,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        target: ExecTarget,
        command: Sequence[str],
        *,
        protocols: Sequence[Protocol] = (Protocol.V5, Protocol.V4),
        timeout: float = OPEN_TIMEOUT,
    ) -> ExecSession:
        """Return a session in which ``command`` will run; that it started is not yet said.

        The server takes the first of ``protocols`` that it knows.

        :param headers: what :meth:`kubectl_podcp.cluster.kubeconfig.Cluster.headers` returns.
        :param timeout: seconds for connecting and for the server's answer together.
        :raises AccessError: unreachable, not trusted, not allowed; its children say which.
        :raises ServerError: no such Pod or container, not running, or no sensible answer.
        """
        deadline = Deadline(timeout)
        stream = Stream(dial(endpoint, deadline))
        try:
            stream.settimeout(deadline.remaining())
            if endpoint.context is not None:
                with handshake_errors(endpoint.authority, endpoint.server_name):
                    stream.secure(endpoint.context, endpoint.server_name)
            protocol = _shake_hands(stream, endpoint, headers, target, command, protocols)
            stream.settimeout(None)
        except TimeoutError as error:
            stream.close()
            raise Unreachable(
                f"{endpoint.authority} did not answer exec in {target} within {timeout:g} s",
                advice="Try again; see whether the API server and the Pod's node are healthy.",
            ) from error
        except BaseException:
            stream.close()
            raise
        name = f"{target.pod}#{next(_numbers)}"
        log.log(CHOICES, "%s: exec in %s over %s", name, target, protocol.value)
        return cls(stream, protocol, name)

    def receive(self, timeout: float | None = None) -> Event | Closed:
        """Return the next event; :class:`Closed` at the end, again and again.

        :param timeout: seconds to wait; ``None`` until something comes or :meth:`close`.
        :raises TimeoutError: nothing came, or a message is not whole yet: call again to go on.
        :raises ConnectionLost: the connection ended without a close frame.
        :raises ServerError: what came is not the protocol.
        :raises Aborted: after :meth:`close`.
        """
        if not self._events:
            deadline = Deadline(timeout)
            self._pay_dues()
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if self._closed is not None:
                return self._closed
            self._take_in(self._read(deadline))
        return self._events.popleft()

    @property
    def buffered(self) -> bool:
        """Whether :meth:`receive` would give an event at once. The reader's."""
        return bool(self._events)

    def finish(self, timeout: float) -> Status | None:
        """Receive until the server closes the session; return its status if one came.

        Output on the way is dropped.

        :raises TimeoutError: the session did not end within ``timeout`` seconds.
        :raises PodcpError: like :meth:`receive`.
        """
        deadline = Deadline(timeout)
        status: Status | None = None
        while not isinstance(event := self.receive(deadline.remaining()), Closed):
            if isinstance(event, Status):
                status = event
        return status

    def send_stdin(self, *messages: bytes) -> None:
        """Write to the command's stdin; blocks while the server is slow.

        Each of ``messages`` goes in one frame: the API server takes a continuation frame for a
        new message, whose first byte it takes for the channel. Several cost one system call.

        :param messages: ``bytes``, at most 32 KiB each, and 1 MiB or so together.
        :raises ConnectionLost: the server is gone, has closed the session, or took nothing for
            :attr:`stall_timeout`. Go on receiving: the reason may have been sent before.
        :raises Aborted: after :meth:`close`.
        """
        try:
            self._send([channels.stdin(message) for message in messages])
        except TimeoutError:
            if self.stall_timeout is None:  # feed()'s deadline
                raise
            raise ConnectionLost(
                f"the destination took nothing for {self.stall_timeout:g} s",
                advice="Try again; see whether the container and its node are healthy.",
            ) from None

    def end_stdin(self) -> None:
        """End the command's stdin; raises like :meth:`send_stdin`.

        :raises ValueError: on v4, which cannot.
        """
        self._send([channels.end_of_stdin(self.protocol)])

    def feed(self, data: bytes, deadline: Deadline) -> None:
        """Write ``data`` to stdin in messages of 32 KiB, and end stdin where the protocol can.

        :raises TimeoutError: ``deadline`` has passed; the session is only good to be closed then.
        :raises ConnectionLost: like :meth:`send_stdin`.
        """
        self._stream.write_deadline = deadline
        if data:
            self.send_stdin(*(data[at : at + _PIECE] for at in range(0, len(data), _PIECE)))
        if self.protocol is Protocol.V5:
            self.end_stdin()
        self._stream.write_deadline = Deadline(None)

    def close(self) -> None:
        """Give the session up, and close the connection without a word to the server.

        Idempotent; from any thread. Where a thread can block, and what wakes it:

        - in :meth:`receive` and :meth:`finish`, for bytes: the stream's abort;
        - in :meth:`send_stdin` and :meth:`end_stdin`, for room: the stream's abort.

        All of them raise :class:`Aborted`. :meth:`open` can be blocked too, but nobody has the
        session to close it then: its deadline ends it.
        """
        self._stream.close()
        if self._trace is not None:
            self._trace.closed()

    def ping(self) -> None:
        """Send a ping if that takes no waiting; the reader's, while the session is idle."""
        if self._trace is not None:
            self._trace.sent([b""], PING)
        with suppress(ConnectionLost, Aborted):  # whoever receives will be told
            self._stream.try_send(_control_frame(PING, b""))

    # Receiving

    def _read(self, deadline: Deadline) -> bytes:
        while True:
            self._stream.read_deadline = deadline.within(PING_AFTER)
            try:
                if data := self._stream.recv():
                    return data
                raise ConnectionLost(
                    "the connection to the API server ended in the middle of the session",
                    advice="Try again; the API server or the node may have been restarted.",
                )
            except TimeoutError:
                deadline.remaining()  # raises, where this was the deadline's own
                self.ping()
            except ConnectionLost as lost:
                self._note(lost)
                raise

    def _take_in(self, data: bytes) -> None:
        """Turn what came into events, and act on control frames."""
        messages = self._messages.feed(data)
        if self._trace is not None:
            messages = self._trace.received(messages)
        try:
            for message in messages:
                if message.opcode >= CLOSE:
                    self._control(message)
                elif (event := channels.decode(self.protocol, message.data)) is not None:
                    self._events.append(event)
                if self._closed is not None:
                    return  # what follows a close frame is not read
        except Violation as violation:
            self._failure = self._note(
                ServerError(
                    f"the API server does not keep to the WebSocket protocol: {violation}",
                    advice="A proxy between here and the API server may be at fault.",
                )
            )

    def _control(self, message: Message) -> None:
        """Act on a control frame (RFC 6455, section 5.5)."""
        data = message.data
        if message.opcode == PING:
            self._owe(PONG, data)
        elif message.opcode == CLOSE:
            code = int.from_bytes(data[:2], "big") if data else _NO_STATUS_RECEIVED
            self._closed = Closed(code, data[2:].decode("utf-8", "replace"))
            self._owe(CLOSE, data[:2])
        self._pay_dues()

    def _owe(self, opcode: int, payload: bytes) -> None:
        if self._trace is not None:
            self._trace.sent([payload], opcode)
        self._due.append(_control_frame(opcode, payload))

    def _note(self, failure: ServerError) -> ServerError:
        if self._trace is not None:
            self._trace.failed(failure)
        return failure

    # Sending

    def _send(self, messages: Sequence[bytes]) -> None:
        if self._closed is not None:
            raise ConnectionLost("the API server has closed the session")
        if self._trace is not None:
            self._trace.sent(messages)
        frames = [self._masker.frame(message) for message in messages]
        with suppress(IndexError):
            frames.insert(0, self._due.popleft())
        try:
            self._stream.send(b"".join(frames))
        except ConnectionLost as lost:
            self._note(lost)
            raise

    def _pay_dues(self) -> None:
        """Send the control frame that is due, if that takes no waiting."""
        # The sender may take it at any time, but nobody else puts one there.
        with suppress(IndexError, ConnectionLost, Aborted):  # why may be received yet
            due = self._due.popleft()
            if not self._stream.try_send(due):
                self._due.append(due)


def _control_frame(opcode: int, payload: bytes) -> bytes:
    frame: bytes = websocket.ABNF.create_frame(payload, opcode).format()
    return frame


def _shake_hands(
    stream: Stream,
    endpoint: Endpoint,
    headers: Mapping[str, str],
    target: ExecTarget,
    command: Sequence[str],
    protocols: Sequence[Protocol],
) -> Protocol:
    """Ask for the session; return the protocol that the server chose.

    All of ``protocols`` stand in one header line: servers read only the first one. A redirect is
    not followed, since our credentials would go with it.
    """
    scheme, default_port = ("wss", 443) if endpoint.context else ("ws", 80)
    path = exec_path(endpoint.base_path, target, command)
    host = endpoint.authority
    if endpoint.port == default_port:
        host = host.removesuffix(f":{default_port}")
    names = [protocol.value for protocol in protocols]
    asked = Request(  # without its query: that holds the script, which is logged on its own
        log,
        f"GET {scheme.replace('ws', 'http')}://{endpoint.authority}{path.partition('?')[0]}",
        {**headers, "Sec-WebSocket-Protocol": ", ".join(names)},
    )
    sock = HandshakeSocket(stream)
    client = websocket.WebSocket(enable_multithread=False)
    try:
        client.connect(
            f"{scheme}://{endpoint.authority}{path}",
            socket=sock,
            host=host,
            header=header_lines(headers),
            subprotocols=names,
            suppress_origin=True,
            redirect_limit=0,
        )
    except websocket.WebSocketBadStatusException as error:
        asked.answered(error.status_code)
        body = error.resp_body
        if body is None:
            body = sock.body(error.resp_headers)
        body = without_secrets(body, headers)
        raise refusal(error.status_code, body, f"exec in {target}") from None
    except websocket.WebSocketTimeoutException as error:
        asked.answered(None)
        raise TimeoutError("timed out") from error
    except websocket.WebSocketException as error:
        asked.answered(client.getstatus())
        raise _no_session(client, error, headers, target) from None
    asked.answered(client.getstatus())
    return Protocol(client.subprotocol)


def _no_session(
    client: websocket.WebSocket, error: Exception, headers: Mapping[str, str], target: ExecTarget
) -> PodcpError:
    """Return the error for an answer that websocket-client took for no handshake."""
    what = f"exec in {target}"
    status = client.getstatus()
    if status is not None:  # what it knows of an answer that it did not accept: a redirect
        location = f"to {client.getheaders().get('location', 'nowhere')}"
        return refusal(status, without_secrets(location.encode(), headers), what)
    if isinstance(error, websocket.WebSocketConnectionClosedException):
        return ConnectionLost(
            f"the API server closed the connection instead of answering {what}",
            advice="Try again; a load balancer may have no API server to pass it to.",
        )
    said = without_secrets(str(error).encode(), headers)[:200].decode("utf-8", "replace")
    return ServerError(
        f"the answer to {what} opens no session: {said}",
        advice="The server speaks neither protocol, or a proxy on the way knows no WebSockets.",
    )


def run(
    endpoint: Endpoint,
    headers: Mapping[str, str],
    target: ExecTarget,
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float,
    most: int = MAX_OUTPUT,
) -> Completed:
    """Run a small command to its end and return what it said; whether it succeeded is in there.

    On v5 its stdin ends after ``stdin``; on v4 it cannot, so the command must not wait for that.

    :param stdin: at most :data:`MAX_INPUT` bytes: they are sent before anything is received, and
        more than the buffers on the way would wait for a command that waits for us.
    :param timeout: seconds for everything, connecting included.
    :param most: longest output that is taken, in bytes; stdout and stderr each.
    :raises ServerError: no end within ``timeout``, or more output than ``most``.
    :raises ConnectionLost: the session ended without a status.
    :raises PodcpError: like :meth:`ExecSession.open` and :meth:`ExecSession.receive`.
    :raises ValueError: ``stdin`` is too long.
    """
    if len(stdin) > MAX_INPUT:
        raise ValueError(f"stdin of {len(stdin)} bytes; {MAX_INPUT} is the most")
    deadline = Deadline(timeout)
    session = ExecSession.open(endpoint, headers, target, command, timeout=timeout)
    try:
        with suppress(ConnectionLost):  # why the server went may be on its way to us
            session.feed(stdin, deadline)
        return _collect(session, deadline, target, most)
    except TimeoutError as error:
        raise ServerError(
            f"exec in {target} did not end within {timeout:g} s",
            advice="Try again; see whether the Pod's node is healthy.",
        ) from error
    finally:
        session.close()


def _collect(session: ExecSession, deadline: Deadline, target: ExecTarget, most: int) -> Completed:
    output = {Stdout: bytearray(), Stderr: bytearray()}
    while True:
        event = session.receive(deadline.remaining())
        if isinstance(event, Stdout | Stderr):
            collected = output[type(event)]
            collected += event.data
            if len(collected) > most:
                raise ServerError(f"exec in {target} says more than {most} bytes")
        elif isinstance(event, Status):
            return Completed(bytes(output[Stdout]), bytes(output[Stderr]), event)
        elif isinstance(event, Closed):
            raise ConnectionLost(
                f"exec in {target} was closed without a status (code {event.code})",
                advice="Try again; see whether the Pod's node is healthy.",
            )
