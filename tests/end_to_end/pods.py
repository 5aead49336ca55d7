"""Arranging and looking at things in a test Pod, with other eyes than the product's.

Commands run through the product's own exec session, over v5; what looks at the result is the
static busybox of the test images, which no userland's PATH holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kubectl_podcp.cluster.kubeconfig import Cluster
from kubectl_podcp.exec.channels import Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.session import Closed, ExecSession, ExecTarget

BUSYBOX = "/opt/witness/busybox"


class CommandFailed(Exception):
    """A command that a test needs did not end with 0."""


@dataclass(frozen=True)
class TestPod:
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
        """Run ``script`` in the witness's shell, whose commands are its own; return its stdout."""
        return self.run([BUSYBOX, "sh", "-c", f"set -e\n{script}"], stdin)

    def run(self, command: list[str], stdin: bytes = b"") -> bytes:
        """Run a command to its end and return its stdout, of any size."""
        target = ExecTarget(self.namespace, self.name, self.container)
        session = ExecSession.open(
            self.cluster.endpoint,
            self.cluster.headers(),
            target,
            command,
            protocols=[Protocol.V5],
        )
        feeder = threading.Thread(target=_feed, args=(session, stdin))
        feeder.start()
        try:
            return _collect(session, command)
        finally:
            session.close()
            feeder.join()

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


def _feed(session: ExecSession, stdin: bytes) -> None:
    try:
        for at in range(0, len(stdin), 32768):
            session.send_stdin(stdin[at : at + 32768])
        session.end_stdin()
    except Exception:  # the command's own end says more
        return


def _collect(session: ExecSession, command: list[str]) -> bytes:
    stdout, stderr = bytearray(), bytearray()
    while True:
        event = session.receive(timeout=120)
        if isinstance(event, Stdout):
            stdout += event.data
        elif isinstance(event, Stderr):
            stderr += event.data
        elif isinstance(event, Status) and event.success:
            return bytes(stdout)
        elif isinstance(event, Status | Closed):
            raise CommandFailed(f"{command}: {event}: {bytes(stderr)!r}")


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until ``condition`` holds; fail when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s: {what}"
        time.sleep(0.1)
