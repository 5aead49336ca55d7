"""A shell in a root file system of a test userland."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kubectl_podcp.remote import scripts
from kubectl_podcp.remote.scripts import Staging
from tests import userlands


@dataclass(frozen=True)
class Shell:
    """Runs scripts by ``sh -c`` as a container would: another root, root's or another's rights."""

    name: str
    root: Path

    @classmethod
    def in_userland(cls, name: str, root: Path) -> Shell:
        """Make a fresh root file system of the userland ``name`` at ``root``."""
        root.mkdir()
        userlands.build(name, root)
        os.mknod(root / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        (root / "dev/null").chmod(0o666)
        return cls(name, root)

    @classmethod
    def in_userlands(cls, names: Iterable[str], place: Path) -> dict[str, Shell]:
        """Make a root file system of each userland below ``place``; fail where one is missing."""
        if userlands.missing():
            pytest.fail(f"install {' '.join(userlands.missing())}")
        return {name: cls.in_userland(name, place / name) for name in names}

    def command(self, script: str, uid: int = 0) -> list[str]:
        """Return the argv that runs ``script`` in here, where /root is home whoever tests."""
        chroot = ["chroot", f"--userspec={uid}:{uid}", str(self.root)]
        return ["env", "HOME=/root", *chroot, "sh", "-c", script]

    def receiving(self, staging: Staging, nonce: str, *, unpacker: str = "") -> str:
        """Return the script that receives an archive, as it is for the tar in here."""
        staging = replace(staging, lax=self.name == "busybox")
        return scripts.receive(staging, nonce, gnu=self.name == "gnu", unpacker=unpacker)

    def run(
        self, script: str, stdin: bytes = b"", uid: int = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``script`` to its end."""
        command = self.command(script, uid)
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)

    def start(self, script: str) -> subprocess.Popen[bytes]:
        """Start ``script`` with pipes at its stdin and stdout."""
        return subprocess.Popen(self.command(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @contextmanager
    def proc(self) -> Iterator[None]:
        """Have our own /proc in here, as any container has one."""
        proc = self.root / "proc"
        proc.mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", "/proc", str(proc)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", str(proc)], check=True)

    def fresh(self, name: str) -> Path:
        """Return the directory ``name`` in here, emptied."""
        shutil.rmtree(self.root / name, ignore_errors=True)
        (self.root / name).mkdir()
        return self.root / name

    def processes(self) -> list[int]:
        """Return the ids of the processes that have this root."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "root").readlink() == self.root:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found
