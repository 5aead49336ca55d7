"""Each fault of the embedded cluster, as a plain client sees it."""

from __future__ import annotations

import io
import os
import re
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pytest

from tests.loopback import faults
from tests.loopback.client import END_OF_STDIN, Outcome, finish, open_session, run
from tests.loopback.faults import Ending, runs
from tests.loopback.server import Server
from tests.loopback.statuses import V4

NONCE = "00112233445566778899aabbccddeeff"
ENDLESS = ("sh", "-c", "while :; do echo 0123456789; done")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Server]:
    """One cluster for this module."""
    with Server() as server:
        yield server


@pytest.fixture
def server(cluster: Server) -> Iterator[Server]:
    """The cluster, without the faults of the last test."""
    cluster.clear_faults()
    yield cluster


def exit_code(outcome: Outcome) -> str:
    """Return the exit code that a session's status tells."""
    assert outcome.status is not None
    if outcome.status["status"] == "Success":
        return "0"
    code: Any = outcome.status["details"]["causes"][0]["message"]
    return str(code)


def test_a_fault_meets_its_pod_and_its_commands_alone(server: Server) -> None:
    server.inject("gnu-1", faults.CutStdout(after=3), command=runs("echo meant"))
    assert run(server, "gnu-1", "echo", "meant").stdout == b"mea"
    assert run(server, "gnu-1", "echo", "other").stdout == b"other\n"
    assert run(server, "gnu-0", "echo", "meant").stdout == b"meant\n"


def test_a_fault_meets_the_session_of_its_number_alone(server: Server) -> None:
    server.inject("gnu-1", faults.CutStdout(after=1), session=1)
    seen = [run(server, "gnu-1", "echo", "text").stdout for _ in range(3)]
    assert seen == [b"text\n", b"t", b"text\n"]


@pytest.mark.parametrize(
    ("ending", "has_status", "close_code"),
    [
        (Ending.SUCCESS, True, 1000),
        (Ending.STATUS_ONLY, True, None),
        (Ending.CLOSE_ONLY, False, 1000),
        (Ending.FIN, False, None),
    ],
)
def test_stdout_is_cut_at_the_byte(
    server: Server, ending: Ending, has_status: bool, close_code: int | None
) -> None:
    server.inject("gnu-1", faults.CutStdout(after=100_000, ending=ending, kill=True))
    outcome = run(server, "gnu-1", *ENDLESS)
    assert len(outcome.stdout) == 100_000
    assert (outcome.status is not None) == has_status
    assert outcome.close_code == close_code


def test_a_reset_is_a_reset(server: Server) -> None:
    server.inject("gnu-1", faults.CutStdout(after=100_000, ending=Ending.RESET, kill=True))
    session = open_session(server, "gnu-1", *ENDLESS)
    # The ssl module would make an end of file of it: look at what is below TLS.
    with socket.socket(fileno=os.dup(session.socket.fileno())) as below:
        below.settimeout(10)
        with pytest.raises(ConnectionResetError):
            while below.recv(65536):
                pass
    session.socket.close()


def test_a_stalled_session_sends_nothing_and_stays_open(server: Server) -> None:
    server.inject("gnu-1", faults.CutStdout(after=11, ending=Ending.STALL))
    session = open_session(server, "gnu-1", *ENDLESS)
    received = b""
    while len(received) < 11:
        message = session.receive(timeout=10)
        assert message is not None
        received += message[1:]
    with pytest.raises(TimeoutError):
        session.receive(timeout=0.5)
    session.socket.close()


def test_the_source_stays_behind_unless_it_is_killed(server: Server) -> None:
    root = server.pod("gnu-1").containers[0].root
    script = "head -c 10000000 /dev/zero; echo done >/tmp/done"
    server.inject("gnu-1", faults.CutStdout(after=10))
    assert exit_code(run(server, "gnu-1", "sh", "-c", script)) == "0"
    time.sleep(0.3)  # long enough for a writer that nobody holds up
    assert not (root / "tmp/done").exists()


@pytest.mark.parametrize("success", [False, True])
def test_stdin_ends_early_and_the_process_says_what_it_thinks(
    server: Server, success: bool
) -> None:
    server.inject("gnu-1", faults.CutStdin(after=4, success=success))
    session = open_session(server, "gnu-1", "sh", "-c", "cat; exit 9")
    session.send(b"\0abc")
    session.send(b"\0defghi")
    outcome = finish(session)
    assert outcome.stdout == b"abcd"
    assert exit_code(outcome) == ("0" if success else "9")


@pytest.mark.parametrize(("ending", "code"), [(None, "137"), (Ending.SUCCESS, "0")])
def test_a_destination_ends_early(server: Server, ending: Ending | None, code: str) -> None:
    server.inject("gnu-1", faults.EndEarly(after=50_000, ending=ending))
    session = open_session(server, "gnu-1", "sh", "-c", "cat >/dev/null")
    with suppress(OSError):  # the end may come at any of these
        for _ in range(1000):
            session.send(bytes(32 * 1024))
    assert exit_code(finish(session)) == code


def test_a_dying_kubelet_says_success_on_both_sides(server: Server) -> None:
    kubelet = faults.EndAll(after=1_000_000)
    for pod in ("gnu-0", "gnu-1"):
        server.inject(pod, kubelet)
    destination = open_session(server, "gnu-1", "cat")
    outcomes: list[Outcome] = []
    waiter = threading.Thread(target=lambda: outcomes.append(finish(destination)))
    destination.receive()
    waiter.start()
    source = run(server, "gnu-0", *ENDLESS)
    waiter.join(10)
    assert [exit_code(source), exit_code(outcomes[0])] == ["0", "0"]
    assert len(source.stdout) == 1_000_000


def test_a_false_status_hides_the_exit_code(server: Server) -> None:
    server.inject("gnu-1", faults.FalseStatus())
    assert exit_code(run(server, "gnu-1", "false")) == "0"


def test_an_early_exit_can_hang_as_on_real_servers(server: Server) -> None:
    server.inject("gnu-1", faults.HangOnEarlyExit())
    session = open_session(server, "gnu-1", "sh", "-c", "exec 0<&-; echo closed; sleep 1; exit 3")
    while session.receive(timeout=10) != b"\x01closed\n":
        pass
    session.send(b"\0more")
    with pytest.raises(TimeoutError):
        session.receive(timeout=2)
    session.socket.close()


def test_the_trailer_can_be_lost(server: Server) -> None:
    server.inject("gnu-1", faults.no_trailer())
    script = f"printf 'data\\npodcp-{NONCE} 0\\nmore'"
    assert run(server, "gnu-1", "sh", "-c", script).stdout == b"data\nmore"


def test_the_nonce_can_be_wrong(server: Server) -> None:
    server.inject("gnu-1", faults.wrong_nonce())
    script = f"printf 'data\\npodcp-{NONCE} 0\\n'"
    stdout = run(server, "gnu-1", "sh", "-c", script).stdout
    assert re.fullmatch(rb"data\npodcp-[0-9a-f]{32} 0\n", stdout)
    assert NONCE.encode() not in stdout


def archive(*names: str) -> bytes:
    """Return an archive with empty files of these names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def unpack(server: Server, directory: str, data: bytes, **how: Any) -> set[str]:
    """Send an archive to a tar, in small messages; return the names that it made."""
    script = f"mkdir /tmp/{directory}; tar xf - -C /tmp/{directory}; ls -A /tmp/{directory}"
    session = open_session(server, "gnu-1", "sh", "-c", script, **how)
    for start in range(0, len(data), 100):
        session.send(b"\0" + data[start : start + 100])
    session.send(END_OF_STDIN)
    outcome = finish(session)
    assert exit_code(outcome) == "0"
    return set(outcome.stdout.decode().split())


def test_the_marker_can_be_lost(server: Server) -> None:
    data = archive("first", f".podcp-{NONCE}", "last")
    assert f".podcp-{NONCE}" in unpack(server, "with", data)
    server.inject("gnu-1", faults.no_marker())
    assert unpack(server, "without", data) == {"first", "last"}


def test_the_marker_can_come_under_another_name(server: Server) -> None:
    data = archive("first", f".podcp-{NONCE}", "last")
    server.inject("gnu-1", faults.other_marker())
    names = unpack(server, "renamed", data, streams=["stdin", "stdout", "stderr"])
    assert len(names) == 3
    assert f".podcp-{NONCE}" not in names


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_rewritten_stream_is_the_same_however_it_is_cut(size: int) -> None:
    fault = faults.RewriteStdout(rb"<[a-z]+>", b"[]", opening=b"<", longest=10)
    text = b"a <b> <<c> <toolongtobeone> 1 < 2 <d"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    nobody = cast(faults.Control, None)  # this fault gives no orders
    passed = b"".join(fault.stdout(nobody, piece) for piece in pieces)
    passed += fault.end_of_stdout(nobody)
    expected = b"a [] <[] <toolongtobeone> 1 < 2 <d"
    if size == 1000:
        expected = expected.replace(b"<toolongtobeone>", b"[]")
    assert passed == expected


def test_v4_suffers_as_v5_does(server: Server) -> None:
    server.inject("gnu-1", faults.CutStdout(after=2))
    outcome = run(server, "gnu-1", "echo", "text", protocols=[V4])
    assert (outcome.stdout, exit_code(outcome)) == (b"te", "0")
