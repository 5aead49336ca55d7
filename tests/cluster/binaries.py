"""Kubernetes as one binary, built from its Go module (main.go) and called by several names.

The result is kept in ``.cache/cluster/bin`` with a stamp of its sources: while they are the same,
neither Go nor the network is needed. The first build takes some minutes, a later one seconds.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess

from .layout import BINARIES, CACHE, SOURCES, ClusterError

NAMES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
KUBECTL = BINARIES / "kubectl"

_STAMP = BINARIES / "stamp"
_LOG = CACHE / "build.log"


def version() -> str:
    """Return the version of Kubernetes that go.mod names, as ``v1.34.4``."""
    found = re.search(r"^\s*(?:require )?k8s\.io/kubernetes (v\S+)", _read("go.mod"), re.M)
    if found is None:
        raise ClusterError("go.mod does not require k8s.io/kubernetes")
    return found[1]


def go() -> str | None:
    """Return the path of Go, which sudo often takes off PATH."""
    return shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")


def built() -> bool:
    """Return whether the binaries are those of the sources as they are now."""
    return _STAMP.exists() and _STAMP.read_text() == _fingerprint()


def build() -> None:
    """Build the binaries, unless they are built.

    :raises ClusterError: there is no Go, or it failed.
    """
    if built():
        return
    compiler = go()
    if compiler is None:
        raise ClusterError("no Go to build Kubernetes with")
    BINARIES.mkdir(parents=True, exist_ok=True)
    _STAMP.unlink(missing_ok=True)
    fresh = BINARIES / "kubernetes.new"
    with _LOG.open("wb") as log:
        build = ["nice", compiler, "build", "-buildvcs=false", f"-ldflags={_flags()}"]
        command = [*build, "-o", str(fresh), "."]
        result = subprocess.run(command, cwd=SOURCES, stdout=log, stderr=log, check=False)
    if result.returncode:
        raise ClusterError("Kubernetes could not be built", _LOG)
    fresh.replace(BINARIES / "kubernetes")
    for name in NAMES:
        (BINARIES / name).unlink(missing_ok=True)
        (BINARIES / name).symlink_to("kubernetes")
    _STAMP.write_text(_fingerprint())


def _flags() -> str:
    """Return linker flags: no debugging symbols, and the version that a release would show."""
    major, minor = version().lstrip("v").split(".")[:2]
    values = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    stamped = [f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items()]
    return " ".join(["-s", "-w", *stamped])


def _fingerprint() -> str:
    sources = "".join(_read(name) for name in ("go.mod", "go.sum", "main.go"))
    return hashlib.sha256(f"{sources}{_flags()}".encode()).hexdigest()


def _read(name: str) -> str:
    return (SOURCES / name).read_text()
