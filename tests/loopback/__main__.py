"""Run the embedded cluster until Ctrl-C or SIGTERM::

python -m tests.loopback [--directory DIR] [--demo]
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from tests import userlands
from tests.loopback.isolation import CannotIsolate
from tests.loopback.server import Server

_USAGE = """\
The embedded cluster is running. In another terminal:

  export KUBECONFIG={kubeconfig}
  kubectl get pods
  kubectl exec gnu-0 -- ls -l /
  kubectl podcp gnu-0:/usr/bin gnu-1:/tmp

Context podcp-v4 is a server without the exec protocol v5. Ctrl-C ends it all.
"""
_DEMO = """\
Two more Pods are there for the demonstration, with some thousand files:

  kubectl podcp shop/web-0:/data/photos backup/store-0:/srv/photos
"""


def main() -> int:
    """Run until a signal comes; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.loopback", description=__doc__)
    parser.add_argument("--directory", type=Path, help="for Pods and kubeconfig; it is kept")
    parser.add_argument("--demo", action="store_true", help="say how to copy the demo's tree")
    arguments = parser.parse_args()
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        with Server(arguments.directory) as server:
            print(_USAGE.format(kubeconfig=server.kubeconfig))
            if arguments.demo:
                print(_DEMO)
            if absent := userlands.missing():
                print(f"For more userlands: apt-get install {' '.join(absent)}\n")
            sys.stdout.flush()
            stop.wait()
    except CannotIsolate as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
