"""Figures that a run measured, printed at its end.

They travel with a test's own report, since the tests may run in several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

FIGURE = "figure"


class Report:
    """One test's figures.

    :param record: pytest's ``record_property``.
    """

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record

    def add(self, line: str) -> None:
        """Add a line."""
        self._record(FIGURE, line)

    @staticmethod
    def lines(properties: Iterable[tuple[str, object]]) -> list[str]:
        """Return the lines among a test's recorded properties."""
        return [str(value) for key, value in properties if key == FIGURE]
