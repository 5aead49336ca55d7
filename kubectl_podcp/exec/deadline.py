"""One time limit over several steps: each step asks what is left. No I/O; any thread."""

from __future__ import annotations

import math
import time

LONGEST = 2_000_000.0
"""Seconds that are waited at once, at the most: some 23 days. ``poll`` takes 31 bits of ms."""


class Deadline:
    """A point in time, ``timeout`` seconds from now; never, for ``None``."""

    __slots__ = ("_end",)

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Return the seconds that are left, more than 0 and up to :data:`LONGEST`; ``None`` for no
        limit.

        :raises TimeoutError: the point has passed.
        """
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, LONGEST)

    def within(self, seconds: float) -> Deadline:
        """Return a deadline ``seconds`` from now, or this one where it is sooner.

        :raises TimeoutError: this one has passed.
        """
        left = self.remaining()
        return Deadline(seconds if left is None else min(seconds, left))

    def milliseconds(self) -> int | None:
        """Return what is left as ``poll`` takes it, rounded up; raises like :meth:`remaining`."""
        left = self.remaining()
        return None if left is None else math.ceil(left * 1000)
