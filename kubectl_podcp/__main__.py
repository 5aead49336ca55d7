"""``python -m kubectl_podcp``, and what the one file and the installed command start."""

from __future__ import annotations

import sys

from kubectl_podcp.cli import main


def run() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(main(sys.argv, for_good=True))


if __name__ == "__main__":
    run()
