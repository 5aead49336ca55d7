"""``python3 -m tests.cluster COMMAND``: the cluster's launcher."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from . import binaries, lifecycle, requirements
from .layout import KUBECONFIG, ClusterError

COMMANDS = {
    "up": "bring the cluster up (nothing is done where it is up)",
    "down": "take it down and remove its state",
    "status": "say what runs; the exit status is 0 if all of it does",
    "install": "install the Debian packages that are missing (root, apt-get)",
    "kubeconfig": "print the path of its kubeconfig",
    "kubectl": "print the path of the kubectl that belongs to it",
}


def main() -> int:
    """Run one command and return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, description=text)
    command = parser.parse_args().command
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(command)
    except KeyboardInterrupt:
        return 130
    except ClusterError as error:
        if error.tail:
            print(f"--- the end of {error.log}:\n{error.tail}\n---", file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(command: str) -> int:
    if command == "up":
        lifecycle.up()
        print(f"export KUBECONFIG={KUBECONFIG}")
    elif command == "down":
        lifecycle.down()
    elif command == "status":
        return _status()
    elif command == "install":
        print(f"installed: {' '.join(requirements.install()) or 'nothing was missing'}")
    else:
        print(KUBECONFIG if command == "kubeconfig" else binaries.KUBECTL)
    return 0


def _status() -> int:
    states = lifecycle.states()
    for name, good in states.items():
        print(f"{name:15}{'up' if good else 'down'}")
    return 0 if all(states.values()) else 1


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Make SIGTERM unwind the stack, so that a start which is ended cleans up."""
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
