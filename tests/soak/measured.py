"""Run a command; tell a descriptor its process, and at its end its status and its memory::

    python -I -S measured.py DESCRIPTOR COMMAND...

The kernel's high-water mark of a process includes the one from which it was forked, so that one
has to be as small as this.
"""

import os
import signal
import sys


def main() -> None:
    """Run the command to its end."""
    told = int(sys.argv[1])
    child = os.fork()
    if child == 0:
        os.close(told)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.execv(sys.argv[2], sys.argv[2:])
    os.write(told, b"%d\n" % child)
    _, status, usage = os.wait4(child, 0)
    os.write(told, b"%d %d\n" % (os.waitstatus_to_exitcode(status), usage.ru_maxrss))


if __name__ == "__main__":
    main()
