"""The client under test, run once: how it ended, what it said, how much memory it had.

In goes a command line; out comes a :class:`Run`. Raises :class:`Hangs`. Any thread may call it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests import one_file

LIBRARY = (sys.executable, "-m", "tests.soak.library")
LIMIT = 120.0
"""Seconds after which a run hangs: more than all its time-outs here together."""

_MEASURED = (sys.executable, "-I", "-S", str(Path(__file__).with_name("measured.py")))


class Hangs(AssertionError):
    """The client did not end."""


@dataclass(frozen=True)
class Run:
    """A run of the client.

    :ivar code: its exit code, or minus the signal that killed it.
    :ivar memory: bytes that it had resident at the most.
    """

    code: int
    stdout: bytes
    stderr: bytes
    memory: int
    seconds: float


def run(argv: Sequence[str | bytes], runs_in: Callable[[int], None] = lambda _: None) -> Run:
    """Run the client to its end.

    :param runs_in: is told its process as soon as there is one.
    """
    reading, writing = os.pipe()
    began = time.monotonic()
    with (
        subprocess.Popen(
            [*_MEASURED, str(writing), *argv],
            cwd=one_file.ROOT,
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
        os.fdopen(reading, "rb") as told,
    ):
        os.close(writing)
        client = int(told.readline())
        runs_in(client)
        try:
            stdout, stderr = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.kill(client, signal.SIGKILL)
            raise Hangs(f"no end after {LIMIT:g} s; so far: {error.stderr!r}") from None
        code, kib = map(int, told.readline().split())
    return Run(code, stdout, stderr, kib * 1024, time.monotonic() - began)
