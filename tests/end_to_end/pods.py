"""Arranging and looking at things in a test Pod, with other eyes than the product's.

Commands run through the product's own exec session, over v5; what looks at the result is the
static busybox of the test images, which no userland's PATH holds.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from kubectl_podcp.cluster.kubeconfig import Cluster
from kubectl_podcp.errors import ConnectionLost
from kubectl_podcp.exec.channels import Event, Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.session import Closed, ExecSession, ExecTarget

BUSYBOX = "/opt/witness/busybox"

SILENCE = 600
"""Seconds that a command may say nothing: 9 GiB take long to hash on a busy machine."""

ENDING = 5
"""Seconds given to a held shell to end."""

_HELD = """exec 3<&0 4>&2 </dev/null
trap 'printf "{} %03d" $?; read -r _ <&3' EXIT"""
"""The shell's last word with its exit code, and then its wait for the end of stdin, which its
commands do not see.

Stderr stays open, whatever they do: with its end containerd would end stdin (containerd#13934)."""


class CommandFailed(Exception):
    """A command that a test needs did not end with 0."""


class Place:
    """Where a test arranges files and looks at them."""

    def sh(self, script: str, stdin: bytes = b"") -> bytes:
        """Run ``script`` in the witness's shell, whose commands are its own; return its stdout."""
        raise NotImplementedError

    def unpack(self, archive: bytes, directory: str) -> None:
        """Unpack a tar archive with the witness's tar."""
        self.sh(f"mkdir -p {directory}; tar xpf - -C {directory}", archive)

    def fresh(self, *directories: str) -> None:
        """Make each directory anew, empty."""
        for directory in directories:
            self.sh(
                f"cd {directory} 2>/dev/null || {{ mkdir -p {directory}; exit 0; }}\n"
                "chmod -R u+rwx .; find . -mindepth 1 -maxdepth 1 -exec rm -rf {} +"
            )

    def sha256(self, path: str) -> str:
        """Return the digest of one file."""
        return self.sh(f"sha256sum {path}").split()[0].decode("ascii")

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, hidden ones too."""
        return self.sh(f"ls -A {directory}").decode("utf-8", "surrogateescape").splitlines()

    def processes(self) -> list[str]:
        """Return the command lines of all processes but the container's own and this look."""
        script = (
            'for p in /proc/[0-9]*; do [ "${p#/proc/}" = $$ ] || [ "${p#/proc/}" = 1 ] || '
            "{ cat $p/cmdline 2>/dev/null | tr '\\0\\n' '  '; echo; }; done; :"
        )
        lines = self.sh(script).decode("utf-8", "replace").splitlines()
        return [line for line in lines if line.strip() and "/proc/[0-9]*" not in line]

    def ours(self) -> list[str]:
        """Return the command lines of what a copy left running."""
        words = ("podcp-", "tar ", "dd bs=")
        return [line for line in self.processes() if any(word in line for word in words)]


class ThisMachine(Place):
    """The machine on which the product runs."""

    def sh(self, script: str, stdin: bytes = b"") -> bytes:
        command = ["busybox", "sh", "-c", f"set -e\n{script}"]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if done.returncode:
            raise CommandFailed(f"{command}: {done.stderr!r}")
        return done.stdout


@dataclass(frozen=True)
class TestPod(Place):
    """A Pod of the cluster under test."""

    __test__ = False  # not a test class, whatever its name says

    cluster: Cluster
    name: str
    container: str = "main"

    @property
    def namespace(self) -> str:
        """The test Pods' namespace."""
        return self.cluster.namespace

    def sh(self, script: str, stdin: bytes = b"") -> bytes:
        if stdin:
            return self.run([BUSYBOX, "sh", "-c", f"set -e\n{script}"], stdin)
        return self.held([BUSYBOX, "sh", "-c"], script)

    def held(self, shell: list[str], script: str) -> bytes:
        """Run ``script`` without stdin, and hold its shell until all of its stdout came.

        A real API server drops the tail of what is on its way when a command ends, and calls that
        success (kubernetes#142376): the most of a large answer, all of a short one.
        """
        last = f"held-{os.urandom(16).hex()}"
        script = f"{_HELD.format(last)}\nset -e\n{script}"
        end = re.compile(last.encode() + rb" (\d{3})\Z")
        session = self._open([*shell, script])
        stdout, stderr = bytearray(), bytearray()
        try:
            for event in _events(session):
                if isinstance(event, Stderr):
                    stderr += event.data
                elif isinstance(event, Stdout):
                    stdout += event.data
                    if found := end.search(stdout, max(0, len(stdout) - 64)):
                        _let_end(session, stderr)
                        if int(found[1]):
                            break
                        return bytes(stdout[: found.start()])
                elif _is_end(event):
                    break
            raise CommandFailed(f"{script}: {bytes(stderr)!r}")
        finally:
            session.close()

    def run(self, command: list[str], stdin: bytes) -> bytes:
        """Feed a command to its end and return its stdout, a little of which may get lost."""
        session = self._open(command)
        feeder = threading.Thread(target=_feed, args=(session, stdin))
        feeder.start()
        stdout, stderr = bytearray(), bytearray()
        try:
            for event in _events(session):
                if isinstance(event, Stdout):
                    stdout += event.data
                elif isinstance(event, Stderr):
                    stderr += event.data
                elif _is_end(event) and not _is_success(event):
                    raise CommandFailed(f"{command}: {event}: {bytes(stderr)!r}")
            return bytes(stdout)
        finally:
            session.close()
            feeder.join()

    def _open(self, command: list[str]) -> ExecSession:
        return ExecSession.open(
            self.cluster.endpoint,
            self.cluster.headers(),
            ExecTarget(self.namespace, self.name, self.container),
            command,
            protocols=[Protocol.V5],
        )


def _events(session: ExecSession) -> Iterator[Event | Closed]:
    """Yield what a session gives, its end as the last."""
    while True:
        event = session.receive(SILENCE)
        yield event
        if _is_end(event):
            return


def _let_end(session: ExecSession, stderr: bytearray) -> None:
    """Let a held shell end, and note what is still said; all that counts came already.

    A busy node was seen not to say for minutes that it has ended.
    """
    with suppress(TimeoutError, ConnectionLost):
        session.end_stdin()
        while not _is_end(event := session.receive(ENDING)):
            if isinstance(event, Stderr):
                stderr += event.data


def _is_end(event: Event | Closed) -> bool:
    return isinstance(event, Status | Closed)


def _is_success(end: Event | Closed) -> bool:
    return isinstance(end, Status) and end.success


def _feed(session: ExecSession, stdin: bytes) -> None:
    try:
        for at in range(0, len(stdin), 32768):
            session.send_stdin(stdin[at : at + 32768])
        session.end_stdin()
    except Exception:  # the command's own end says more
        return


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until ``condition`` holds; fail when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s: {what}"
        time.sleep(0.1)


def has_small_disk(pod: TestPod) -> bool:
    """Return whether a file system of a few MiB stands at /small, mounting one if we may."""
    try:
        pod.sh(
            "grep -q ' /small ' /proc/mounts || "
            "{ mkdir -p /small; mount -t tmpfs -o size=4m small /small; }"
        )
    except CommandFailed:
        return False
    return True
