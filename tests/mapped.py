"""A command as root of a user namespace that has the ids 0 to 65,535, as Kubernetes gives one to a
Pod with ``hostUsers: false``. Needs root: ``python tests/mapped.py COMMAND...``."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

IDS = 65_536
_NEW_USER = 0x10000000  # CLONE_NEWUSER

COMMAND = (sys.executable, __file__)
"""What the command's own words follow."""


def main(argv: list[str]) -> int:
    """Run ``argv``; return its exit code."""
    inside, is_made = os.pipe()
    waits, may_go = os.pipe()
    child = os.fork()
    if not child:
        _become(argv, is_made, waits)
    os.close(is_made)
    if os.read(inside, 1):
        for kind in ("uid", "gid"):
            Path(f"/proc/{child}/{kind}_map").write_text(f"0 0 {IDS}", "ascii")
        os.write(may_go, b".")
    os.close(may_go)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become(argv: list[str], is_made: int, waits: int) -> None:
    """Become ``argv``, once the ids are mapped from outside."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER):
        print(f"unshare: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        os._exit(125)
    os.write(is_made, b".")
    os.read(waits, 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
