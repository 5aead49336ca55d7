"""An exec session: a command in a container, its stdin, stdout, stderr and status.

In: where and what to run. Out: :class:`ExecSession`, whose events are those of
:mod:`kubectl_podcp.exec.channels`, :class:`Closed` among them. Raises the errors of
:mod:`kubectl_podcp.errors`, :class:`Aborted` after :meth:`ExecSession.close`, and ``TimeoutError``.
One thread may receive while another sends; any may close.

websocket-client makes the opening handshake and reads frames. Its own receive loop is not used:
it answers pings and close frames at once, in the sender's turn, so that a stalled sender stops
the reader.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import websocket

from kubectl_podcp.errors import ConnectionLost, PodcpError, ServerError, Unreachable
from kubectl_podcp.exec import channels
from kubectl_podcp.exec.channels import Closed, Event, Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.deadline import Deadline
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
from kubectl_podcp.exec.tls import Endpoint, connect

__all__ = ["Aborted", "Closed", "Completed", "ExecSession", "ExecTarget", "run"]

MAX_MESSAGE = 1024 * 1024 + 1
"""Longest message that we take, in bytes. Kubernetes sends 32 KiB and a channel byte."""

MAX_INPUT = 64 * 1024
MAX_OUTPUT = 1024 * 1024
"""Limits of :func:`run`, in bytes; the output's holds for stdout and stderr each."""

OPEN_TIMEOUT = 8.0
"""Seconds for connecting and the handshake: with start-up, a user waits 10 at the most."""

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

    Lock order: ``_sending``, then the stream's own.

    :ivar protocol: the version that the server chose.
    :ivar stall_timeout: seconds in which :meth:`send_stdin` must have got rid of its message;
        None for no limit. Set it before the first.
    """

    def __init__(self, stream: Stream, protocol: Protocol) -> None:
        self.protocol = protocol
        self.stall_timeout: float | None = None
        self._stream = stream
        # The reader's.
        self._frames = _Frames(self._read, skip_utf8_validation=True)
        self._fragments: bytearray | None = None
        self._closed: Closed | None = None
        # Put there by the reader, taken by whoever holds the lock: the newest control frame due.
        self._due: deque[bytes] = deque(maxlen=1)
        # Guarded by the lock: what remains of a frame that was begun. Nothing else may be sent
        # before it, or the server would take the next frame for this one's rest.
        self._sending = threading.Lock()
        self._masker = Masker()
        self._begun = b""

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
        stream = Stream(connect(endpoint, timeout))
        try:
            stream.settimeout(deadline.remaining())
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
        return cls(stream, protocol)

    def receive(self, timeout: float | None = None) -> Event | Closed:
        """Return the next event; :class:`Closed` at the end, again and again.

        :param timeout: seconds to wait; ``None`` until something comes or :meth:`close`.
        :raises TimeoutError: nothing came, or a message is not whole yet: call again to go on.
        :raises ConnectionLost: the connection ended without a close frame.
        :raises ServerError: what came is not the protocol.
        :raises Aborted: after :meth:`close`.
        """
        self._stream.read_deadline = Deadline(timeout)
        self._pay_dues()
        while self._closed is None:
            message = self._next_message()
            event = None if message is None else channels.decode(self.protocol, message)
            if event is not None:
                return event
        return self._closed

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

    def send_stdin(self, data: bytes) -> None:
        """Write ``data`` to the command's stdin in one message; blocks while the server is slow.

        One message, one frame: the API server takes a continuation frame for a new message, whose
        first byte it takes for the channel.

        :param data: ``bytes``, at most 32 KiB; a ``memoryview`` is masked far more slowly.
        :raises ConnectionLost: the server is gone, has closed the session, or took nothing for
            :attr:`stall_timeout`. Go on receiving: the reason may have been sent before.
        :raises Aborted: after :meth:`close`.
        """
        if self.stall_timeout is None:
            self._send(channels.stdin(data))
            return
        self._stream.write_deadline = Deadline(self.stall_timeout)
        try:
            self._send(channels.stdin(data))
        except TimeoutError:
            raise ConnectionLost(
                f"the destination took nothing for {self.stall_timeout:g} s",
                advice="Try again; see whether the container and its node are healthy.",
            ) from None

    def end_stdin(self) -> None:
        """End the command's stdin; raises like :meth:`send_stdin`.

        :raises ValueError: on v4, which cannot.
        """
        self._send(channels.end_of_stdin(self.protocol))

    def feed(self, data: bytes, deadline: Deadline) -> None:
        """Write ``data`` to stdin in messages of 32 KiB, and end stdin where the protocol can.

        :raises TimeoutError: ``deadline`` has passed; the session is only good to be closed then.
        :raises ConnectionLost: like :meth:`send_stdin`.
        """
        self._stream.write_deadline = deadline
        for start in range(0, len(data), _PIECE):
            self.send_stdin(data[start : start + _PIECE])
        if self.protocol is Protocol.V5:
            self.end_stdin()
        self._stream.write_deadline = Deadline(None)

    def close(self) -> None:
        """Give the session up, and close the connection without a word to the server.

        Idempotent; from any thread. Where a thread can block, and what wakes it:

        - in :meth:`receive` and :meth:`finish`, for bytes: the stream's abort;
        - in :meth:`send_stdin` and :meth:`end_stdin`, for room: the stream's abort;
        - there, for another sender's turn to end: that sender is woken as above.

        All of them raise :class:`Aborted`. :meth:`open` can be blocked too, but nobody has the
        session to close it then: its deadline ends it.
        """
        self._stream.close()

    # Receiving

    def _read(self, size: int) -> bytes:
        data = self._stream.recv(size)
        if not data:
            raise ConnectionLost(
                "the connection to the API server ended in the middle of the session",
                advice="Try again; the API server or the node may have been restarted.",
            )
        return data

    def _next_message(self) -> bytes | None:
        """Receive one frame; return the message if that completes one.

        Fragments are joined (RFC 6455, section 5.4), with control frames between them: Kubernetes
        does not fragment, but a proxy may.
        """
        try:
            frame = self._frames.recv_frame()
        except websocket.WebSocketException as error:
            _violated(str(error), error)
        opcode, data = frame.opcode, frame.data
        if frame.mask_value:
            _violated("it masked a frame")  # RFC 6455, section 5.1
        if opcode >= websocket.ABNF.OPCODE_CLOSE:
            self._control(opcode, data, frame.fin)
            return None
        if opcode == websocket.ABNF.OPCODE_TEXT:
            _violated("it sent text, which belongs to the base64 protocols that we did not offer")
        if (opcode == websocket.ABNF.OPCODE_CONT) is (self._fragments is None):
            _violated("a fragment out of place")
        return self._joined(data, frame.fin)

    def _joined(self, data: bytes, is_last: bool) -> bytes | None:
        if self._fragments is None:
            if is_last:
                return data
            self._fragments = bytearray()
        self._fragments += data
        if len(self._fragments) > MAX_MESSAGE:
            _violated(f"a message of more than {MAX_MESSAGE} bytes")
        if not is_last:
            return None
        message = bytes(self._fragments)
        self._fragments = None
        return message

    def _control(self, opcode: int, data: bytes, is_whole: bool) -> None:
        """Act on a control frame (RFC 6455, section 5.5)."""
        if len(data) > 125 or not is_whole:
            _violated("a control frame that is too long or in fragments")
        if opcode == websocket.ABNF.OPCODE_PING:
            self._due.append(_control_frame(websocket.ABNF.OPCODE_PONG, data))
        elif opcode == websocket.ABNF.OPCODE_CLOSE:
            code = int.from_bytes(data[:2], "big") if data else _NO_STATUS_RECEIVED
            self._closed = Closed(code, data[2:].decode("utf-8", "replace"))
            self._due.append(_control_frame(opcode, data[:2]))
        self._pay_dues()

    # Sending

    def _send(self, message: bytes) -> None:
        with self._sending:
            if self._closed is not None:
                raise ConnectionLost("the API server has closed the session")
            self._push(self._stream.send)
            self._take_due()
            self._push(self._stream.send)
            self._begun = self._masker.frame(message)
            self._push(self._stream.send)

    def _pay_dues(self) -> None:
        """Send the control frame that is due, if that takes no waiting; the reader's only send."""
        if not self._due and not self._begun:
            return
        if not self._sending.acquire(blocking=False):
            return  # the sender does it before its next message
        try:
            self._push(self._stream.try_send)
            if not self._begun:
                self._take_due()
                self._push(self._stream.try_send)
        except (ConnectionLost, Aborted):
            pass  # what was received before may explain it, so reading finds out by itself
        finally:
            self._sending.release()

    def _take_due(self) -> None:
        if self._due:
            self._begun = self._due.popleft()

    def _push(self, send: Callable[[bytes], int]) -> None:
        """Send what was begun, until ``send`` says that nothing goes now."""
        while self._begun and (sent := send(self._begun)):
            self._begun = self._begun[sent:]


class _Frames(websocket.frame_buffer):  # type: ignore[misc]
    """websocket-client's reader of frames, which refuses a length before it reads that much."""

    def recv_length(self) -> None:
        super().recv_length()
        if self.length > MAX_MESSAGE:
            _violated(f"a message of {self.length} bytes; {MAX_MESSAGE} is the most")


def _control_frame(opcode: int, payload: bytes) -> bytes:
    frame: bytes = websocket.ABNF.create_frame(payload, opcode).format()
    return frame


def _violated(how: str, cause: Exception | None = None) -> NoReturn:
    """Raise what a breach of RFC 6455 by the server means."""
    raise ServerError(
        f"the API server does not keep to the WebSocket protocol: {how}",
        advice="A proxy between here and the API server may be at fault.",
    ) from cause


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
    sock = HandshakeSocket(stream)
    client = websocket.WebSocket(enable_multithread=False)
    try:
        client.connect(
            f"{scheme}://{endpoint.authority}{path}",
            socket=sock,
            host=host,
            header=header_lines(headers),
            subprotocols=[protocol.value for protocol in protocols],
            suppress_origin=True,
            redirect_limit=0,
        )
    except websocket.WebSocketBadStatusException as error:
        body = error.resp_body
        if body is None:
            body = sock.body(error.resp_headers)
        body = without_secrets(body, headers)
        raise refusal(error.status_code, body, f"exec in {target}") from None
    except websocket.WebSocketTimeoutException as error:
        raise TimeoutError("timed out") from error
    except websocket.WebSocketException as error:
        raise _no_session(client, error, headers, target) from None
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
) -> Completed:
    """Run a small command to its end and return what it said; whether it succeeded is in there.

    On v5 its stdin ends after ``stdin``; on v4 it cannot, so the command must not wait for that.

    :param stdin: at most :data:`MAX_INPUT` bytes: they are sent before anything is received, and
        more than the buffers on the way would wait for a command that waits for us.
    :param timeout: seconds for everything, connecting included.
    :raises ServerError: no end within ``timeout``, or more output than :data:`MAX_OUTPUT`.
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
        return _collect(session, deadline, target)
    except TimeoutError as error:
        raise ServerError(
            f"exec in {target} did not end within {timeout:g} s",
            advice="Try again; see whether the Pod's node is healthy.",
        ) from error
    finally:
        session.close()


def _collect(session: ExecSession, deadline: Deadline, target: ExecTarget) -> Completed:
    output = {Stdout: bytearray(), Stderr: bytearray()}
    while True:
        event = session.receive(deadline.remaining())
        if isinstance(event, Stdout | Stderr):
            collected = output[type(event)]
            collected += event.data
            if len(collected) > MAX_OUTPUT:
                raise ServerError(f"exec in {target} says more than {MAX_OUTPUT} bytes")
        elif isinstance(event, Status):
            return Completed(bytes(output[Stdout]), bytes(output[Stderr]), event)
        elif isinstance(event, Closed):
            raise ConnectionLost(
                f"exec in {target} was closed without a status (code {event.code})",
                advice="Try again; see whether the Pod's node is healthy.",
            )
