"""What a session logs of its messages: each of them, none of their contents, nothing when off."""

from __future__ import annotations

import logging

import pytest

from kubectl_podcp import logs
from kubectl_podcp.errors import ConnectionLost, ServerError
from kubectl_podcp.exec import trace
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.exec.frames import BINARY, CLOSE, PING, PONG, Message
from kubectl_podcp.exec.session import Closed, ExecSession
from kubectl_podcp.exec.trace import Trace
from tests.unit.peers import BINARY as DATA
from tests.unit.peers import Peer, noise, serving
from tests.unit.test_exec_session import HEADERS, TARGET, TOKEN

SCRIPT = ["sh", "-c", "echo the script"]


@pytest.fixture
def listening(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Somebody who listens to everything."""
    caplog.set_level(logging.DEBUG, "kubectl_podcp")
    return caplog


def lines(caplog: pytest.LogCaptureFixture, module: str = "trace") -> list[str]:
    """What one module logged, the session's name and number taken off."""
    said = [record.getMessage() for record in caplog.records if record.module == module]
    return [line.partition(" ")[2] for line in said]


def whole_session(peer: Peer) -> None:
    """Play a session that has a bit of everything."""
    peer.accept()
    assert peer.read_frame() == (DATA, b"\0secret stdin")
    assert peer.read_frame() == (DATA, b"\xff\0")
    peer.send(b"\1")
    peer.send(b"\1secret stdout")
    peer.send(b"\2secret stderr")
    peer.send(b"ping", PING)
    peer.status(b'{"status":"Failure","message":"\x1b[2J"}')
    peer.wait_for_end()


def opened_by(script: object) -> None:
    """Run a session to its end."""
    with serving(script) as endpoint:  # type: ignore[arg-type]
        session = ExecSession.open(endpoint, HEADERS, TARGET, SCRIPT, timeout=20)
        try:
            session.send_stdin(b"secret stdin")
            session.end_stdin()
            while not isinstance(session.receive(20), Closed):
                pass
        finally:
            session.close()
            session.close()


def test_each_message_is_a_line_without_what_it_holds(
    listening: pytest.LogCaptureFixture,
) -> None:
    opened_by(whole_session)
    assert lines(listening) == [
        "> stdin [12 bytes]",
        "> close stdin",
        "< stdout [0 bytes]",
        "< stdout [13 bytes]",
        "< stderr [13 bytes]",
        "< PING [4 bytes]",
        "> PONG [4 bytes]",
        '< status {"status":"Failure","message":"\\x1b[2J"} [37 bytes]',
        "< CLOSE 1000",
        "> CLOSE 1000",
        "= closed by us",
    ]
    assert "secret" not in listening.text.replace("<masked>", "")
    assert TOKEN not in listening.text


def test_the_opening_is_logged_without_its_script_and_credentials(
    listening: pytest.LogCaptureFixture,
) -> None:
    opened_by(whole_session)
    said = [record.getMessage() for record in listening.records if record.module == "session"]
    asked, answered, spoken = said
    assert "Authorization: Bearer <masked>" in asked
    assert "Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io" in asked
    assert "/api/v1/namespaces/default/pods/web-0/exec: 101 Switching Protocols (" in answered
    assert spoken.endswith(": exec in default/web-0 (container app) over v5.channel.k8s.io")
    assert "echo" not in listening.text


def test_what_broke_a_session_is_a_line(listening: pytest.LogCaptureFixture) -> None:
    def end(peer: Peer) -> None:
        peer.accept()
        peer.read_frame()
        peer.read_frame()

    with pytest.raises(ConnectionLost):
        opened_by(end)
    assert [line for line in lines(listening) if line[0] == "!"] == [
        "! the connection to the API server ended in the middle of the session"
    ]


def test_a_violation_is_a_line(listening: pytest.LogCaptureFixture) -> None:
    def violate(peer: Peer) -> None:
        peer.accept()
        peer.send(b"text", 1)
        peer.wait_for_end()

    with pytest.raises(ServerError):
        opened_by(violate)
    assert any("does not keep to the WebSocket protocol" in line for line in lines(listening))


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (Message(BINARY, b""), "an empty message"),
        (Message(BINARY, b"\7abc"), "channel 7 [3 bytes]"),
        (Message(BINARY, b"\xff\1"), "close stdout"),
        (Message(BINARY, b"\xff\x09"), "close 9"),
        (Message(BINARY, b"\xffabc"), "close [3 bytes]"),
        (Message(CLOSE, b""), "CLOSE [0 bytes]"),
        (Message(CLOSE, b"\x03\xe8bye\x1b"), "CLOSE 1000 bye\\x1b"),
        (Message(PONG, b""), "PONG [0 bytes]"),
        (Message(BINARY, b"\3" + b"x" * 1000), f"status {'x' * 300} [1000 bytes]"),
    ],
)
def test_odd_messages(message: Message, told: str, listening: pytest.LogCaptureFixture) -> None:
    assert list(Trace("x").received(iter([message]))) == [message]
    assert lines(listening) == [f"< {told}"]


@pytest.mark.parametrize(("level", "is_on"), [(logs.FRAMES, True), (logs.FRAMES + 1, False)])
def test_a_trace_is_there_where_somebody_listens(
    level: int, is_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "kubectl_podcp")
    assert (trace.begun("x") is not None) is is_on


def test_nothing_is_done_for_a_message_when_nobody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even to ask whether somebody does."""

    def script(peer: Peer) -> None:
        peer.accept()
        assert peer.read_frame() == (DATA, b"\0" + body)
        peer.send(b"\1" + body)
        peer.wait_for_end()

    body = noise(32 * 1024)
    with serving(script) as endpoint:
        session = ExecSession.open(endpoint, HEADERS, TARGET, SCRIPT, timeout=20)
        for asked in ("log", "isEnabledFor"):
            monkeypatch.setattr(logging.Logger, asked, pytest.fail)
        session.send_stdin(body)
        session.receive(20)
        monkeypatch.undo()
        session.close()
    assert session.protocol is Protocol.V5
