"""The namespaces that the cluster lives in: a process tree and a mount table of its own.

Everything of the cluster (daemons, shims, containers and their mounts) is inside one PID and one
mount namespace, whose first process is a shell that sleeps. This is what makes taking it down
certain: when that shell ends, the kernel kills every process of the namespace, whoever started
it, and the mounts end with the last of them. The machine's own containerd, its /run, /var/lib,
/var/log and its kernel settings are neither seen nor touched.

The network is the machine's: tests reach the API servers on 127.0.0.1.

Until :meth:`Machine.keep` is called the shell also ends when the launcher does, even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .layout import BINARIES, ENVIRONMENT, LOGS, STATE, ClusterError

_NAME = "podcp-cluster"
"""The shell's argv[0]; with the state folder after it, it tells one clone's cluster from others."""

_FIRST_PROCESS = r"""
set -e
state=$1 binaries=$2
read -r pid _ </proc/self/stat  # /proc is still the machine's: this is our number out there
mount --bind "$binaries" "$state/bin"
mount --rbind "$state" "$state/run/podcp"
mount --rbind "$state/run" /run  # from here on by way of /run: the checkout may be in /var/lib
mount --bind /run/podcp/lib /var/lib
mount --bind /run/podcp/log /var/log
mount -t proc proc /proc
for key in kernel/panic kernel/panic_on_oops kernel/keys/root_maxbytes kernel/keys/root_maxkeys \
           vm/overcommit_memory vm/panic_on_oom
do  # the kubelet insists on setting these, for the whole kernel: let it set files
    mkdir -p "/run/podcp/sysctl/${key%/*}"
    cat "/proc/sys/$key" >"/run/podcp/sysctl/$key"
    mount --bind "/run/podcp/sysctl/$key" "/proc/sys/$key"
done
echo "$pid"
read -r _  # end of input: the launcher died before the cluster was complete
while :; do sleep 86400; done
"""

_DAEMON = r"""
read -r pid _ </proc/self/stat  # as above: not in the mount namespace yet
echo "$pid"
log=$1 mounts=$2
shift 2
exec >>"$log" 2>&1
exec nsenter --mount="$mounts" -- "$@"
"""


class Machine:
    """The namespaces of the running cluster.

    :param pid: the process id, outside, of their first process.
    """

    def __init__(self, pid: int, shell: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._shell = shell

    @classmethod
    def find(cls) -> Machine | None:
        """Return the machine of this checkout if there is one.

        It is found by its argv, not by a file: files get lost, or outlive a reboot.
        """
        for pid in _processes():
            if _namespace_pids(pid)[1:] == ["1"]:
                return cls(pid)
        return None

    @classmethod
    def create(cls) -> Machine:
        """Make an empty state folder and the namespaces; there must be none yet."""
        for folder in ("bin", "etc", "lib", "log", "pids", "run/podcp"):
            (STATE / folder).mkdir(parents=True)
        STATE.chmod(0o700)
        log = LOGS / "machine.log"
        unshare = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", _FIRST_PROCESS]
        with log.open("wb") as stderr:
            shell = subprocess.Popen(
                [*unshare, _NAME, str(STATE), str(BINARIES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        assert shell.stdout is not None
        answer = shell.stdout.readline()
        if not answer:
            shell.wait()
            raise ClusterError("no namespaces: a container must be a privileged one", log)
        return cls(int(answer), shell)

    def keep(self) -> None:
        """Let the machine live on after this process."""
        assert self._shell is not None and self._shell.stdin is not None
        self._shell.stdin.write(b"keep\n")
        self._shell.stdin.close()

    def run(self, *command: str | Path, timeout: float = 60) -> None:
        """Run a command inside, to its end.

        :raises ClusterError: it failed; the text has its stderr.
        """
        nsenter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--"]
        try:
            result = subprocess.run(
                [*nsenter, *command],
                env=ENVIRONMENT,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{command[0]} took longer than {timeout:.0f} s") from error
        if result.returncode:
            raise ClusterError(f"{command[0]}: {result.stderr.decode(errors='replace').strip()}")

    def spawn(self, command: Sequence[str], log: Path) -> int:
        """Start a daemon inside, its output appended to `log`; return its process id outside."""
        nsenter = ["nsenter", f"--target={self.pid}", "--pid", "--"]
        shell = [
            "setsid",
            "--fork",
            "sh",
            "-c",
            _DAEMON,
            "sh",
            str(log),
            f"/proc/{self.pid}/ns/mnt",
        ]
        result = subprocess.run(
            [*nsenter, *shell, *command],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=False,
        )
        if result.returncode:
            raise ClusterError(f"{command[0]} could not be started: the cluster is going down")
        return int(result.stdout)

    def holds(self, pid: int) -> bool:
        """Return whether a process is alive and inside."""
        try:
            inside = Path(f"/proc/{self.pid}/ns/pid").readlink()
            return Path(f"/proc/{pid}/ns/pid").readlink() == inside and not _is_zombie(pid)
        except OSError:
            return False


def destroy() -> None:
    """End all processes of the machine and remove all its state; there need not be any."""
    while (machine := Machine.find()) is not None:
        end(machine.pid, signal.SIGKILL)
    for pid in _processes():  # `unshare`, which waits for the shell
        end(pid, signal.SIGKILL)
    _remove_control_groups()
    if STATE.exists():
        shutil.rmtree(STATE)


def end(pid: int, number: signal.Signals, timeout: float = 30) -> None:
    """Send a signal to a process and wait until it is gone; no error where it is gone already.

    :raises ClusterError: it is still there after `timeout` seconds.
    """
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, number)
        if not select.select([process], [], [], timeout)[0]:
            raise ClusterError(f"process {pid} did not end within {timeout:.0f} s of {number.name}")
    except ProcessLookupError:
        return
    finally:
        os.close(process)


def _processes() -> list[int]:
    """Return the first process of this checkout's machine and the `unshare` that started it."""
    marker = f"\0{_NAME}\0{STATE}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def _namespace_pids(pid: int) -> list[str]:
    """Return a process's ids, in our PID namespace first and in its own last."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])


def _is_zombie(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "Z"


def _remove_control_groups() -> None:
    """Remove the empty control groups of the containers: the one thing that no namespace holds."""
    tasks = STATE / "run/containerd/io.containerd.runtime.v2.task/k8s.io"
    containers = [folder.name for folder in tasks.iterdir()] if tasks.exists() else []
    hierarchies = Path("/sys/fs/cgroup")  # itself in version 2, a folder for each in version 1
    for parent in (*hierarchies.glob("k8s.io"), *hierarchies.glob("*/k8s.io")):
        for name in containers:
            with contextlib.suppress(FileNotFoundError):
                (parent / name).rmdir()
        with contextlib.suppress(OSError):  # not empty: another cluster's are in it
            parent.rmdir()
