"""How far a copy is, line by line: for a log, ``--progress plain``, or for a machine, ``json``.

A thread of its own reads a :class:`~kubectl_podcp.report.Tally` and writes; it ends with the
context. No control characters. Raises nothing: a reader that went away must not end a copy.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from kubectl_podcp.errors import printable
from kubectl_podcp.progress import clock, during, rates
from kubectl_podcp.report import Tally, count_files, human_size

Told = Callable[[Tally, float], str]


def plain(tally: Tally, rate: float) -> str:
    """Return a line for a person who reads it later.

    :param rate: bytes per second.
    """
    if tally.verifying:
        return f"verifying: {tally.read_again:,} of {tally.files:,} files"
    size = human_size(tally.passed)
    if tally.total:
        share = tally.passed / tally.total
        size = f"{share:.0%}, {size} of {human_size(tally.total)}"
    seconds = _eta(tally, rate)
    eta = f", ETA {clock(seconds)}" if seconds is not None else ""
    return f"copying: {count_files(tally.files)}, {size}, {human_size(rate)}/s{eta}{_rows(tally)}"


def _rows(tally: Tally) -> str:
    """Return how many of several destinations are done, and how many have failed."""
    if not tally.rows:
        return ""
    states = [row.state for row in tally.rows]
    failed = states.count("failed")
    done = f", {states.count('complete')} of {len(states)} destinations complete"
    return f"{done}, {failed} failed" if failed else done


def machine(tally: Tally, rate: float) -> str:
    """Return a JSON object.

    :param rate: bytes per second.
    """
    said: dict[str, object] = {
        "phase": "verifying" if tally.verifying else "copying",
        "bytes": tally.passed,
        "total": tally.total,
        "files": tally.files,
        "rate": round(rate),
        "eta": _eta(tally, rate),
        "read_again": tally.read_again,
    }
    if tally.rows:
        said["destinations"] = [
            {"destination": printable(row.name), "state": row.state, "bytes": row.sent}
            for row in tally.rows
        ]
    return json.dumps(said)


def _eta(tally: Tally, rate: float) -> int | None:
    if not tally.total or not rate or tally.verifying:
        return None
    return round((tally.total - tally.passed) / rate)


@contextmanager
def lines(
    tally: Tally, stream: TextIO, told: Told, interval: float, *, last: bool = False
) -> Iterator[None]:
    """Write what ``told`` says of ``tally``, each ``interval`` seconds while the context lasts.

    :param last: whether once more at its end.
    """

    def write(ended: threading.Event) -> None:
        rate = 0.0
        with suppress(OSError, ValueError):
            for rate in rates(tally, interval, ended):
                stream.write(f"{told(tally, rate)}\n")
                stream.flush()
            if last:
                stream.write(f"{told(tally, rate)}\n")
                stream.flush()

    with during(write):
        yield
