"""A command on this machine is spoken to like one in a container, and ends like one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubectl_podcp.errors import ConnectionLost, ExecFailed
from kubectl_podcp.exec.channels import Closed, Event, Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.process import ProcessSession, run
from kubectl_podcp.exec.stream import Aborted

SUCCESS = Status(True, "", "", 0)


@contextmanager
def session(script: str) -> Iterator[ProcessSession]:
    """Start ``script``; check that nothing of it is left at the end."""
    descriptors = set(Path("/proc/self/fd").iterdir())
    made = ProcessSession(["sh", "-c", script])
    pid = made._process.pid  # the one thing that only the inside knows
    try:
        yield made
    finally:
        made.close()
    assert not Path(f"/proc/{pid}").exists(), "the process is left"
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors


def events(from_session: ProcessSession) -> list[Event | Closed]:
    """Receive to the end."""
    received: list[Event | Closed] = []
    while not received or not isinstance(received[-1], Closed):
        received.append(from_session.receive(10))
    return received


def test_output_then_status_then_the_end_again_and_again() -> None:
    with session("echo out; echo err >&2; exit 3") as it:
        *output, status, end = events(it)
        assert {Stdout(b"out\n"), Stderr(b"err\n")} == set(output)
        assert (status, end) == (Status(False, "NonZeroExitCode", "", 3), Closed(1000, ""))
        assert it.receive() == end
        assert not it.buffered


def test_what_is_sent_arrives_and_its_end_too() -> None:
    with session("cat") as it:
        assert it.protocol is Protocol.V5
        it.send_stdin(b"a" * 10, b"b")
        it.end_stdin()
        assert events(it) == [Stdout(b"a" * 10 + b"b"), SUCCESS, Closed(1000, "")]


def test_a_signal_is_told_as_a_shell_tells_it() -> None:
    with session("kill -9 $$") as it:
        assert events(it)[0] == Status(False, "NonZeroExitCode", "", 137)


def test_megabytes_pass_in_both_directions_at_once() -> None:
    data = os.urandom(1 << 20) * 8
    with session("cat") as it:

        def send() -> None:
            it.send_stdin(data)
            it.end_stdin()

        sender = threading.Thread(target=send)
        sender.start()
        came = b"".join(event.data for event in events(it) if isinstance(event, Stdout))
        sender.join()
    assert came == data


def test_nothing_comes_in_time() -> None:
    with session("read -r _") as it:
        with pytest.raises(TimeoutError):
            it.receive(0.05)
        it.end_stdin()
        assert events(it)[0] == Status(False, "NonZeroExitCode", "", 1)


def test_output_has_ended_but_not_the_command() -> None:
    with session("exec >&- 2>&-; read -r _") as it:
        with pytest.raises(TimeoutError):
            it.receive(0.2)
        it.send_stdin(b"\n")
        assert events(it)[0] == SUCCESS


def test_a_command_that_reads_no_more() -> None:
    with session("exec <&-; read -r _; exit 0") as it:
        assert events(it)[-1] == Closed(1000, "")
        with pytest.raises(ConnectionLost, match="reads no more"):
            it.send_stdin(b"x" * (2 << 20))


def test_a_command_that_stalls() -> None:
    with session("sleep 60 & wait") as it:
        it.stall_timeout = 0.2
        with pytest.raises(ConnectionLost, match=r"took nothing for 0\.2 s"):
            it.send_stdin(b"x" * (4 << 20))
        os.killpg(it._process.pid, 9)


@pytest.mark.parametrize("what", ["receive", "send"])
def test_close_wakes_whoever_waits(what: str) -> None:
    raised: list[BaseException] = []
    with session("exec 3<&0; { read -r _ <&3; } & wait") as it:
        began = threading.Event()

        def work() -> None:
            began.set()
            try:
                it.receive() if what == "receive" else it.send_stdin(b"x" * (4 << 20))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        began.wait()
        it.close()
        thread.join(10)
        assert not thread.is_alive()
    assert [type(error) for error in raised] == [Aborted]


def test_close_ends_the_commands_stdin_and_it_ends_by_itself(tmp_path: Path) -> None:
    """Only so can a destination's shell remove its staging folder."""
    with session(f"cat >/dev/null; echo cleaned >{tmp_path}/said"):
        pass
    assert (tmp_path / "said").read_text() == "cleaned\n"


def test_close_kills_a_command_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubectl_podcp.exec.process._END_WITHIN", 0.1)
    with session("trap '' TERM HUP; while :; do sleep 60; done"):
        pass


def test_after_close_nothing_goes() -> None:
    with session("cat") as it:
        it.close()
        it.close()
        with pytest.raises(Aborted):
            it.receive()
        with pytest.raises(Aborted):
            it.send_stdin(b"x")


def test_ctrl_c_at_the_terminal_does_not_reach_it() -> None:
    with session("cat") as it:
        assert os.getpgid(it._process.pid) != os.getpgid(0)


def test_a_small_command_runs_to_its_end() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2; cat; exit 4"], 10, stdin=b"in", most=9) == (
        4,
        b"out\nin",
        b"err\n",
    )


def test_a_small_command_takes_too_long() -> None:
    with pytest.raises(ExecFailed, match=r"did not end within 0\.1 s"):
        run(["sh", "-c", "exec sleep 60"], 0.1, most=9)


def test_a_small_command_says_too_much() -> None:
    with pytest.raises(ExecFailed, match="says more than 9 bytes"):
        run(["sh", "-c", "echo 123456789"], 10, most=9)


def test_there_is_no_such_command() -> None:
    with pytest.raises(ExecFailed, match="cannot be run on this machine: No such file"):
        ProcessSession(["/nonexistent/sh"])
