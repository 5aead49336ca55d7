"""What the signals that ask a program to end do to a copy.

In: SIGINT, SIGTERM, SIGHUP, and SIGPIPE where nobody reads our output any more; out:
:class:`Interrupted` in the main thread, where the copy cleans up. A second one ends the process at
once: both containers clean up by themselves.

Python notes a signal when it comes, and calls the handler before the main thread's next step. Where
that thread was about to wait, it sleeps over the note, and where the system handed the signal to
another thread, nothing ends the wait either. So a thread of ours is told of each signal, too
(``signal.set_wakeup_fd``), and wakes the main thread until it has looked.

While the main thread imports, an exception could leave the lock that all imports share held for
ever, or be swallowed where Python calls back. So a signal that comes then is sent once more.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

from kubectl_podcp.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)

AGAIN = 0.05
"""Seconds after which a main thread that has not looked is woken once more."""


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
        self._is_watched = False  # whether there is somebody who sends a signal once more
        self._put_off: int | None = None
        self._is_read = True
        # The main thread's handler says that it has looked, where another handler may end it at
        # any step by an exception: with an Event, whose lock would then be held for ever.
        self._looks = 0
        self._looked = queue.SimpleQueue[None]()
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
            self._ignore()
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Raise in this context alone: what comes when the outcome is known changes nothing."""
        try:
            with self._woken():
                yield
        finally:
            self._is_over = True

    def nobody_reads(self) -> None:
        """Say that our output has no reader any more.

        By itself SIGPIPE means that a connection broke, and whoever writes to it hears of that by
        an exception.
        """
        self._is_read = False
        self._wake()

    @contextmanager
    def _woken(self) -> Iterator[None]:
        """See to it that no wait of the main thread outlasts a signal in this context."""
        if not self._before:
            yield
            return
        alarm, writer = os.pipe()
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # A signal's exception may leave start(), and the thread runs all the same: it is a daemon,
        # it closes its end of the pipe itself, and it ends with the other one.
        thread = threading.Thread(target=self._watch, args=(alarm,), name="signals", daemon=True)
        try:
            thread.start()
            self._is_watched = True
            yield
        finally:
            self._is_watched = False
            signal.set_wakeup_fd(before)
            os.close(writer)
            if thread.ident is not None:
                thread.join()

    def _watch(self, alarm: int) -> None:
        with open(alarm, "rb", buffering=0) as came:
            while numbers := came.read(64):
                # Not for SIGPIPE, which is what wakes, nor what a write to a broken pipe gives.
                if any(number != signal.SIGPIPE for number in numbers):
                    self._wake()
                if (number := self._put_off) is not None:
                    self._put_off = None
                    time.sleep(AGAIN)
                    signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _wake(self) -> None:
        """Send the main thread SIGPIPE until it has looked at the signals that came; where somebody
        else listens to signals, nobody would say that it has."""
        if signal.SIGPIPE not in self._before:
            return
        main = threading.main_thread().ident or 0
        seen = self._looks
        while self._looks == seen:
            signal.pthread_kill(main, signal.SIGPIPE)
            with suppress(queue.Empty):
                self._looked.get(timeout=AGAIN)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGPIPE:
            self._looks += 1
            self._looked.put(None)
        is_ours = number != signal.SIGPIPE or not (self._is_read or self._is_over)
        if not is_ours:
            return
        if self._is_heard:
            if number != signal.SIGPIPE:  # it came before the handler below was there
                _end_at_once(number, frame)
            return
        if self._is_watched and _imports(frame):
            self._put_off = number
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


def _imports(frame: FrameType | None) -> bool:
    """Whether what is interrupted is at work for an import statement."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
