"""This process's stdin as a source."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_podcp.errors import SourceFailed
from kubectl_podcp.exec import inlet as module
from kubectl_podcp.exec.channels import Closed, Status, Stdout
from kubectl_podcp.exec.inlet import Inlet
from kubectl_podcp.exec.stream import Aborted
from tests.unit.peers import Background


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where it is read, and where it is written."""
    ends = os.pipe()
    yield ends
    os.close(ends[0])
    try:
        os.close(ends[1])
    except OSError:
        return


def test_what_comes_and_then_the_ending(pipe: tuple[int, int]) -> None:
    it = Inlet(pipe[0], ending=b"end")
    assert not it.buffered
    os.write(pipe[1], b"abc")
    assert it.buffered
    assert it.receive() == Stdout(b"abc")
    os.close(pipe[1])
    assert it.receive() == Stdout(b"end")
    assert not it.buffered
    it.send_stdin(b"\n")
    it.end_stdin()
    it.ping()
    assert it.receive() == Status(True, "", "", 0)
    assert [it.receive(), it.receive()] == [Closed(1000, "")] * 2
    it.close()


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 40_000)
    with (tmp_path / "in").open("rb") as file:
        it = Inlet(file.fileno(), ending=b"")
        assert [it.receive(), it.receive(), it.receive()] == [
            Stdout(b"x" * 32768),
            Stdout(b"x" * (40_000 - 32768)),
            Stdout(b""),
        ]
        it.close()


def test_what_else_waits_is_kept_alive(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long stdin gives nothing; the caller's own time limit is not kept."""
    monkeypatch.setattr(module, "IDLE_AFTER", 0.01)
    it, calls = Inlet(pipe[0], ending=b""), list[int]()

    def on_idle() -> None:
        calls.append(1)
        if len(calls) == 3:
            os.write(pipe[1], b"x")

    it.on_idle = on_idle
    assert it.receive(0.001) == Stdout(b"x")
    assert len(calls) == 3
    it.close()


def test_close_wakes_whoever_reads(pipe: tuple[int, int]) -> None:
    it, begun = Inlet(pipe[0], ending=b""), threading.Event()

    def read() -> None:
        begun.set()
        it.receive()

    reading = Background(read)
    assert begun.wait(10)
    it.close()
    it.close()
    assert type(reading.failure()) is Aborted


def test_a_directory_cannot_be_read(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    it = Inlet(descriptor, ending=b"")
    with pytest.raises(SourceFailed, match="standard input cannot be read: Is a directory"):
        it.receive()
    it.close()
    os.close(descriptor)
