"""Whether anybody still reads what we say: a watch on output streams while a copy runs.

In: streams, and what to call. Out: a context, in which a reader that goes away is noticed at
once; the next write would notice it too, but a copy may write nothing for hours. Raises nothing.
Only pipes and sockets are watched: a file, a terminal and /dev/null have no reader that could go.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

_GONE = select.POLLERR | select.POLLHUP


@contextmanager
def watched(streams: Sequence[TextIO | None], gone: Callable[[], None]) -> Iterator[None]:
    """Call ``gone``, once and in a thread of its own, when the reader of a stream has gone.

    The thread waits in ``poll``, and is woken by such a reader, or by ``waker`` when the context
    ends.
    """
    numbers = {number for stream in streams if (number := _with_a_reader(stream)) is not None}
    if not numbers:
        yield
        return
    alarm, waker = os.pipe()
    thread = threading.Thread(
        target=_watch,
        args=(numbers, alarm, gone),
        name="outputs",
        daemon=True,  # a signal may leave start() by an exception, and nobody would wake it then
    )
    try:
        thread.start()
        yield
    finally:
        os.close(waker)
        if thread.ident is not None:
            thread.join()
        os.close(alarm)


def _with_a_reader(stream: TextIO | None) -> int | None:
    """Return the descriptor of ``stream`` where it is a pipe or a socket."""
    if stream is None:
        return None
    try:
        number = stream.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError):  # closed, or no file at all
        return None
    return number if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _watch(numbers: set[int], alarm: int, gone: Callable[[], None]) -> None:
    poller = select.poll()
    for number in (alarm, *numbers):
        poller.register(number, 0)  # what counts comes unasked
    events = dict(poller.poll())
    if alarm not in events and any(event & _GONE for event in events.values()):
        gone()
