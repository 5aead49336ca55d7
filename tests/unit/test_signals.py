"""What may come at any step of a signal's handler."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kubectl_podcp.errors import Interrupted
from kubectl_podcp.signals import Signals
from tests.unit.peers import SECONDS, Background, until


class Other(Exception):
    """Stands for what the handler of another signal raises."""


class Interrupting:
    """Traces what is called, and raises :class:`Other` at the n-th step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> Interrupting:
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise Other
        return self


def is_woken_after(step: int) -> bool:
    """Interrupt the handler of SIGPIPE at a step, then wake the main thread; return whether the
    handler has so many."""
    with Signals(lambda: None) as signals:
        interrupting, before = Interrupting(step), sys.gettrace()
        sys.settrace(interrupting)
        try:
            signal.raise_signal(signal.SIGPIPE)
        except Other:
            pass
        finally:
            sys.settrace(before)
        waking = Background(signals._wake)
        until(lambda: not waking.runs)
    return interrupting.left <= 0


def test_a_handler_that_another_one_ends_leaves_nothing_locked() -> None:
    """At whatever step: who wakes the main thread would wait for it for ever."""
    step = 1
    while is_woken_after(step):
        step += 1
    assert step > 20


def test_a_signal_while_something_is_imported_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There an exception could be swallowed, and leave the lock of all imports held."""
    (tmp_path / "interrupted_meanwhile.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGTERM)\nis_whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Signals(lambda: None) as signals, signals.heard():
        module = importlib.import_module("interrupted_meanwhile")
        assert module.is_whole
        with pytest.raises(Interrupted) as caught:
            threading.Event().wait(SECONDS)
    assert caught.value.signum == signal.SIGTERM
