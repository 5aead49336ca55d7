"""What goes wrong in a case, brought about: by the proxy, by signals, by the embedded server.

In goes a case's fault; it acts when so many bytes have passed the proxy, in the thread that
passes them on. Nothing passes meanwhile: what is killed at a byte is killed at that byte.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from tests.end_to_end import lies
from tests.end_to_end.breaker import Breaker, Link
from tests.end_to_end.pods import TestPod
from tests.loopback import faults
from tests.loopback.faults import Ending, Fault
from tests.loopback.server import Server
from tests.soak import witness
from tests.soak.cases import KILLS, SIGNALS, Case

LONGEST_FREEZE = 6.0
"""Seconds after which a frozen connection is reset, as by a machine on the way that forgot it."""

PIECE_DELAY = 0.002
PAUSE = 0.5

SENDS, RECEIVES = faults.runs("tar cf - --numeric-owner"), faults.runs("tar xpf -")
TAR = '[ "$(cat $p/comm)" = tar ]'
SHELL = "{ case $w in *nonce=[0-9a-f]*) ;; *) false ;; esac }"


class Trouble:
    """A case's fault on its way.

    Threads of the proxy's call it, one at a time; :meth:`close` waits for the one that is in it.
    """

    def __init__(self, case: Case, breaker: Breaker, pods: tuple[TestPod, TestPod]) -> None:
        self._case = case
        self._pods = pods
        self._breaker = breaker
        self._left = list(case.fault.at)
        self._process = 0
        self._runs = threading.Event()
        self._timers: list[threading.Timer] = []
        self._act = self._action()
        breaker.on_passing = self._on_passing
        if case.fault.kind == "cut anew" or case.fault.detail < 0.1:
            breaker.pieces = random.Random(case.number)
        if case.fault.kind == "delay":
            breaker.delay = PIECE_DELAY

    def runs_in(self, process: int) -> None:
        """Note the client's process."""
        self._process = process
        self._runs.set()

    def close(self) -> None:
        """Let nothing happen any more."""
        self._runs.set()
        with self._breaker.lock:
            self._left.clear()
        for timer in self._timers:
            timer.cancel()
            timer.join()

    def _on_passing(self, breaker: Breaker, link: Link) -> None:
        while self._left and breaker.up + breaker.down >= self._left[0]:
            self._left.pop(0)
            self._act(link)

    def _action(self) -> Callable[[Link], None]:
        kind = self._case.fault.kind
        if kind in SIGNALS:
            return partial(self._signal, signal.Signals[kind])
        if kind in KILLS:
            side, process = kind.split("'s ")
            pod = self._pods[side == "destination"]
            return partial(self._kill, pod, side, TAR if process == "tar" else SHELL)
        acts: dict[str, Callable[[Link], None]] = {
            "reset": Link.reset,
            "finish": Link.finish,
            "freeze": partial(self._freeze, LONGEST_FREEZE, Link.reset),
            "pause": partial(self._freeze, PAUSE, lambda link: link.frozen.clear()),
        }
        return acts.get(kind, lambda _link: None)

    def _freeze(self, seconds: float, then: Callable[[Link], None], link: Link) -> None:
        link.freeze()
        timer = threading.Timer(seconds, then, (link,))
        self._timers.append(timer)
        timer.start()

    def _signal(self, number: signal.Signals, _link: Link) -> None:
        self._runs.wait()
        with suppress(ProcessLookupError):
            os.kill(self._process, number)

    def _kill(self, pod: TestPod, side: str, condition: str, _link: Link) -> None:
        end = "to" if side == "destination" else "from"
        # The two may share a Pod. Without its first slash the path is not found in this script.
        is_there = f"case $w in *{self._case.directory[1:]}/{end}*) ;; *) false ;; esac"
        witness.kill(pod, self._case.directory, f"{{ {condition} && {is_there}; }}")


@contextmanager
def lying(case: Case, server: Server | None) -> Iterator[None]:
    """Let the embedded server lie as the case has it, to the sessions of this case alone."""
    if server is None:
        yield
        return
    pods = case.pods
    for end, lie in _lies(case):
        command = getattr(lie, "meant", (SENDS, RECEIVES)[end])
        server.inject(
            pods[end], lie, command=command, session=0 if _is_for_one(case, lie) else None
        )
    try:
        yield
    finally:
        server.clear_faults()


def _is_for_one(case: Case, lie: Fault) -> bool:
    return case.fault.once or isinstance(lie, lies.Lie)


def _lies(case: Case) -> list[tuple[int, Fault]]:
    """Return the lies, each with the end at which it is told."""
    at, detail = case.fault.at[0], case.fault.detail
    endings = list(Ending)
    ending = endings[int(detail * len(endings))]
    end = int(detail * 1000) % 2
    # The acknowledgement of a destination that stalls is waited for much longer than we would.
    told = ending if ending is not Ending.STALL else Ending.SUCCESS
    both = faults.EndAll(at, told)
    made: dict[str, Callable[[], list[tuple[int, Fault]]]] = {
        "cut stdout": lambda: [(0, faults.CutStdout(at, ending, kill=end == 0))],
        "cut stdin": lambda: [(1, faults.CutStdin(at, success=end == 0))],
        "end early": lambda: [(1, faults.EndEarly(at, told if end else None))],
        "end all": lambda: [(0, both), (1, both)],
        "false status": lambda: [(end, faults.FalseStatus())],
        "hang on early exit": lambda: [(1, _Hang(at))],
        "no trailer": lambda: [(0, faults.no_trailer())],
        "wrong nonce": lambda: [(end, faults.wrong_nonce())],
        "other marker": lambda: [(1, faults.other_marker())],
        "no last word": lambda: [(end, lies.NoLastWord(told))],
        "cut connection": lambda: [(1, lies.CutConnection(at, told))],
    }
    return made.get(case.fault.kind, list)()


class _Hang(faults.HangOnEarlyExit):
    """A process that is killed after some bytes of stdin, and a session that hangs then."""

    def __init__(self, after: int) -> None:
        self._end_early = faults.EndEarly(after)

    def stdin(self, session: faults.Control, data: bytes) -> bytes:
        return self._end_early.stdin(session, data)
