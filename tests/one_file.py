"""The one file, which is what users run, and so what is tested.

Out: its path, and how this Python runs it. :func:`check` raises where it is not there, or older
than what it is made of: a test of an old one would prove nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATH = ROOT / "dist" / "kubectl-podcp"
COMMAND = (sys.executable, str(PATH))
"""Starts it."""

INSTALLED = (sys.executable, "-m", "kubectl_podcp")
"""Starts the client that pip installed, which takes twice as long, and has what is installed beside
it: zstd, where Python itself has none."""


def check() -> None:
    """Make sure that it is made of the sources as they are.

    :raises RuntimeError: it is not.
    """
    made = PATH.stat().st_mtime if PATH.exists() else 0.0
    if any(source.stat().st_mtime > made for source in (ROOT / "kubectl_podcp").rglob("*.py")):
        raise RuntimeError(f"{PATH} is missing or older than the sources: make dist/kubectl-podcp")
