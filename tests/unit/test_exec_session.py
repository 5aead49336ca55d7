"""Exec sessions against a server that plays scripts: real TLS, frames by hand."""

from __future__ import annotations

import dataclasses
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from kubectl_podcp.errors import (
    CertificateError,
    ConnectionLost,
    ContainerNotFound,
    Forbidden,
    KubeconfigError,
    PodcpError,
    PodNotFound,
    PodNotRunning,
    ProtocolRefused,
    ServerError,
    Unauthorized,
    Unreachable,
)
from kubectl_podcp.exec import handshake, session
from kubectl_podcp.exec.channels import Ignored, Protocol, Status, Stderr, Stdout, StreamClosed
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.frames import MAX_MESSAGE
from kubectl_podcp.exec.handshake import MAX_ANSWER, exec_path
from kubectl_podcp.exec.session import (
    MAX_OUTPUT,
    Aborted,
    Closed,
    ExecSession,
    ExecTarget,
    run,
)
from kubectl_podcp.exec.stream import Stream
from kubectl_podcp.exec.tls import Endpoint, dial
from tests.unit.peers import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    SECONDS,
    TEXT,
    Background,
    Peer,
    Script,
    client_context,
    frame,
    noise,
    server_context,
    serving,
    until,
)

TARGET = ExecTarget("default", "web-0", "app")
COMMAND = ["sh", "-c", "cat"]
TOKEN = "eyJhbGciOiJSUzI1NiJ9.secret"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "User-Agent": "kubectl-podcp"}
SUCCESS = Status(True, "", "", 0)

CONTEXT = server_context()


def opened(endpoint: Endpoint, **more: Any) -> ExecSession:
    return ExecSession.open(endpoint, HEADERS, TARGET, COMMAND, timeout=SECONDS, **more)


@contextmanager
def session_with(script: Script, context: ssl.SSLContext | None = CONTEXT) -> Iterator[ExecSession]:
    """Give a v5 session with a server that plays ``script`` after the opening handshake."""

    def accept_and_play(peer: Peer) -> None:
        peer.accept()
        script(peer)

    with serving(accept_and_play, context=context) as endpoint:
        opening = opened(endpoint)
        try:
            yield opening
        finally:
            opening.close()


def playing(*frames: bytes) -> Script:
    """Return a script that sends frames, then waits for the client to go."""

    def script(peer: Peer) -> None:
        peer.write(b"".join(frames))
        peer.wait_for_end()

    return script


def dialled(endpoint: Endpoint) -> Stream:
    """Return a stream to the server, in TLS where that speaks it, before the opening handshake."""
    stream = Stream(dial(endpoint, Deadline(SECONDS)))
    if endpoint.context is not None:
        stream.secure(endpoint.context, endpoint.server_name)
    return stream


def refused(script: Script, headers: dict[str, str] = HEADERS, **more: Any) -> PodcpError:
    """Return the error of an opening that the server's script does not grant."""
    with serving(script, context=CONTEXT) as endpoint, pytest.raises(PodcpError) as caught:
        ExecSession.open(endpoint, headers, TARGET, COMMAND, **{"timeout": SECONDS, **more})
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(caught.value)
    return caught.value


def answering(answer: bytes) -> Script:
    """Return a script that answers the opening handshake, and closes."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.write(answer)

    return script


def staying(answer: bytes) -> Script:
    """Return a script that answers, and keeps the connection."""

    def script(peer: Peer) -> None:
        answering(answer)(peer)
        peer.wait_for_end()

    return script


# The request


def test_the_request() -> None:
    """One header line with all protocols, no Origin, the given headers as they are."""
    lines: list[str] = []

    def script(peer: Peer) -> None:
        lines.extend(peer.accept())
        peer.wait_for_end()

    with serving(script, context=CONTEXT) as endpoint:
        opened(dataclasses.replace(endpoint, base_path="/k8s/clusters/c-1")).close()
    assert lines[0] == (
        "GET /k8s/clusters/c-1/api/v1/namespaces/default/pods/web-0/exec?command=sh&command=-c"
        "&command=cat&container=app&stdin=true&stdout=true&stderr=true HTTP/1.1"
    )
    assert f"Host: {endpoint}" in lines
    assert "Sec-WebSocket-Protocol: v5.channel.k8s.io,v4.channel.k8s.io" in lines
    assert f"Authorization: Bearer {TOKEN}" in lines
    assert "User-Agent: kubectl-podcp" in lines
    assert not any(line.lower().startswith(("origin:", "cookie:")) for line in lines)


def test_no_limit_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal's body has a limit of its own even where the stream has none."""
    monkeypatch.setattr(handshake, "REFUSAL_TIMEOUT", 0.1)
    with serving(staying(b"HTTP/1.1 403 No\r\n\r\n")) as endpoint:
        stream = dialled(endpoint)
        with pytest.raises(ProtocolRefused):
            session._shake_hands(stream, endpoint, {}, TARGET, COMMAND, [Protocol.V5])
        stream.close()


def test_the_usual_port_is_not_in_the_host() -> None:
    """Some load balancers look for the bare name."""
    lines: list[str] = []

    def script(peer: Peer) -> None:
        lines.extend(peer.accept())
        peer.wait_for_end()

    with serving(script) as endpoint:
        stream = dialled(endpoint)
        usual = dataclasses.replace(endpoint, host="kubernetes", port=80)
        session._shake_hands(stream, usual, {}, TARGET, COMMAND, [Protocol.V5])
        stream.close()
    assert "Host: kubernetes" in lines


def test_arguments_are_quoted() -> None:
    """Nothing of an argument can become another parameter, or be lost."""
    command = ["a&b=c", "d e+f", "ü\udcff", "%41;#?/", ""]
    path = exec_path("", ExecTarget("n/s", "p?", "c"), command)
    assert path == (
        "/api/v1/namespaces/n%2Fs/pods/p%3F/exec?command=a%26b%3Dc&command=d%20e%2Bf"
        "&command=%C3%BC%FF&command=%2541%3B%23%3F%2F&command="
        "&container=c&stdin=true&stdout=true&stderr=true"
    )


def test_a_header_with_a_line_break_is_refused() -> None:
    """A token file's last newline, or worse."""
    error = refused(Peer.wait_for_end, {"Authorization": f"Bearer {TOKEN}\nX-Remote-User: root"})
    assert isinstance(error, KubeconfigError)
    assert "Authorization" in error.happened


@pytest.mark.parametrize("protocol", Protocol)
def test_the_server_chooses_the_protocol(protocol: Protocol) -> None:
    """Servers before 1.30, and nodes, take v4."""

    def script(peer: Peer) -> None:
        peer.accept(protocol.value)
        peer.wait_for_end()

    with serving(script, context=CONTEXT) as endpoint:
        chosen = opened(endpoint)
        assert chosen.protocol is protocol
        if protocol is Protocol.V4:
            with pytest.raises(ValueError, match="cannot end stdin"):
                chosen.end_stdin()
        chosen.close()


# Refusals


def with_length(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(status: str, *chunks: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x;note\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def status_document(message: str) -> bytes:
    return json.dumps({"kind": "Status", "status": "Failure", "message": message}).encode()


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (with_length("401 Unauthorized", status_document("who?")), Unauthorized, "who?"),
        (with_length("403 Forbidden", status_document("no exec")), Forbidden, "no exec"),
        (with_length("404 Not Found", status_document('pods "x"')), PodNotFound, 'pods "x"'),
        (
            with_length("400 Bad", status_document("container z is not valid for pod x")),
            ContainerNotFound,
            "container z",
        ),
        (with_length("500 X", b'container not found ("c")'), PodNotRunning, "not found"),
        (b"HTTP/1.1 500 X\r\n\r\n" + b'container not found ("c")', PodNotRunning, "not found"),
        (b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n", ProtocolRefused, "HTTP 403"),
        (chunked("403 Forbidden", b"cut") + b"9\r\nof", Forbidden, "cut"),
        (with_length("403 Forbidden", b""), ProtocolRefused, "HTTP 403"),
        (with_length("200 OK", b"{}"), ServerError, "HTTP 200"),
        (b"", ConnectionLost, "instead of answering"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ServerError, "opens no session"),
        (b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", ServerError, "opens no session"),
        (b"HTTP/1.1 401 X\r\nContent-Length: 9\r\n\r\nshort", ConnectionLost, "instead"),
    ],
)
def test_a_refused_opening(answer: bytes, kind: type[PodcpError], said: str) -> None:
    """Each is told by its status and body, whatever announces the body's length."""
    error = refused(answering(answer))
    assert type(error) is kind
    assert said in error.happened


def test_a_chunked_refusal_on_a_connection_that_stays() -> None:
    """Its end is known from the chunks; nobody waits for more."""
    document = status_document("no exec")
    began = time.monotonic()
    error = refused(staying(chunked("403 Forbidden", document[:9], document[9:], b"")))
    assert isinstance(error, Forbidden)
    assert "no exec" in error.happened
    assert time.monotonic() - began < handshake.REFUSAL_TIMEOUT


@pytest.mark.parametrize(
    "answer",
    [
        chunked("403 Forbidden", b"half a"),
        chunked("403 Forbidden", b"half a") + b"nonsense\r\n",
        chunked("403 Forbidden", b"half a") + b"5\r\nxy",
        b"HTTP/1.1 403 Forbidden\r\n\r\nhalf a",
    ],
)
def test_a_body_that_does_not_end(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of it must do; the wait for it is short."""
    monkeypatch.setattr(handshake, "REFUSAL_TIMEOUT", 0.1)
    error = refused(staying(answer))
    assert isinstance(error, Forbidden)
    assert "half a" in error.happened


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 403 No\r\n\r\n"])
def test_an_answer_without_end(start: bytes) -> None:
    """Its head and its body are limited."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.write(start + b"x" * (MAX_ANSWER + 1))
        peer.wait_for_end()

    error = refused(script)
    assert isinstance(error, ServerError | Forbidden)
    assert len(str(error)) < 1000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """The credentials are for the server in the kubeconfig, not for whom that one names."""
    visits: list[str] = []

    def visited(peer: Peer) -> None:
        visits.extend(peer.read_head())

    with serving(visited) as elsewhere:
        location = f"ws://{elsewhere}/{TOKEN}"
        error = refused(answering(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\n\r\n".encode()))
    assert type(error) is ServerError
    assert f"redirect (HTTP {status}): to ws://{elsewhere}/..." in error.happened
    assert visits == []


@pytest.mark.parametrize("protocol", ["", "v1.channel.k8s.io", "base64.channel.k8s.io"])
def test_a_protocol_that_we_did_not_offer(protocol: str) -> None:
    """A 101 is not enough."""

    def script(peer: Peer) -> None:
        peer.accept(protocol)

    error = refused(script)
    assert type(error) is ServerError


def test_the_token_is_struck_out_of_what_the_server_repeats() -> None:
    """A proxy that shows the request for debugging."""
    echo = f"you sent Authorization: Bearer {TOKEN} ({TOKEN})".encode()
    error = refused(answering(with_length("502 Bad Gateway", echo)))
    assert "you sent Authorization: ... (...)" in error.happened
    refused(answering(f"HTTP/1.1 101 X\r\n{TOKEN}\r\n\r\n".encode()))
    without = refused(answering(with_length("502 Bad Gateway", b"as it came")), headers={})
    assert "as it came" in without.happened


def test_the_certificate_is_checked() -> None:
    """Before anything of the request is sent; the errors are those of the connection."""
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.rest())

    with serving(script, context=server_context("kubernetes")) as endpoint:
        with pytest.raises(CertificateError, match="Hostname mismatch"):
            opened(endpoint)
        with pytest.raises(CertificateError, match="no server name"):
            opened(dataclasses.replace(endpoint, server_name=""))
    with serving(script) as endpoint:
        silent = dataclasses.replace(endpoint, context=client_context())
        with pytest.raises(Unreachable, match=f"cannot connect to {endpoint}: timed out"):
            ExecSession.open(silent, HEADERS, TARGET, COMMAND, timeout=0.2)
    assert [TOKEN.encode() in head for head in heads] == [False]


def test_a_silent_server() -> None:
    """It took the connection, and that was all."""
    error = refused(Peer.wait_for_end, timeout=0.3)
    assert isinstance(error, Unreachable)
    assert "did not answer exec in default/web-0 (container app) within 0.3 s" in error.happened


def test_a_reset_instead_of_an_answer() -> None:
    """The connection broke: it may be tried again."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    assert isinstance(refused(script), ConnectionLost)


# Receiving


def test_a_whole_session() -> None:
    """The empty first frame, output, status, close: and Closed again, however often one asks."""

    def script(peer: Peer) -> None:
        peer.send(b"\1")
        assert peer.read_frame() == (BINARY, b"\0input")
        assert peer.read_frame() == (BINARY, b"\xff\0")
        peer.send(b"\1output")
        peer.send(b"\2error")
        peer.send(b"\xff\1")
        peer.send(b"\x09?")
        peer.status()
        assert peer.read_frame() == (CLOSE, b"\x03\xe8")
        peer.wait_for_end()

    with session_with(script) as running:
        running.send_stdin(b"input")
        running.end_stdin()
        events = [running.receive(SECONDS) for _ in range(7)]
        with pytest.raises(ConnectionLost, match="has closed the session"):
            running.send_stdin(b"more")
    assert events == [
        Stdout(b"output"),
        Stderr(b"error"),
        StreamClosed(1),
        Ignored(9),
        SUCCESS,
        Closed(1000, ""),
        Closed(1000, ""),
    ]


@pytest.mark.parametrize(
    ("payload", "closed"),
    [(b"", Closed(1005, "")), (b"\x03\xf3went \xff away", Closed(1011, "went \ufffd away"))],
)
def test_close_frames(payload: bytes, closed: Closed) -> None:
    """Without a code, and with a reason that is not UTF-8."""
    with session_with(playing(frame(payload, CLOSE))) as running:
        assert running.receive(SECONDS) == closed


def test_fragments_are_joined() -> None:
    """With a ping between them, and empty ones at both ends."""
    frames = [
        frame(b"", BINARY, final=False),
        frame(b"\1ab", 0, final=False),
        frame(b"?", PING),
        frame(b"cd", 0, final=False),
        frame(b"", 0),
        frame(b"\1whole"),
        frame(b"\2e", BINARY, final=False),
        frame(b"f", 0),
    ]
    with session_with(playing(*frames)) as running:
        events = [running.receive(SECONDS) for _ in range(3)]
    assert events == [Stdout(b"abcd"), Stdout(b"whole"), Stderr(b"ef")]


def test_the_longest_message() -> None:
    """Whole and in fragments."""
    message = b"\1" + noise(MAX_MESSAGE - 1)
    frames = [frame(message), frame(message[:9], BINARY, False), frame(message[9:], 0)]
    with session_with(playing(*frames)) as running:
        assert [running.receive(SECONDS) for _ in range(2)] == [Stdout(message[1:])] * 2


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([frame(b"", size=MAX_MESSAGE + 1)], f"{MAX_MESSAGE + 1} bytes"),
        ([frame(b"", size=1 << 62)], f"{1 << 62} bytes"),
        ([frame(b"x" * (MAX_MESSAGE - 1), final=False), frame(b"xx", 0)], "more than"),
        ([frame(b"\1text", TEXT)], "text"),
        ([frame(b"x", 0)], "fragment out of place"),
        ([frame(b"x", final=False), frame(b"y")], "fragment out of place"),
        ([b"\x82\x81\0\0\0\0x"], "masked"),
        ([frame(b"x" * 126, PING)], "control frame"),
        ([frame(b"x", PONG, final=False)], "control frame"),
        ([frame(b"x", PING, final=False)], "control frame"),
        ([frame(b"x", CLOSE)], "close"),
        ([frame(b"\0\1", CLOSE)], "close"),
        ([frame(b"x", 3)], "opcode"),
        ([b"\xc2\x01x"], "rsv"),
    ],
)
def test_breaches_of_the_protocol(frames: list[bytes], said: str) -> None:
    """Each is the server's fault, and never waits for bytes that it announced."""
    with session_with(playing(frame(b"\1before"), *frames)) as running:
        assert running.receive(SECONDS) == Stdout(b"before")
        for _ in range(2):
            with pytest.raises(ServerError, match="WebSocket protocol") as caught:
                running.receive(SECONDS)
            assert said in caught.value.happened


def test_what_came_together_is_at_hand() -> None:
    """It is given one by one; the session knows whether there is more without asking for it."""
    together = [frame(b"\1a"), frame(b"\2b"), frame(b"?", PING), frame(b"\1c"), b"\x82"]
    with session_with(playing(b"".join(together))) as running:
        assert not running.buffered
        seen = []
        for _ in range(3):
            seen.append((running.receive(SECONDS), running.buffered))
        with pytest.raises(TimeoutError):
            running.receive(0.02)
    assert seen == [(Stdout(b"a"), True), (Stderr(b"b"), True), (Stdout(b"c"), False)]


def test_nothing_is_read_behind_a_close_frame() -> None:
    """Neither messages nor nonsense."""
    ending = frame(b"\1last") + frame(b"\x03\xe8", CLOSE) + frame(b"\1more") + b"\xff\xff"
    with session_with(playing(ending)) as running:
        assert running.receive(SECONDS) == Stdout(b"last")
        for _ in range(2):
            assert running.receive(SECONDS) == Closed(1000, "")


@pytest.mark.parametrize("context", [CONTEXT, None], ids=["TLS", "plain"])
@pytest.mark.parametrize("end", [lambda _: None, Peer.reset], ids=["end", "reset"])
def test_an_end_without_a_close_frame(
    end: Callable[[Peer], None], context: ssl.SSLContext | None
) -> None:
    """A dying API server; what it sent before is given first."""

    def script(peer: Peer) -> None:
        peer.send(b"\1last")
        assert peer.read_frame() == (BINARY, b"\0go")
        end(peer)

    with session_with(script, context) as running:
        assert running.receive(SECONDS) == Stdout(b"last")
        running.send_stdin(b"go")
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                running.receive(SECONDS)
            with pytest.raises(ConnectionLost):
                for _ in range(1000):  # a plain socket takes some before it learns of the end
                    running.send_stdin(b"more")


def test_a_message_goes_on_after_a_timeout() -> None:
    """What has come of a frame is kept."""
    whole = frame(b"\1" + b"x" * 1000)
    cuts = [0, 1, 3, 500, len(whole)]

    def script(peer: Peer) -> None:
        for start, end in itertools.pairwise(cuts):
            peer.write(whole[start:end])
            if end < len(whole):
                peer.read_frame()
        peer.wait_for_end()

    with session_with(script) as running:
        for _ in cuts[2:]:
            with pytest.raises(TimeoutError):
                running.receive(0.02)
            running.send_stdin(b"more")
        assert running.receive(SECONDS) == Stdout(b"x" * 1000)


def test_finish() -> None:
    """It reads on to the close frame and gives the status."""
    document = b'{"status":"Failure","reason":"NonZeroExitCode","message":"2"}'
    ending = [frame(b"\1rest"), frame(b"\3" + document), frame(b"\x03\xe8", CLOSE)]
    with session_with(playing(*ending)) as running:
        assert running.finish(SECONDS) == Status(False, "NonZeroExitCode", "2", None)
        assert running.finish(SECONDS) is None
    with session_with(playing(ending[0])) as running, pytest.raises(TimeoutError):
        running.finish(0.05)


# Sending


@pytest.mark.parametrize("context", [CONTEXT, None], ids=["TLS", "plain"])
def test_several_messages_at_once(context: ssl.SSLContext | None) -> None:
    """Each in a frame of its own, in order, before what is sent next."""
    sizes = [1, 0, 125, 126, 32768, 7]
    messages = [noise(size) for size in sizes]
    read: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        read.extend(peer.read_frame() for _ in range(len(sizes) + 2))
        peer.wait_for_end()

    with session_with(script, context) as running:
        running.send_stdin(*messages)
        running.send_stdin(b"next")
        running.end_stdin()
    assert read == [*((BINARY, b"\0" + each) for each in [*messages, b"next"]), (BINARY, b"\xff\0")]


def test_a_destination_that_takes_nothing() -> None:
    """The sender says so after its time; the reader may still hear why."""
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.send(b"\2disk full")
        assert over.wait(SECONDS)

    with session_with(script) as running:
        assert running.stall_timeout is None
        running.stall_timeout = 0.05
        assert running.stall_timeout == 0.05
        with pytest.raises(ConnectionLost, match=r"the destination took nothing for 0\.05 s"):
            while True:
                running.send_stdin(*[bytes(32768)] * 8)
        assert running.receive(SECONDS) == Stderr(b"disk full")
        over.set()


def test_feed_ends_at_its_deadline() -> None:
    """That is no stall: the caller has other words for it."""
    over = threading.Event()

    def script(_: Peer) -> None:
        assert over.wait(SECONDS)

    with session_with(script) as running:
        with pytest.raises(TimeoutError):
            running.feed(bytes(16 << 20), Deadline(0.05))
        over.set()


# Pings


def test_a_ping_is_answered() -> None:
    """At once, if nobody is sending."""

    def script(peer: Peer) -> None:
        peer.send(b"are you there", PING)
        assert peer.read_frame() == (PONG, b"are you there")
        peer.send(b"unasked", PONG)
        peer.status()
        peer.wait_for_end()

    with session_with(script) as running:
        assert running.receive(SECONDS) == SUCCESS


def test_an_idle_session_is_kept_open_by_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are answered does not matter, and a deadline is kept all the same."""
    monkeypatch.setattr(session, "PING_AFTER", 0.02)
    pinged, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        for _ in range(3):
            assert peer.read_frame() == (PING, b"")
        pinged.set()
        peer.send(b"\1after")
        assert over.wait(SECONDS)

    with session_with(script) as running:
        with pytest.raises(TimeoutError):
            running.receive(0.01)
        assert not pinged.is_set()
        assert running.receive(SECONDS) == Stdout(b"after")
        assert pinged.is_set()
        with pytest.raises(TimeoutError):
            running.receive(0.1)
        over.set()


def test_an_idle_session_waits_for_nobody_with_its_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that is stalled keeps its turn, and the reader what it reads."""
    monkeypatch.setattr(session, "PING_AFTER", 0.02)
    pinged, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        assert pinged.wait(SECONDS)
        peer.send(b"\1after")
        assert over.wait(SECONDS)

    with session_with(script) as running:
        sending = Background(lambda: running.send_stdin(bytes(16 << 20)))
        until(lambda: running._stream._polling == 1)
        ping = running.ping

        def noted() -> None:
            ping()
            pinged.set()

        monkeypatch.setattr(running, "ping", noted)
        assert running.receive(SECONDS) == Stdout(b"after")
        running.close()
        assert isinstance(sending.failure(), Aborted)
        over.set()


def test_pings_while_the_sender_is_stalled() -> None:
    """The reader goes on; the last ping is answered between two whole messages."""
    stalled, gone_on = threading.Event(), threading.Event()
    piece = b"stdin" * 6000
    answers: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        assert stalled.wait(SECONDS)
        peer.write(b"".join(frame(b"ping %d" % number, PING) for number in range(10_000)))
        peer.send(b"\1after")
        assert gone_on.wait(SECONDS)
        while (answer := peer.read_frame()) != (BINARY, b"\0end"):
            answers.append(answer)
        peer.wait_for_end()

    with session_with(script) as running:

        def send() -> int:
            count = 0
            while not gone_on.is_set():
                running.send_stdin(piece)
                count += 1
            running.send_stdin(b"end")
            return count

        sending = Background(send)
        until(lambda: running._stream._polling == 1)
        stalled.set()
        assert running.receive(SECONDS) == Stdout(b"after")
        gone_on.set()
        count = sending.result()
    assert [payload for opcode, payload in answers if opcode == PONG][-1] == b"ping 9999"
    assert [answer for answer in answers if answer[0] == BINARY] == [
        (BINARY, b"\0" + piece)
    ] * count


def test_pings_while_nobody_sends_and_the_server_does_not_read() -> None:
    """More pongs than fit on the way: the reader drops all but the newest and goes on."""
    gone_on = threading.Event()
    pong = (PONG, b"x" * 125)

    def script(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        peer.write(frame(pong[1], PING) * 10_000)
        peer.send(b"\1after")
        assert gone_on.wait(SECONDS)
        while (answer := peer.read_frame()) != (BINARY, b"\0end"):
            assert answer == pong
            answers.append(answer)

    answers: list[object] = []
    with session_with(script, context=None) as running:
        running._stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        assert running.receive(SECONDS) == Stdout(b"after")
        gone_on.set()
        running.send_stdin(b"end")
        with pytest.raises(ConnectionLost):
            running.receive(SECONDS)
    assert 0 < len(answers) < 10_000, "the pongs should not all have fitted"


def test_an_answer_that_cannot_be_sent_hides_nothing() -> None:
    """The server is gone; the status that it sent before is what counts."""

    def script(peer: Peer) -> None:
        peer.write(frame(b"?", PING) * 100 + frame(b'\3{"status":"Success"}'))
        peer.sock.close()

    with session_with(script, context=None) as running:
        assert running.receive(SECONDS) == SUCCESS


# Closing


def blocked_in_receive(running: ExecSession) -> list[Background]:
    return [Background(running.receive)]


def blocked_in_finish(running: ExecSession) -> list[Background]:
    return [Background(lambda: running.finish(SECONDS))]


def blocked_in_send(running: ExecSession) -> list[Background]:
    """Return a sender that waits for room."""

    def send() -> None:
        while True:
            running.send_stdin(b"x" * 32768)

    return [Background(send)]


def blocked_in_feed(running: ExecSession) -> list[Background]:
    """Return a sender that waits for room for more than there is on the way."""
    return [Background(lambda: running.feed(bytes(16 << 20), Deadline(None)))]


def blocked_in_both(running: ExecSession) -> list[Background]:
    """Return a receiver and a sender."""
    jobs = blocked_in_send(running) + blocked_in_receive(running)
    until(lambda: running._stream._polling == 2)
    return jobs


BLOCKS = [
    blocked_in_receive,
    blocked_in_finish,
    blocked_in_send,
    blocked_in_feed,
    blocked_in_both,
]


@pytest.mark.parametrize("context", [CONTEXT, None], ids=["TLS", "plain"])
@pytest.mark.parametrize("block", BLOCKS)
def test_close_wakes(
    block: Callable[[ExecSession], list[Background]], context: ssl.SSLContext | None
) -> None:
    """Each place where a thread can block; from several threads, and again."""
    over = threading.Event()

    def script(_: Peer) -> None:
        assert over.wait(SECONDS)

    with session_with(script, context) as running:
        jobs = block(running)
        until(lambda: running._stream._polling == len(jobs))
        closers = [Background(running.close) for _ in range(4)]
        for closer in closers:
            closer.result()
        for job in jobs:
            assert isinstance(job.failure(), Aborted)
        running.close()
        for call in (running.receive, running.end_stdin, lambda: running.send_stdin(b"x")):
            with pytest.raises(Aborted):
                call()
        over.set()


def test_an_abort_wakes_the_opening_handshake() -> None:
    """It waits in the same stream."""
    with serving(Peer.wait_for_end, context=CONTEXT) as endpoint:
        stream = dialled(endpoint)
        opening = Background(
            lambda: session._shake_hands(stream, endpoint, {}, TARGET, COMMAND, [Protocol.V5])
        )
        until(lambda: stream._polling == 1)
        stream.abort()
        assert isinstance(opening.failure(), Aborted)
        stream.close()


def test_a_close_frame_while_the_sender_is_stalled() -> None:
    """The reader hears of it, and whoever closes then wakes the sender."""
    stalled, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        assert stalled.wait(SECONDS)
        peer.status()
        assert over.wait(SECONDS)

    with session_with(script) as running:
        jobs = blocked_in_send(running)
        until(lambda: running._stream._polling == 1)
        stalled.set()
        assert running.receive(SECONDS) == SUCCESS
        assert running.receive(SECONDS) == Closed(1000, "")
        running.close()
        for job in jobs:
            assert isinstance(job.failure(), Aborted | ConnectionLost)
        over.set()


# An independent witness


def test_an_echo_through_the_websockets_library() -> None:
    """Both directions at once, with another implementation of RFC 6455 at the other end."""
    protocols = [Subprotocol("v5.channel.k8s.io")]

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            assert isinstance(message, bytes)
            if message == b"\xff\0":
                break
            assert message[:1] == b"\0"
            connection.send(b"\1" + message[1:])
        connection.send(b'\3{"status":"Success"}')

    server = serve(echo, "127.0.0.1", 0, ssl=CONTEXT, subprotocols=protocols, compression=None)
    running = Background(server.serve_forever)
    port = server.socket.getsockname()[1]
    endpoint = Endpoint("localhost", port, "", client_context(), "localhost")
    pieces = [noise(size) for size in (1, 125, 126, 127, 10240, 32767, 32768) * 60]
    talking = opened(endpoint)

    def send() -> None:
        for piece in pieces:
            talking.send_stdin(piece)
        talking.end_stdin()

    sending = Background(send)
    received = [talking.receive(SECONDS) for _ in pieces]
    sending.result()
    assert received == [Stdout(piece) for piece in pieces]
    assert talking.finish(SECONDS) == SUCCESS
    talking.close()
    server.shutdown()
    running.result()


# Small commands


def run_with(script: Script, stdin: bytes = b"", timeout: float = SECONDS) -> session.Completed:
    with serving(script, context=CONTEXT) as endpoint:
        return run(endpoint, HEADERS, TARGET, COMMAND, stdin=stdin, timeout=timeout)


def test_run() -> None:
    """Both outputs and the status; stdin in messages of 32 KiB, and ended."""
    stdin = noise(40_000)

    def script(peer: Peer) -> None:
        peer.accept()
        assert peer.read_frame() == (BINARY, b"\0" + stdin[:32768])
        assert peer.read_frame() == (BINARY, b"\0" + stdin[32768:])
        assert peer.read_frame() == (BINARY, b"\xff\0")
        for message in (b"\1a", b"\2x", b"\1b", b"\2y", b"\x09ignored"):
            peer.send(message)
        peer.status(b'{"status":"Failure","reason":"InternalError"}')
        peer.wait_for_end()

    completed = run_with(script, stdin)
    assert completed.stdout == b"ab"
    assert completed.stderr == b"xy"
    assert completed.status == Status(False, "InternalError", "", None)


def test_run_on_v4_leaves_stdin_open() -> None:
    """There is no way to end it there; all that may come is the answer to the close frame."""

    def script(peer: Peer) -> None:
        peer.accept("v4.channel.k8s.io")
        peer.status()
        rest = peer.rest()
        assert not rest or (rest[0] == 0x80 | CLOSE and len(rest) == 8), rest

    assert run_with(script).status == SUCCESS


def test_run_reads_why_its_stdin_was_not_taken() -> None:
    """The server ended the session before it read anything."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.status(b'{"status":"Failure","reason":"InternalError","message":"no sh"}')

    assert run_with(script, noise(60_000)).status.message == "no sh"


def test_run_gives_up() -> None:
    """No end in time, no status, too much output, too much input."""

    def silent(peer: Peer) -> None:
        peer.accept()
        peer.wait_for_end()

    def without_status(peer: Peer) -> None:
        peer.accept()
        peer.send(b"\x03\xe8", CLOSE)
        peer.wait_for_end()

    def endless(peer: Peer) -> None:
        peer.accept()
        peer.write(frame(b"\1" + b"x" * 32768) * (MAX_OUTPUT // 32768 + 1))
        peer.wait_for_end()

    with pytest.raises(ServerError, match=r"did not end within 0\.3 s"):
        run_with(silent, timeout=0.3)
    with pytest.raises(ConnectionLost, match=r"without a status \(code 1000\)"):
        run_with(without_status)
    with pytest.raises(ServerError, match="says more than"):
        run_with(endless)
    with pytest.raises(ValueError, match="is the most"):
        run_with(silent, noise(session.MAX_INPUT + 1))
