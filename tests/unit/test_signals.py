"""What may come at any step of a signal's handler."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from kubectl_podcp.signals import Signals
from tests.unit.peers import Background, until


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
