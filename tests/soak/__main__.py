"""Run the soak::

    python -m tests.soak [--count 1000] [--seed S] [--jobs 4]
    python -m tests.soak --seed S --case N        one case again

on embedded clusters, one for each job, or on that of ``PODCP_TEST_KUBECONFIG``. Exit code 1 if
anything did not hold that must; what did not is printed with the command that repeats it.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.soak import runner


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--case", type=int, help="that one alone")
    options = parser.parse_args()
    numbers = range(options.count) if options.case is None else [options.case]
    summary = runner.run(
        options.seed, numbers, options.jobs, os.environ.get("PODCP_TEST_KUBECONFIG"), print
    )
    print("\n".join(summary.lines()))
    return 1 if summary.failures else 0


if __name__ == "__main__":
    sys.exit(main())
