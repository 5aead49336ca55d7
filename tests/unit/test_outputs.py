"""The watch on stdout and stderr: who is watched, what is noticed, and that no thread is left."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from kubectl_podcp.errors import Interrupted
from kubectl_podcp.outputs import watched

SECONDS = 10.0


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Check that neither a thread nor a descriptor outlives a watch."""
    threads, files = set(threading.enumerate()), descriptors()
    yield
    assert set(threading.enumerate()) <= threads
    assert descriptors() <= files


def descriptors() -> set[Path]:
    """Return what this process has open."""
    return set(Path("/dev/fd").iterdir())


class Pair:
    """A stream that we write to, and what its reader has."""

    def __init__(self, kind: str) -> None:
        if kind == "pipe":
            self.reader, writer = os.pipe()
        else:
            ours, theirs = socket.socketpair()
            self.reader, writer = theirs.detach(), ours.detach()
        self.stream = os.fdopen(writer, "w")

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.leave()

    def leave(self) -> None:
        """Let the reader go away."""
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_goes_is_noticed_though_nothing_is_written(kind: str) -> None:
    gone = threading.Event()
    with Pair(kind) as pair, watched([pair.stream], gone.set):
        assert not gone.is_set()
        pair.leave()
        assert gone.wait(SECONDS)


def test_each_of_two_streams_is_watched_and_told_of_once() -> None:
    calls = threading.Semaphore(0)
    with Pair("pipe") as one, Pair("pipe") as other:
        with watched([one.stream, other.stream], calls.release):
            other.leave()
            assert calls.acquire(timeout=SECONDS)
            one.leave()
        assert not calls.acquire(blocking=False)


def test_a_reader_that_stays_and_does_not_read_is_none_that_goes() -> None:
    gone = threading.Event()
    with Pair("pipe") as pair:
        os.set_blocking(pair.stream.fileno(), False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pair.stream.fileno(), bytes(1 << 16))
        with watched([pair.stream], gone.set):
            pass
    assert not gone.is_set()


def test_what_has_no_reader_is_not_watched(tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    closed = (tmp_path / "closed").open("w")
    closed.close()
    streams: list[TextIO | None] = [None, closed, io.StringIO(), os.fdopen(terminal, "w")]
    with Path(os.devnull).open("w") as null, (tmp_path / "file").open("w") as file:
        before = threading.active_count()
        with watched([*streams, null, file], pytest.fail):
            assert threading.active_count() == before
            os.close(controller)
    assert streams[-1] is not None
    streams[-1].close()


@pytest.mark.parametrize("error", [Interrupted(2), ValueError("a bug")])
def test_an_error_passes_through(error: Exception) -> None:
    with Pair("pipe") as pair:
        watch = watched([pair.stream], pytest.fail)
        with pytest.raises(type(error)) as caught, watch:
            raise error
    assert caught.value is error
