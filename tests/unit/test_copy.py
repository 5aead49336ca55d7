"""What a copy does where no end-to-end test can be quick enough to see it."""

from __future__ import annotations

import importlib
from typing import Any

from kubectl_podcp.errors import TimedOut

# Not by name: the package's attribute "copy" is the function.
Tries: Any = importlib.import_module("kubectl_podcp.copy").Tries


class Slow(Tries):  # type: ignore[misc]
    """Cleans up when its time is just over."""

    def __init__(self) -> None:
        self.times = 0

    def _clean_up(self, *, kept: bool = True) -> list[str]:
        self.times += 1
        if self.times == 1:
            raise TimedOut(5.0)
        return [f"cleaned, kept: {kept}"]


def test_a_time_that_is_over_does_not_end_the_clean_up() -> None:
    """Another error came before it, and counts."""
    tries = Slow()
    assert tries._clean_up_at_the_end(kept=False) == ["cleaned, kept: False"]
    assert tries.times == 2
