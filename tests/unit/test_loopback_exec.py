"""Exec sessions on the embedded cluster: the habits of real servers, seen by a plain client."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests import userlands
from tests.loopback import isolation
from tests.loopback.client import bearer, exec_path, finish, open_session, run, tls
from tests.loopback.isolation import Isolation
from tests.loopback.kubeconfig import ADDRESS
from tests.loopback.server import Server
from tests.loopback.statuses import V4, V5

SUCCESS = {"metadata": {}, "status": "Success"}
BOTH = pytest.mark.parametrize("protocol", [V5, V4])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One cluster for this module."""
    with Server() as server:
        yield server


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait for what another process does; return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def refusal(server: Server, pod: str, *command: str, **how: Any) -> InvalidStatus:
    """Return the answer of a server that does not open a session."""
    with pytest.raises(InvalidStatus) as refused:
        open_session(server, pod, *command, **how)
    return refused.value


# --- the messages --------------------------------------------------------------------------


@BOTH
def test_a_session_is_an_empty_frame_output_status_and_close(server: Server, protocol: str) -> None:
    outcome = run(server, "gnu-0", "echo", "hello", protocols=[protocol])
    assert outcome.messages[:2] == [b"\x01", b"\x01hello\n"]
    assert outcome.messages[2][0] == 3
    assert outcome.status == SUCCESS
    assert outcome.close_code == 1000


def test_the_empty_frame_is_of_the_lowest_output_asked_for(server: Server) -> None:
    assert run(server, "gnu-0", "true", streams=["stderr"]).messages[0] == b"\x02"
    assert run(server, "gnu-0", "true", streams=["stdin"]).messages[0] == b"\x03"


def test_output_comes_in_frames_of_32_kib_at_most_and_whole(server: Server) -> None:
    outcome = run(server, "gnu-0", "head", "-c", "5000000", "/dev/zero", streams=["stdout"])
    assert outcome.stdout == bytes(5_000_000)
    assert max(map(len, outcome.messages)) <= 32 * 1024 + 1


def test_stderr_has_its_own_channel(server: Server) -> None:
    outcome = run(server, "gnu-0", "sh", "-c", "echo out; echo err >&2")
    assert (outcome.stdout, outcome.stream(2)) == (b"out\n", b"err\n")


def test_an_exit_code_on_v5_does_not_name_the_command(server: Server) -> None:
    assert run(server, "gnu-0", "sh", "-c", "exit 2", protocols=[V5]).status == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: "
        "command terminated with exit code 2",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "2"}]},
    }


def test_an_exit_code_on_v4_names_the_command(server: Server) -> None:
    status = run(server, "gnu-0", "sh", "-c", "exit 2", protocols=[V4]).status
    assert status is not None
    assert "error executing command [sh -c exit 2], exit code 2" in status["message"]


def test_a_signal_is_128_and_its_number(server: Server) -> None:
    status = run(server, "gnu-0", "sh", "-c", "kill -9 $$").status
    assert status is not None
    assert status["details"]["causes"][0]["message"] == "137"


# --- stdin ---------------------------------------------------------------------------------


def test_ff00_ends_stdin_on_v5(server: Server) -> None:
    outcome = run(server, "gnu-0", "cat", stdin=b"some text", protocols=[V5])
    assert outcome.stdout == b"some text"
    assert outcome.status == SUCCESS


def test_ff00_means_nothing_on_v4(server: Server) -> None:
    session = open_session(server, "gnu-0", "sh", "-c", "read a; echo $a", protocols=[V4])
    session.send(b"\xff\x00")
    session.send(b"\0still open\n")
    assert finish(session).stdout == b"still open\n"


def test_any_other_length_on_the_close_channel_drops_the_connection(server: Server) -> None:
    session = open_session(server, "gnu-0", "cat", protocols=[V5])
    session.send(b"\xff\x00\x00")
    outcome = finish(session)
    assert outcome.close_code is None
    assert outcome.status is None


def test_unknown_channels_are_dropped(server: Server) -> None:
    session = open_session(server, "gnu-0", "cat")
    for message in (b"\x09nonsense", b"\x04{}", b"", b"\0text", b"\xff\x00"):
        session.send(message)
    assert finish(session).stdout == b"text"


def test_each_fragment_counts_as_a_message(server: Server) -> None:
    session = open_session(server, "gnu-0", "cat")
    session.send(b"\0first ", b"\x09lost", b"\0second")
    session.send(b"\xff\x00")
    assert finish(session).stdout == b"first second"


def test_stdin_passes_whole_and_in_order(server: Server) -> None:
    data = bytes(range(256)) * 20_000
    session = open_session(server, "gnu-0", "sha256sum")
    for start in range(0, len(data), 100_000):
        session.send(b"\0" + data[start : start + 100_000])
    session.send(b"\xff\x00")
    wanted = run(server, "gnu-0", "sha256sum", stdin=data).stdout
    assert finish(session).stdout == wanted


def test_stdin_that_was_not_asked_for_is_dropped(server: Server) -> None:
    session = open_session(server, "gnu-0", "cat", streams=["stdout"])
    with suppress(OSError):
        session.send(b"\0text")
    assert finish(session).stdout == b""


def test_a_process_that_reads_nothing_holds_its_client_up(server: Server) -> None:
    """Nothing is queued but in pipes and sockets: far below 64 MiB the client has to wait."""
    raw = _raw_session(server, ["sleep", "60"])
    raw.settimeout(1.0)
    # A frame of 32 KiB for stdin: its masking key is 0, so the bytes stand as they are.
    frame = b"\x82\xfe\x80\x01" + bytes(4) + bytes(32 * 1024 + 1)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 64 << 20:
            raw.sendall(frame)
            sent += len(frame)
    raw.close()


def test_a_process_that_ends_early_gives_its_status_while_the_client_sends(server: Server) -> None:
    session = open_session(server, "gnu-0", "sh", "-c", "exit 7")
    with suppress(OSError):  # the end may come at any of these
        for _ in range(1000):
            session.send(bytes(32 * 1024))
    status = finish(session).status
    assert status is not None
    assert status["details"]["causes"][0]["message"] == "7"


def test_stdin_is_closed_when_stdout_has_ended(server: Server) -> None:
    """containerd#13934: a process that closes its output is left without input."""
    script = "exec >/dev/null; cat; echo end of stdin >&2"
    session = open_session(server, "gnu-0", "sh", "-c", script, protocols=[V4])
    assert finish(session).stream(2) == b"end of stdin\n"


# --- the handshake -------------------------------------------------------------------------


def test_v5_is_taken_wherever_it_stands_in_the_offer(server: Server) -> None:
    session = open_session(server, "gnu-0", "true", protocols=[V4, V5])
    assert session.subprotocol == V5
    finish(session)


def test_the_v4_server_takes_v4_from_an_offer_of_both(server: Server) -> None:
    session = open_session(server, "gnu-0", "true", to="v4")
    assert session.subprotocol == V4
    assert finish(session).status == SUCCESS


def test_the_v4_server_refuses_v5_alone_with_a_bare_403(server: Server) -> None:
    request = _handshake(server, ["true"], V5)
    with tls(server).wrap_socket(
        socket.create_connection((ADDRESS, server.ports["v4"])), server_hostname=ADDRESS
    ) as raw:
        raw.sendall(request)
        answer = b""
        while data := raw.recv(4096):
            answer += data
    assert answer == b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("pod", "how", "status", "text"),
    [
        ("nope", {}, 404, 'pods "nope" not found'),
        ("gnu-1", {"container": "zz"}, 400, "container zz is not valid for pod gnu-1"),
        ("gnu-1", {"streams": []}, 400, "at least 1 of stdin, stdout, stderr"),
        ("gnu-1", {"streams": ["stdin", "tty"]}, 400, "no terminals"),
        ("pending-0", {}, 400, "does not have a host assigned"),
        ("done-0", {}, 500, 'container not found ("main")'),
    ],
)
def test_a_refusal_says_why(
    server: Server, pod: str, how: dict[str, Any], status: int, text: str
) -> None:
    response = refusal(server, pod, "true", **how).response
    assert response.status_code == status
    assert text in (response.body or b"").decode().replace("\\", "")
    json = response.headers["Content-Type"] == "application/json"
    assert json is (pod != "done-0")


def test_a_pod_with_two_containers_wants_a_name(server: Server) -> None:
    path = exec_path("gnu-0", ["true"])
    assert "container=" not in path
    answer = _raw_answer(server, path)
    assert b"choose one of: [main side]" in answer


def test_no_command_is_a_bad_request(server: Server) -> None:
    assert refusal(server, "gnu-1").response.status_code == 400


# --- the process ---------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "times"), [(V5, 2), (V4, 1)])
def test_a_missing_program_is_an_internal_error_after_the_handshake(
    server: Server, protocol: str, times: int
) -> None:
    outcome = run(server, "gnu-0", "nosuch", protocols=[protocol])
    status = outcome.status
    assert status is not None
    assert (status["reason"], status["code"]) == ("InternalError", 500)
    assert status["message"].endswith('exec: "nosuch": executable file not found in $PATH')
    assert status["message"].count("Internal error occurred: ") == times
    assert outcome.close_code == 1000


@pytest.mark.skipif("noshell" not in userlands.available(), reason="busybox-static is missing")
def test_a_distroless_pod_has_no_shell(server: Server) -> None:
    status = run(server, "noshell-0", "sh", "-c", "true").status
    assert status is not None
    assert '"sh": executable file not found' in status["message"]
    assert run(server, "noshell-0", "sleep", "0").status == SUCCESS


@pytest.mark.parametrize(
    ("command", "text"),
    [("/etc/passwd", "permission denied"), ("/no/such", "no such file or directory")],
)
def test_what_cannot_be_executed_says_so(server: Server, command: str, text: str) -> None:
    status = run(server, "gnu-0", command).status
    assert status is not None
    assert status["message"].endswith(text)


def test_two_containers_of_a_pod_have_a_root_each(server: Server) -> None:
    run(server, "gnu-0", "touch", "/tmp/of-main", container="main")
    assert run(server, "gnu-0", "ls", "/tmp", container="side").stdout == b""


def test_what_a_pod_overwrites_is_its_own(server: Server) -> None:
    run(server, "gnu-1", "sh", "-c", "echo broken >/usr/bin/tac")
    assert run(server, "gnu-0", "tac", stdin=b"a\nb\n").stdout == b"b\na\n"


def test_devices_and_environment_are_there(server: Server) -> None:
    script = 'echo x >/dev/null; head -c 3 /dev/zero | wc -c; echo "$HOME $HOSTNAME"; umask; pwd'
    outcome = run(server, "gnu-0", "sh", "-c", script)
    assert outcome.stdout.split() == [b"3", b"/root", b"gnu-0", b"0022", b"/"]


def test_a_client_that_leaves_ends_stdin(server: Server) -> None:
    root = server.pod("gnu-1").containers[0].root
    session = open_session(server, "gnu-1", "sh", "-c", "cat; echo ended >/tmp/ended")
    session.receive()
    session.socket.shutdown(socket.SHUT_RDWR)
    assert eventually((root / "tmp/ended").exists)
    session.socket.close()


def test_a_writer_without_a_reader_stays_until_the_cluster_stops() -> None:
    """Nobody closes the pipe that it is blocked in: a habit that products have to survive."""
    with Server() as server:
        root = server.pod("gnu-1").containers[0].root
        script = "echo $$ >/tmp/pid; head -c 100000000 /dev/zero; echo done >/tmp/done"
        session = open_session(server, "gnu-1", "sh", "-c", script)
        session.receive()
        assert eventually((root / "tmp/pid").exists)
        assert eventually(lambda: _processes_in(root) >= 2)
        session.socket.shutdown(socket.SHUT_RDWR)
        session.socket.close()
        assert not eventually((root / "tmp/done").exists, seconds=0.5)
        assert _processes_in(root) >= 2
    assert _processes_in(root) == 0


@pytest.mark.skipif(isolation.best() is Isolation.CHROOT, reason="a mere chroot has no /proc")
@pytest.mark.skipif("busybox" not in userlands.available(), reason="busybox-static is missing")
def test_sessions_of_a_container_see_each_others_processes(server: Server) -> None:
    waiting = open_session(server, "gnu-1", "sh", "-c", "echo here; exec sleep 4321")
    while waiting.receive(timeout=10) != b"\x01here\n":
        pass
    script = "kill $(/opt/witness/busybox pidof sleep)"
    assert run(server, "gnu-1", "sh", "-c", script).status == SUCCESS
    status = finish(waiting).status
    assert status is not None
    assert status["details"]["causes"][0]["message"] == "143"


def _processes_in(root: Path) -> int:
    inside = 0
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            inside += (entry / "root").readlink() == root
    return inside


def _handshake(server: Server, command: list[str], protocol: str, path: str = "") -> bytes:
    lines = [
        f"GET {path or exec_path('gnu-1', command)} HTTP/1.1",
        f"Host: {ADDRESS}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        f"Sec-WebSocket-Protocol: {protocol}",
        *(f"{name}: {value}" for name, value in bearer(server).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _connect(server: Server) -> ssl.SSLSocket:
    plain = socket.create_connection((ADDRESS, server.ports["v5"]), timeout=10)
    return tls(server).wrap_socket(plain, server_hostname=ADDRESS)


def _raw_session(server: Server, command: list[str]) -> ssl.SSLSocket:
    raw = _connect(server)
    raw.sendall(_handshake(server, command, V5))
    assert raw.recv(4096).startswith(b"HTTP/1.1 101 ")
    return raw


def _raw_answer(server: Server, path: str) -> bytes:
    with _connect(server) as raw:
        raw.sendall(_handshake(server, [], V5, path))
        return raw.recv(65536)
