"""What the signals that ask a program to end do to a copy.

In: SIGINT, SIGTERM, SIGHUP, and SIGPIPE where nobody reads our output any more; out:
:class:`Interrupted` in the main thread, where the copy cleans up. A second one ends the process at
once: both containers clean up by themselves.
"""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

from kubectl_podcp.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


class Signals:
    """Listens to signals while it is entered. Outside of the main thread somebody else does.

    :param stops: is called before :class:`Interrupted` is raised.
    :param for_good: whether the process ends with the copy: then nobody hears signals afterwards,
        and none can spoil its exit code any more.
    """

    def __init__(self, stops: Callable[[], None], *, for_good: bool = False) -> None:
        self._stops = stops
        self._for_good = for_good
        self._is_over = self._is_heard = False
        self._is_read = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        with suppress(ValueError):  # not the main thread
            for number in ENDING:
                # nohup lets SIGHUP be ignored; SIGPIPE is, in any program of Python's
                if number == signal.SIGPIPE or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._for_good:
            atexit.register(self._ignore)
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Raise in this context alone: what comes when the outcome is known changes nothing."""
        try:
            yield
        finally:
            self._is_over = True

    def nobody_reads(self) -> None:
        """Say that our output has no reader any more.

        By itself SIGPIPE means that a connection broke, and whoever writes to it hears of that by
        an exception.
        """
        self._is_read = False
        # To the main thread, not only to the process: that one must wake up.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGPIPE)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        is_ours = number != signal.SIGPIPE or not (self._is_read or self._is_over)
        if self._is_heard or not is_ours:
            return
        self._is_heard = True
        for each in self._before:
            if each == number != signal.SIGPIPE:
                signal.signal(each, signal.SIG_DFL)
            elif each != signal.SIGPIPE:  # it may have come with this one: then it needs a handler
                signal.signal(each, _end_at_once)
        if not self._is_over:
            self._stops()
            raise Interrupted(number)

    def _ignore(self) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
