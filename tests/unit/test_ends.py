"""Answers that are lost on their way: asked for again, and never taken for whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import repeat
from types import SimpleNamespace

import pytest

from kubectl_podcp.ends import ASKED, LocalEnd
from kubectl_podcp.errors import ConnectionLost, ExecFailed

TELL = """
import sys
from kubectl_podcp.ends import LocalEnd
sys.stdout.buffer.write(LocalEnd().identity)
"""


class Lossy(LocalEnd):
    """This machine, where each answer loses its end, and no exit code is told.

    :param left: how much is left of each answer, in bytes; None: all of it.
    """

    def __init__(self, left: Iterator[int | None]) -> None:
        object.__setattr__(self, "left", left)

    def run(
        self, script: str, timeout: float, most: int | None = None, *, stdin: bytes = b""
    ) -> bytes:
        said = super().run(f"({script})\nexit 0\n", timeout, most, stdin=stdin)
        return said[: next(self.left)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("lost", [0, 3, 10])
def test_a_lost_answer_is_asked_for_again(lost: int) -> None:
    end = Lossy(iter([lost] * (ASKED - 1) + [None]))
    assert end.ask("echo whole\n", 10) == b"whole\n"


@pytest.mark.parametrize("lost", [0, 3, -1])
def test_when_all_are_lost_that_is_what_is_said(lost: int) -> None:
    with pytest.raises(ConnectionLost, match="sh in this machine ended, and what it said did not"):
        Lossy(repeat(lost)).ask("echo whole", 10)


def test_a_failure_that_was_told_as_success_is_one() -> None:
    with pytest.raises(ExecFailed, match="ended with exit code 3"):
        Lossy(repeat(None)).ask("echo; exit 3", 10)


def test_machines_that_share_a_directory_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """None sees what is at work on another: each looks after the folders that it made itself."""
    here = LocalEnd().identity
    assert here == LocalEnd().identity
    inside = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", TELL],
        capture_output=True,
        check=True,
    ).stdout
    assert inside.split(b" ")[0] == here.split(b" ")[0]
    assert inside != here
    uname = SimpleNamespace(nodename="another")
    monkeypatch.setattr(os, "uname", lambda: uname)
    assert LocalEnd().identity.startswith(b"another ")


class Lying(LocalEnd):
    """This machine, where the exit code of each answer has thousands of digits."""

    def run(
        self, script: str, timeout: float, most: int | None = None, *, stdin: bytes = b""
    ) -> bytes:
        return super().run(script, timeout, most, stdin=stdin) + b"1" * 5000


def test_an_exit_code_that_none_can_be_is_no_answer() -> None:
    with pytest.raises(ConnectionLost, match="what it said did not"):
        Lying().ask("echo", 10)


def test_an_answer_has_its_full_length() -> None:
    assert LocalEnd().ask("head -c 6; exit 0", 10, 6, stdin=b"\n\0\xff\n\n\n") == b"\n\0\xff\n\n\n"
    with pytest.raises(ExecFailed, match="ended with exit code 7"):
        LocalEnd().ask("exit 7", 10)
