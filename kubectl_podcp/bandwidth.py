"""How fast an archive may go: a token bucket, and how its rate is written.

In: bytes that are about to be sent. Out: how many seconds to wait before that; nobody waits here.
Raises :class:`~kubectl_podcp.errors.UsageError` for a rate that is none. Any thread, and several at
once: they share the rate.
"""

from __future__ import annotations

import re
import threading
import time

from kubectl_podcp.errors import UsageError

BURST = 0.1
"""Seconds of the rate that may be made up for, after a time in which less was sent."""

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def rate(text: str) -> float | None:
    """Return the bytes per second that ``--bwlimit`` means: ``500K``, ``1.5M``; None for ``0``.

    :raises UsageError: it is no rate, or has no unit: rsync's is 1024 bytes then, curl's is one.
    """
    if text == "0":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG])(?:iB)?", text, re.ASCII | re.IGNORECASE)
    if not match or not float(match[1]):
        raise UsageError(
            f"--bwlimit '{text}' is no rate",
            advice="write bytes per second with a unit, as 500K, 10M or 1G; 0 is no limit",
        )
    return float(match[1]) * _UNITS[match[2].upper()]


class Bucket:
    """The bytes that may go now.

    What is sent is owed afterwards: the next one waits until that is paid for.

    :param rate: bytes per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, size: int) -> float:
        """Take leave to send ``size`` bytes; return the seconds to wait before that."""
        with self._lock:
            now = time.monotonic()
            begins = max(self._free_at, now - BURST)
            self._free_at = begins + size / self._rate
            return max(0.0, begins - now)
