"""How the processes of a Pod are kept apart from this machine, and how all of them are found.

What goes in: the directory that is a container's root. What comes out: a :class:`Sandbox`, which
turns a command into one that runs inside. Raises :class:`CannotIsolate` where the machine allows
none of the three ways:

==============  ===========================================================================
namespaces      root: a mount and a PID namespace of its own for each container
user namespace  another user: the same inside ``unshare --user --map-root-user``
chroot          root without the right to unshare, as in a Docker container: no /proc inside
==============  ===========================================================================

In a namespace the first process is a ``cat`` that reads a pipe of ours. When we stop, or are
killed, the pipe ends, ``cat`` ends, and the kernel kills whatever else lives in its PID
namespace and forgets its mounts: nothing survives us. In a mere chroot, :meth:`Sandbox.stop`
kills the processes whose root is the Pod's directory.

Any thread may enter a sandbox; one thread starts it and one stops it.
"""

from __future__ import annotations

import functools
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
"""Name, major and minor number of the device nodes of a container."""

_LAUNCH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")))
_STOP_TIMEOUT = 10.0

_FIRST_PROCESS = """
set -e
root=$1; shift
mount -t proc proc "$root/proc"
for device do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
echo ready
exec cat
"""
"""What the first process of a container does, with its root and its devices as arguments.

The mounts are seen in its own namespace alone: outside, ``proc`` and ``dev`` stay as they are.
"""


class CannotIsolate(Exception):
    """This machine does not let us run a process in a root directory of its own."""


class Isolation(Enum):
    """The ways to keep processes apart, from the best to the plainest."""

    NAMESPACES = ("--mount", "--pid")
    USER_NAMESPACE = ("--user", "--map-root-user", "--mount", "--pid")
    CHROOT = ()


@functools.cache
def best() -> Isolation:
    """Return the best way that works on this machine; it is tried out, once.

    :raises CannotIsolate: none does; the text says what would help.
    """
    root = os.geteuid() == 0
    namespaces = Isolation.NAMESPACES if root else Isolation.USER_NAMESPACE
    if _works("unshare", *namespaces.value, "--fork", "--mount-proc", "true"):
        return namespaces
    if root and _works(*_LAUNCH, "/", "0", "/bin/true", "true"):
        return Isolation.CHROOT
    raise CannotIsolate(
        "the Pods of the embedded cluster need Linux and one of these: root, with the right to "
        "unshare or at least to chroot; or a kernel that lets other users make user namespaces "
        "(sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0)"
    )


def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Sandbox:
    """A root directory in which processes run."""

    def __init__(self, root: Path, isolation: Isolation) -> None:
        """Make the sandbox: its first process runs, its devices are there.

        :raises CannotIsolate: the machine allowed it in a trial, but not here.
        """
        self._root = root
        self._isolation = isolation
        (root / "dev").mkdir(exist_ok=True)
        if isolation is Isolation.CHROOT:
            self._make_devices()
        else:
            self._first = self._start_first_process()

    def enter(self, program: str, command: Sequence[str], user: int) -> list[str]:
        """Return the command line that runs `command` inside, as the user of that number.

        :param program: the path, inside, of the file to execute.
        """
        launch = [*_LAUNCH, str(self._root), str(user), program, *command]
        if self._isolation is Isolation.CHROOT:
            return launch
        of = f"/proc/{self._first.pid}/ns"
        enter = ["nsenter", "--no-fork", f"--mount={of}/mnt", f"--pid={of}/pid_for_children"]
        if self._isolation is Isolation.USER_NAMESPACE:
            enter += [f"--user={of}/user", "--preserve-credentials"]
        return [*enter, *launch]

    def stop(self) -> None:
        """Kill every process inside and wait until they are gone. May be called twice."""
        if self._isolation is Isolation.CHROOT:
            self._kill_all()
            return
        assert self._first.stdin is not None and self._first.stdout is not None
        self._first.stdin.close()
        self._first.wait(_STOP_TIMEOUT)
        self._first.stdout.close()

    def _start_first_process(self) -> subprocess.Popen[bytes]:
        devices = [name for name in _DEVICES if Path("/dev", name).exists()]
        script = ["sh", "-c", _FIRST_PROCESS, "sh", str(self._root), *devices]
        first = subprocess.Popen(
            ["unshare", *self._isolation.value, "--fork", "--kill-child", *script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C at the terminal is for the server alone
        )
        assert first.stdout is not None
        said = first.stdout.readline()
        if said != b"ready\n":
            raise CannotIsolate(
                f"no container in {self._root}: {(said + first.communicate()[0])!r}"
            )
        return first

    def _make_devices(self) -> None:
        for name, (major, minor) in _DEVICES.items():
            node = self._root / "dev" / name
            try:
                os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
                node.chmod(0o666)
            except FileExistsError:
                pass
            except OSError as error:
                raise CannotIsolate(f"cannot make the device {node}: {error}") from error

    def _kill_all(self) -> None:
        deadline = time.monotonic() + _STOP_TIMEOUT
        while (inside := self._processes()) and time.monotonic() < deadline:
            for process in inside:  # one of them may have had a child meanwhile: look again
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _processes(self) -> list[int]:
        """Return the processes whose root is ours, wherever they have wandered."""
        inside = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal() and (entry / "root").readlink() == self._root:
                    inside.append(int(entry.name))
        return inside
