"""The bar: one line on a terminal that tells how far a copy is.

A thread of its own reads a :class:`Tally` four times a second and writes; it ends with the context.
Raises nothing: a terminal that went away must not end a copy.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from kubectl_podcp.report import Tally, human_size

INTERVAL = 0.25
"""Seconds between two drawings."""

SMOOTHING = 0.3
"""Weight of the newest interval in the rate."""

BAR = 24
"""Columns of the bar proper, where the total is known."""


@contextmanager
def shown(tally: Tally, stream: TextIO) -> Iterator[None]:
    """Draw ``tally`` on ``stream``, a terminal, while the context lasts; leave the line empty."""
    ended = threading.Event()
    thread = threading.Thread(target=_draw, args=(tally, stream, ended), name="progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _draw(tally: Tally, stream: TextIO, ended: threading.Event) -> None:
    rate, relayed, before = 0.0, 0, time.monotonic()
    with suppress(OSError, ValueError):
        while not ended.wait(INTERVAL):
            now = time.monotonic()
            newest = (tally.relayed - relayed) / (now - before)
            rate = newest if not rate else rate + SMOOTHING * (newest - rate)
            relayed, before = tally.relayed, now
            stream.write("\r\x1b[K" + line(tally, rate)[: _columns(stream) - 1])
            stream.flush()
        stream.write("\r\x1b[K")
        stream.flush()


def _columns(stream: TextIO) -> int:
    with suppress(OSError, ValueError):  # no terminal, or one that does not tell
        return int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size(stream.fileno()).columns
    return 80


def line(tally: Tally, rate: float) -> str:
    """Return the bar's text.

    :param rate: bytes per second.
    """
    files = "1 file" if tally.files == 1 else f"{tally.files:,} files"
    if not tally.total:
        return f"{files}  {human_size(tally.relayed)}  {human_size(rate)}/s"
    passed = min(tally.relayed, tally.total)  # an archive is more than its contents
    share = passed / tally.total
    bar = ("=" * int(share * BAR)).ljust(BAR)
    eta = f"  ETA {_clock((tally.total - passed) / rate)}" if rate else ""
    sizes = f"{human_size(passed)} of {human_size(tally.total)}"
    return f"[{bar}] {share:4.0%}  {sizes}  {human_size(rate)}/s{eta}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
