"""What the machine must have before the cluster can start, and how to get it on Debian or Ubuntu.

Programs are looked for, not packages: a containerd from elsewhere is as good as Debian's.
"""

from __future__ import annotations

import os
import shutil

from tests import debian, userlands

from . import binaries
from .layout import ENVIRONMENT, ClusterError

PROGRAMS = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "etcd": "etcd-server",
    "mount": "mount",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "runc": "runc",
    "setsid": "util-linux",
    "unshare": "util-linux",
}
"""Programs and the Debian packages that bring them."""


def missing() -> list[str]:
    """Return the Debian packages that have to be installed, sorted."""
    path = ENVIRONMENT["PATH"]
    absent = {package for name, package in PROGRAMS.items() if not shutil.which(name, path=path)}
    return sorted(absent | set(userlands.missing()))


def check() -> None:
    """Raise :class:`ClusterError` unless the cluster could be built and started here."""
    packages = missing()
    if packages:
        raise ClusterError(
            f"missing Debian packages: {' '.join(packages)}\n"
            "`python3 -m tests.cluster install`, as root, installs them"
        )
    _check_go()
    if os.geteuid() != 0:
        raise ClusterError("the cluster needs root: it mounts file systems and starts containers")


def install() -> list[str]:
    """Install the packages that are missing and return their names.

    :raises ClusterError: not root, no apt-get, or apt-get failed (its output has been seen); or
        there is no Go, which is not installed from here: Debian 12's is too old.
    """
    packages = missing()
    try:
        debian.install(packages)
    except debian.CannotInstall as error:
        raise ClusterError(str(error)) from error
    _check_go()
    return packages


def _check_go() -> None:
    if not binaries.built() and binaries.go() is None:
        raise ClusterError(
            "missing Go 1.24 or later, to build Kubernetes: put its `go` on PATH\n"
            "or install it, as its own manual says, in /usr/local/go"
        )
