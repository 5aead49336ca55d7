"""Ends of a copy that are this process's own stdin and stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from kubectl_podcp.errors import UsageError
from kubectl_podcp.exec.channels import Stdout as Said
from kubectl_podcp.exec.outlet import Written
from kubectl_podcp.standard import Stdin, Stdout

NONCE = "0123456789abcdef" * 2


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where it is read, and where it is written."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("made", [Stdin.ours, Stdout.ours])
def test_closed_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, made: type[Stdin | Stdout]
) -> None:
    """Their numbers may be anything's by then: a connection's, for example."""
    for closed in (None, open(os.devnull)):  # noqa: PTH123, SIM115
        if closed is not None:
            closed.close()
        monkeypatch.setattr(sys, "stdin", closed)
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(UsageError, match="is closed"):
            made()


def test_a_terminal_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda number: number == 1)
    with pytest.raises(UsageError, match="standard output is a terminal"):
        Stdout.ours()


def test_what_is_left_is_what_was_written(pipe: tuple[int, int]) -> None:
    stdout = Stdout(Written(pipe[1]))
    assert stdout.left == "nothing was written to standard output"
    outlet = stdout.outlet(NONCE)
    outlet.send_stdin(b"x" * 1234)
    assert stdout.left.startswith("1,234 bytes were written to standard output")
    assert (str(stdout), stdout.spoken(outlet)) == ("stdout", "stdout")
    assert outlet.receive() == Said(f"\npodcp-{NONCE} ready\n".encode())
    outlet.end_stdin()
    assert outlet.receive() == Said(f"\npodcp-{NONCE} 0 1 0\n".encode())
    outlet.close()


def test_stdin_is_no_place(pipe: tuple[int, int]) -> None:
    stdin = Stdin(pipe[0])
    inlet = stdin.inlet(b"end")
    assert (str(stdin), stdin.spoken(inlet)) == ("stdin", "stdin")
    assert stdin.run("anything", 1.0) == b""
    assert stdin.current() is stdin
    inlet.close()
