"""The bar: one line on a terminal that tells how far a copy is.

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
            stream.write("\r\x1b[K" + line(tally, rate)[: _columns(stream) - 1])
            stream.flush()
        stream.write("\r\x1b[K")
        stream.flush()


def _columns(stream: TextIO) -> int:
    with suppress(OSError, ValueError):  # no terminal, or one that does not tell
        columns = int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size(stream.fileno()).columns
        return columns or WIDTH  # 0 where nobody has told the terminal
    return WIDTH


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
