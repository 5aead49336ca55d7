"""Container images made on the spot from the test userlands: no registry, nothing fetched.

All images go into one archive in the format of ``docker save``: ``manifest.json``, and for each
image a configuration and one layer, which is a tar of its root file system.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from pathlib import Path
from typing import Any

from tests import userlands

from .layout import INSIDE, STATE
from .machine import Machine

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def image(userland: str) -> str:
    """Return the name of a userland's image."""
    return f"docker.io/library/podcp-{userland}:latest"


def write_archive() -> None:
    """Build the userlands and write all of their images into one archive in the state folder."""
    work = STATE / "images"
    work.mkdir()
    manifest: list[dict[str, Any]] = []
    with tarfile.open(work / "images.tar", "w") as archive:
        for name in userlands.NAMES:
            layer = work / f"{name}.tar"
            digest = _write_layer(name, work / name, layer)
            archive.add(layer, layer.name)
            _add(archive, f"{name}.json", _configuration(digest))
            manifest.append(
                {"Config": f"{name}.json", "RepoTags": [image(name)], "Layers": [layer.name]}
            )
            layer.unlink()
        _add(archive, "manifest.json", manifest)


def load(machine: Machine) -> None:
    """Import the archive into containerd, and remove it."""
    ctr = ("ctr", "--namespace=k8s.io", "images", "import", "--snapshotter=native")
    machine.run(*ctr, INSIDE / "images/images.tar", timeout=300)
    shutil.rmtree(STATE / "images")


def _write_layer(userland: str, root: Path, layer: Path) -> str:
    """Write a userland as a layer and return its SHA-256, in hex."""
    userlands.build(userland, root)
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(root, ".", filter=_owned_by_root)
    shutil.rmtree(root)
    with layer.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _configuration(layer: str) -> dict[str, Any]:
    """Return an image's configuration; its command is what the Pods' pause container runs."""
    machine = platform.machine()
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Env": [_PATH], "Cmd": ["/bin/sleep", "2147483"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }


def _add(archive: tarfile.TarFile, name: str, document: object) -> None:
    data = json.dumps(document).encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
