"""The library as a command, which says what it left behind: threads and descriptors.

In goes the product's command line; out comes the same as from the product, or exit code 99.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from pathlib import Path

from kubectl_podcp import PodcpError, arguments, copy
from kubectl_podcp.cli import exit_code

LEFT_BEHIND = 99


def main(argv: list[str]) -> int:
    """Copy; return the exit code."""
    said = arguments.parse("library", argv)
    before = _open()
    code = 0
    try:
        report = copy(said.sources[0], said.destinations[0], arguments.options(said))
        print(report.summary(), file=sys.stderr)
    except PodcpError as error:
        print(f"error: {error}", file=sys.stderr)
        code = exit_code(error)
    if (after := _open()) != before:
        print(f"left behind: {after}, where {before} were", file=sys.stderr)
        return LEFT_BEHIND
    return code


def _open() -> tuple[list[str], list[str]]:
    """Return the threads, and what the descriptors lead to."""
    threads = [str(each) for each in threading.enumerate()]
    descriptors = []
    for number in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # of the one by which they are listed
            descriptors.append(f"{number.name} {number.readlink()}")
    return threads, sorted(descriptors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
