"""``python3 -m tests.cluster COMMAND``: the cluster's launcher."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from . import binaries, daemons, lifecycle, pods, requirements
from .layout import KUBECONFIG, ClusterError

COMMANDS = {
    "up": "bring the cluster up (nothing is done where it is up)",
    "down": "take it down and remove its state",
    "status": "say what runs; the exit status is 0 if all of it does",
    "install": "install the Debian packages that are missing (root, apt-get)",
    "kill": "end a daemon by a signal: kill NAME [SIGNAL], by default KILL",
    "restart": "end a daemon, or a container (POD/CONTAINER), and wait until it is back",
    "kubeconfig": "print the path of its kubeconfig",
    "kubectl": "print the path of the kubectl that belongs to it",
}


def main() -> int:
    """Run one command and return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        made = commands.add_parser(name, help=text, description=text)
        if name in ("kill", "restart"):
            made.add_argument("name", help=f"one of: {', '.join(daemons.NAMES)}")
        if name == "kill":
            made.add_argument("signal", nargs="?", choices=("KILL", "TERM"), default="KILL")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(options)
    except KeyboardInterrupt:
        return 130
    except ClusterError as error:
        if error.tail:
            print(f"--- the end of {error.log}:\n{error.tail}\n---", file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    command = options.command
    if command in ("kill", "restart"):
        _end(options.name, getattr(options, "signal", "KILL"))
        if command == "restart" and "/" not in options.name:
            daemons.start(options.name)
    elif command == "up":
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


def _end(name: str, signal_name: str) -> None:
    pod, _, container = name.partition("/")
    if container:
        pods.kill_container(pod, container)
    elif name not in daemons.NAMES:
        raise ClusterError(f"no such daemon: {name}; there are {', '.join(daemons.NAMES)}")
    else:
        (daemons.kill if signal_name == "KILL" else daemons.stop)(name)


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
