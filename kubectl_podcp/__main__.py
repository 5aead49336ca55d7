"""``python -m kubectl_podcp``, and what the one file and the installed command start."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from kubectl_podcp.cli import main


def run() -> NoReturn:
    """Run the command line and end the process with its exit code.

    Python's own way to end would wait, with all signals ignored, for a lock that a thread may have
    held which it has just ended: one that was given up by a signal, and was importing. What there
    is to be said has been said and flushed.
    """
    os._exit(main(sys.argv, for_good=True))


if __name__ == "__main__":
    run()
