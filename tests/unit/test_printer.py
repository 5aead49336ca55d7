"""Lines to a pipe that somebody reads, slowly, or not at all."""

from __future__ import annotations

import io
import os
import select
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TextIO

import pytest

from kubectl_podcp.printer import AT_ONCE, Printer
from tests.unit.peers import Background, until


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe: its end to read from, and a stream to write to."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
        os.close(reader)


def test_lines_come_behind_what_was_written_before(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    stream.write("before\n")
    with closing(Printer(stream)) as printer:
        printer.line("one")
        printer.line("two")
    assert os.read(reader, 100) == b"before\none\ntwo\n"


def test_many_lines_go_before_the_end(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    with closing(Printer(stream)) as printer:
        printer.line("x" * AT_ONCE)
        assert os.read(reader, AT_ONCE) == b"x" * AT_ONCE


def test_a_file_takes_what_its_encoding_has(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w", encoding="ascii") as stream, closing(Printer(stream)) as printer:
        printer.line("é")
    assert path.read_bytes() == b"\\xe9\n"


def test_a_reader_that_is_slow_gets_all(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    text = "x" * 300_000
    read = b""

    def write() -> None:
        with closing(Printer(stream)) as printer:
            printer.line(text)

    running = Background(write)
    while len(read) <= len(text):
        read += os.read(reader, 1000)
    running.result()
    assert read == text.encode() + b"\n"


def test_a_stop_wakes_a_writer_whose_reader_sleeps(pipe: tuple[int, TextIO]) -> None:
    _, stream = pipe
    with closing(Printer(stream)) as printer:
        passed = []

        def write() -> None:
            for number in range(1000):
                printer.line("x" * AT_ONCE)
                passed.append(number)

        running = Background(write)
        until(lambda: _is_full(stream))
        assert len(passed) < 1000
        printer.stop()
        printer.stop()
        running.result()
    assert len(passed) == 1000, "the others are dropped"
    printer.stop()


def test_after_a_stop_goes_what_there_is_room_for(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    with closing(Printer(stream)) as printer:
        printer.line("one")
        printer.stop()
        printer.line("two")
    assert os.read(reader, 100) == b"one\ntwo\n"


def _is_full(stream: TextIO) -> bool:
    """Whether a pipe has no room: nobody reads it."""
    poller = select.poll()
    poller.register(stream.fileno(), select.POLLOUT)
    return not poller.poll(0)


def test_a_reader_that_has_gone_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        printer = Printer(stream)
        printer.line("x")
        with pytest.raises(BrokenPipeError):
            printer.close()


def test_what_is_no_file_cannot_be_polled() -> None:
    with pytest.raises(OSError, match="fileno"):
        Printer(io.StringIO())
