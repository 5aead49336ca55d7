"""Run a command in a root directory: the last step of entering a container.

::

    python -I -S launch.py ROOT USER PROGRAM COMMAND [ARGUMENT...]

PROGRAM is the file, COMMAND the name under which it runs. The command becomes a child, since
only a child enters the PID namespace that `nsenter` has chosen. This process keeps none of its
streams open: when the command closes its stdin or its stdout, the other end of the pipe must
notice. It ends with the command's exit code, or with 128 plus the signal that killed it.

Nothing but the standard library's quickest parts is imported, and nothing after `chroot`.
"""

import os
import signal
import sys


def become(root: str, user: int, program: str, command: list[str]) -> None:
    """Turn this process into the command."""
    os.chroot(root)
    os.chdir("/")
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    os.execv(program, command)


def main() -> None:
    """Start the command and wait for its end."""
    root, user, program, *command = sys.argv[1:]
    child = os.fork()
    if child == 0:
        become(root, int(user), program, command)
    for stream in range(3):
        os.close(stream)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


if __name__ == "__main__":
    main()
