"""Figures that a run measured, printed at its end."""

from __future__ import annotations


class Report:
    """Lines for the end of the run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)
