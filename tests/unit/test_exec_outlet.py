"""This process's stdout as a destination: written once, whatever is tried again."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_podcp.errors import DestinationFailed, Interrupted, SourceFailed
from kubectl_podcp.exec.channels import Closed, Status, Stdout
from kubectl_podcp.exec.outlet import Outlet, Written
from kubectl_podcp.exec.stream import Aborted
from tests.unit.peers import Background

READY, DONE = b"ready", b"done"
MUCH = bytes(1 << 20)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where it is read, and where it is written."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def outlet(written: Written) -> Outlet:
    """Return another try."""
    return Outlet(written, ready=READY, acknowledgement=DONE)


def test_what_is_said_and_what_is_written(pipe: tuple[int, int]) -> None:
    it = outlet(Written(pipe[1]))
    assert it.buffered
    assert it.receive() == Stdout(READY)
    assert not it.buffered
    it.send_stdin()
    it.send_stdin(b"", b"a", b"bc")
    it.ping()
    assert os.read(pipe[0], 100) == b"abc"
    with pytest.raises(TimeoutError):
        it.receive(0.01)
    it.end_stdin()
    assert it.receive() == Stdout(DONE)
    assert it.receive() == Status(True, "", "", 0)
    assert it.receive() == Closed(1000, "")
    it.close()


def test_what_only_a_close_tells_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network's file system may take what it has no room for, and say so when it is closed."""
    with (tmp_path / "out").open("wb") as file:
        it, close = outlet(Written(file.fileno())), os.close
        it.send_stdin(b"abc")

        def full(descriptor: int) -> None:
            assert os.path.sameopenfile(descriptor, file.fileno())
            close(descriptor)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "close", full)
        with pytest.raises(DestinationFailed, match="cannot be written: No space left"):
            it.end_stdin()
        monkeypatch.undo()
    assert it.receive() == Stdout(READY)
    assert not it.buffered


def test_more_than_a_pipe_holds(pipe: tuple[int, int]) -> None:
    """And not a byte twice: a write never has to be given up half-way."""
    it, read = outlet(Written(pipe[1])), bytearray()
    content = os.urandom(1 << 20)

    def take() -> None:
        while len(read) < len(content):
            read.extend(os.read(pipe[0], 10_000))

    thread = threading.Thread(target=take)
    thread.start()
    it.send_stdin(*(content[at : at + 32768] for at in range(0, len(content), 32768)))
    thread.join(10)
    it.close()
    assert read == content


def test_a_pipe_that_somebody_made_non_blocking(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    it = outlet(Written(pipe[1]))
    it.stall_timeout = 0.2
    with pytest.raises(DestinationFailed, match=r"nothing was read from our stdout for 0\.2 s"):
        it.send_stdin(MUCH)
    it.close()


def test_no_room_for_a_whole_write(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system says so all the same, it is asked again."""
    written = Written(pipe[1])
    real, refused = os.write, [True]

    def write(descriptor: int, data: memoryview) -> int:
        if descriptor == pipe[1] and refused:
            refused.pop()
            raise BlockingIOError
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    it = outlet(written)
    it.send_stdin(b"abc")
    it.close()
    assert os.read(pipe[0], 10) == b"abc"


def test_close_wakes_whoever_writes(pipe: tuple[int, int]) -> None:
    it, begun = outlet(Written(pipe[1])), threading.Event()

    def write() -> None:
        begun.set()
        it.send_stdin(MUCH)

    writing = Background(write)
    assert begun.wait(10)
    it.close()
    it.close()
    assert type(writing.failure()) is Aborted
    it.receive()
    for _ in range(2):
        with pytest.raises(Aborted):
            it.receive()


def test_its_reader_has_gone(pipe: tuple[int, int]) -> None:
    it = outlet(Written(pipe[1]))
    os.close(pipe[0])
    with pytest.raises(Interrupted) as caught:
        it.send_stdin(b"x")
    assert caught.value.signum == signal.SIGPIPE
    it.close()


def test_it_is_full() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    it = outlet(Written(descriptor))
    with pytest.raises(DestinationFailed, match="cannot be written: No space left"):
        it.send_stdin(b"x")
    it.close()
    os.close(descriptor)


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_another_try_writes_the_rest_alone(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "out"
    with path.open("wb") as file:
        written = Written(file.fileno())
        first = outlet(written)
        first.send_stdin(b"abcde"[:cut])
        first.close()
        second = outlet(written)
        second.send_stdin(b"ab", b"cde", b"fg")
        second.end_stdin()
        second.close()
    assert path.read_bytes() == b"abcdefg"
    assert written.size == 7


@pytest.mark.parametrize("again", [b"abXdefgh", b"abcd"])
def test_another_try_with_another_source(tmp_path: Path, again: bytes) -> None:
    """Nothing more is written than what was before."""
    path = tmp_path / "out"
    with path.open("wb") as file:
        written = Written(file.fileno())
        first = outlet(written)
        first.send_stdin(b"abcde")
        first.close()
        second = outlet(written)
        with pytest.raises(SourceFailed, match=r"has changed: .* the 5 bytes"):
            second.send_stdin(again)
            second.end_stdin()
        second.close()
    assert path.read_bytes() == b"abcde"
