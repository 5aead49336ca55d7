"""The bar: a line on a terminal that tells how far a copy is, and one for each of several
destinations.

A thread of its own reads a :class:`Tally` four times a second and writes; it ends with the context.
Raises nothing: a terminal that went away must not end a copy.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from kubectl_podcp.report import Tally, count_files, human_size

INTERVAL = 0.25
"""Seconds between two drawings."""

SMOOTHING = 0.3
"""Weight of the newest interval in the rate."""

WIDTH = 80
"""Columns of a terminal that does not tell."""

HEIGHT = 24
"""Lines of a terminal that does not tell."""

ERASE = "\r\x1b[J"
"""Empties the bar's first line, where the cursor stands, and those below."""

BAR = 24
"""Columns of the bar proper, where the total is known."""


@contextmanager
def shown(tally: Tally, stream: TextIO) -> Iterator[None]:
    """Draw ``tally`` on ``stream``, a terminal, while the context lasts; leave the line empty."""
    with during(lambda ended: _draw(tally, stream, ended)):
        yield


@contextmanager
def during(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Let ``work`` run in a thread of its own until the context ends, of which it is told."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name="progress")
    try:
        thread.start()  # a signal's exception may leave it, and the thread runs all the same
        yield
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join()


def rates(tally: Tally, interval: float, ended: threading.Event) -> Iterator[float]:
    """Yield the rate to be shown, in bytes per second, each ``interval`` seconds until the end."""
    rate, relayed, before = 0.0, 0, time.monotonic()
    while not ended.wait(interval):
        now = time.monotonic()
        newest = (tally.relayed - relayed) / (now - before)
        rate = newest if not rate else rate + SMOOTHING * (newest - rate)
        relayed, before = tally.relayed, now
        yield rate


def _draw(tally: Tally, stream: TextIO, ended: threading.Event) -> None:
    with suppress(OSError, ValueError):
        for rate in rates(tally, INTERVAL, ended):
            if tally.asking:
                continue
            size = _size(stream)
            lines = [line(tally, rate), *rows(tally, size.lines - 2)]
            shown = "\n".join(each[: size.columns - 1] for each in lines)
            up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""  # where others write
            stream.write(f"{ERASE}{shown}{up}")
            stream.flush()
        stream.write(ERASE)
        stream.flush()


def _size(stream: TextIO) -> os.terminal_size:
    """Return columns and lines, of which a terminal may not tell either."""
    told = os.terminal_size((0, 0))
    with suppress(OSError, ValueError):  # no terminal
        told = os.get_terminal_size(stream.fileno())
    with suppress(ValueError):
        told = os.terminal_size((int(os.environ.get("COLUMNS", 0)) or told.columns, told.lines))
    return os.terminal_size((told.columns or WIDTH, told.lines or HEIGHT))


def rows(tally: Tally, most: int) -> list[str]:
    """Return the text for each destination, where there are several; at most so many lines."""
    shown = tally.rows if len(tally.rows) <= most else tally.rows[: max(0, most - 1)]
    hidden = len(tally.rows) - len(shown)
    return [f"  {row.text()}" for row in shown] + ([f"  and {hidden:,} more"] if hidden else [])


def line(tally: Tally, rate: float) -> str:
    """Return the bar's text.

    :param rate: bytes per second.
    """
    files = count_files(tally.files)
    if tally.verifying:
        return f"verifying  {tally.read_again:,} of {files}"
    if not tally.total:
        return f"{files}  {human_size(tally.relayed)}  {human_size(rate)}/s"
    passed = tally.passed
    share = passed / tally.total
    bar = ("=" * int(share * BAR)).ljust(BAR)
    eta = f"  ETA {clock((tally.total - passed) / rate)}" if rate else ""
    sizes = f"{human_size(passed)} of {human_size(tally.total)}"
    return f"[{bar}] {share:4.0%}  {sizes}  {human_size(rate)}/s{eta}"


def clock(seconds: float) -> str:
    """Return ``seconds`` as a clock shows them: ``1:00:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
