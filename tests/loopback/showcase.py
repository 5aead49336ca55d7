"""The demonstration: two Pods, one copy, and the checksums of both ends::

python -m tests.loopback.showcase

Starts the embedded cluster, runs ``kubectl podcp`` (the one file itself where there is no kubectl)
on a tree of some thousand files, and shows one checksum over each tree, read from the directories
in which the Pods live. Nothing is left running.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.loopback.isolation import CannotIsolate
from tests.loopback.server import Server

DIST = Path(__file__).parents[2] / "dist"
TREES = (("web-0", "shop", "data/photos"), ("store-0", "backup", "srv/photos"))
SOURCE, DESTINATION = "shop/web-0:/data/photos", "backup/store-0:/srv/photos"


def main() -> int:
    """Show it; return the exit code, 1 where the trees differ."""
    try:
        with Server() as server:
            return _show(server)
    except CannotIsolate as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _show(server: Server) -> int:
    for pod, namespace, _ in TREES:  # unpacked here, not while the copy waits for it
        _ = server.pod(pod, namespace).containers[0].root
    command = ["kubectl", "podcp"] if shutil.which("kubectl") else [str(DIST / "kubectl-podcp")]
    name = " ".join([Path(command[0]).name, *command[1:]])
    print("An embedded cluster is running, with the Pods shop/web-0 and backup/store-0.\n")
    print(f"$ {name} {SOURCE} {DESTINATION}", flush=True)
    environment = {
        **os.environ,
        "KUBECONFIG": str(server.kubeconfig),
        "PATH": f"{DIST}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run([*command, SOURCE, DESTINATION], env=environment, check=False)
    if done.returncode:
        return done.returncode
    print("\nsha256 over all names, modes, times and contents:")
    sums = []
    for pod, namespace, path in TREES:
        root = server.pod(pod, namespace).containers[0].root / path
        sums.append(checksum(root))
        print(f"  {sums[-1]}  {namespace}/{pod}:/{path}")
    print("the trees are equal" if sums[0] == sums[1] else "THE TREES DIFFER")
    return 0 if sums[0] == sums[1] else 1


def checksum(root: Path) -> str:
    """Return one SHA-256 over everything that stands at ``root``."""
    total = hashlib.sha256()
    for path in sorted([root, *root.rglob("*")]):
        found = path.lstat()
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        else:
            content = path.read_bytes() if path.is_file() else b""
        name = os.fsencode(path.relative_to(root))
        fields = f"{len(name)} {found.st_mode:o} {found.st_mtime_ns // 10**9} {len(content)}\n"
        total.update(fields.encode() + name + content)
    return total.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
